//! What sources say about statements: a plain search in their text, as rustfmt lays it out.

use std::collections::BTreeSet;

use super::standard::{Id, Version};

/// A test and what it says it holds.
#[derive(Debug)]
pub(crate) struct Test {
    pub(crate) file: String,
    pub(crate) name: String,
    pub(crate) holds: BTreeSet<Id>,
    /// The attribute because of which it may not run.
    pub(crate) left_out: Option<String>,
}

impl Test {
    /// `mqtt_3_1_2_24_…` is the packet size in MQTT 5 and the keep alive in 3.1.1.
    pub(crate) fn name_is_ambiguous(&self) -> bool {
        let numbers = self.name.strip_prefix("mqtt_").map(leading_numbers);
        numbers.is_some_and(|numbers| numbers.len() > 1)
    }
}

/// A statement that a source names.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mention {
    pub(crate) line: usize,
    pub(crate) id: Id,
}

/// The tests of a file, in their order.
pub(crate) fn tests_in(file: &str, text: &str) -> Vec<Test> {
    let lines: Vec<_> = text.lines().collect();
    let whole_file = lines
        .iter()
        .find(|line| line.starts_with("#![cfg(") && **line != "#![cfg(test)]");
    let mut tests = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if line.trim() != "#[test]" {
            continue;
        }
        let indent = &line[..line.len() - line.trim_start().len()];
        let belongs = |line: &&&str| {
            let line = line.trim_start();
            line.starts_with("//") || line.starts_with("#[") || line.starts_with(')')
        };
        let above = lines[..at].iter().rev().take_while(belongs).count();
        let Some(below) = lines[at..].iter().position(|line| is_function(line)) else {
            continue;
        };
        let function = lines[at + below];
        // Where the body does not end on the same line, it ends with the brace under its beginning.
        let end = format!("{indent}}}");
        let body = match function.ends_with("{}") {
            true => 0,
            false => lines[at + below..]
                .iter()
                .position(|line| *line == end)
                .unwrap_or(0),
        };
        let name = name(function);
        let head = &lines[at - above..at + below];
        let mut holds: BTreeSet<_> = lines[at - above..=at + below + body]
            .iter()
            .flat_map(|line| cited(line))
            .collect();
        holds.extend(named(name));
        let left_out = head
            .iter()
            .map(|line| line.trim_start())
            .find(|line| line.starts_with("#[ignore") || line.starts_with("#[cfg("));
        tests.push(Test {
            file: file.into(),
            name: name.into(),
            holds,
            left_out: left_out.or(whole_file.copied()).map(Into::into),
        });
    }
    tests
}

fn is_function(line: &str) -> bool {
    line.trim_start().starts_with("fn ")
}

fn name(function: &str) -> &str {
    let name = function.trim_start().trim_start_matches("fn ");
    name.split('(').next().unwrap_or(name)
}

/// The statements in square brackets in a line's comment: nothing else is a promise.
fn cited(line: &str) -> Vec<Id> {
    let Some((_, comment)) = line.split_once("//") else {
        return Vec::new();
    };
    let brackets = comment.split('[').skip(1);
    let cited = brackets.filter_map(|rest| rest.split_once(']').map(|(inside, _)| inside));
    cited
        .filter_map(|inside| {
            let (version, rest) = match inside.strip_prefix("3.1.1 ") {
                Some(rest) => (Version::V3_1_1, rest),
                None => (Version::V5, inside),
            };
            let number = rest.strip_prefix("MQTT-")?.into();
            Some(Id { version, number })
        })
        .collect()
}

/// The statement in a test's name, if its numbers are four.
fn named(name: &str) -> Option<Id> {
    let (version, rest) = match (name.strip_prefix("mqtt5_"), name.strip_prefix("mqtt311_")) {
        (Some(rest), _) => (Version::V5, rest),
        (_, Some(rest)) => (Version::V3_1_1, rest),
        _ => return None,
    };
    let [a, b, c, statement] = leading_numbers(rest)[..] else {
        return None;
    };
    let number = format!("{a}.{b}.{c}-{statement}");
    Some(Id { version, number })
}

fn leading_numbers(name: &str) -> Vec<&str> {
    let number = |word: &&str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    name.split('_').take_while(number).collect()
}

/// Every statement a text names, with brackets or without: `MQTT-3.1.2-3` and `3.1.1 MQTT-3.1.2-3`.
pub(crate) fn mentions(text: &str) -> Vec<Mention> {
    let mut mentions = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (at, _) in line.match_indices("MQTT-") {
            let rest = &line[at + "MQTT-".len()..];
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-');
            let id = &rest[..end.unwrap_or(rest.len())];
            // `MQTT-2.1.4` is a section, and `MQTT-5` is prose.
            let Some((section, _)) = id.split_once('-').filter(|(_, last)| !last.is_empty()) else {
                continue;
            };
            if section.split('.').count() != 3 {
                continue;
            }
            let version = match line[..at].ends_with("3.1.1 ") {
                true => Version::V3_1_1,
                false => Version::V5,
            };
            let id = Id {
                version,
                number: id.trim_end_matches(['.', '-']).into(),
            };
            mentions.push(Mention {
                line: number + 1,
                id,
            });
        }
    }
    mentions
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
//! [MQTT-9.9.9-1] belongs to the file and to no test.

/// [MQTT-9.9.9-2] belongs to a helper.
fn helper() {}

/// [MQTT-1.2.3-4], [3.1.1 MQTT-1.2.3-5]: why.
#[test]
fn mqtt5_1_2_3_6_behaves() {
    let rule = "[MQTT-9.9.9-3] in a string is none";
    check(rule); // and a comment beside the line is: [MQTT-1.2.3-7]
}

mod inner {
    /// [MQTT-1.2.3-8]
    #[test]
    #[ignore = "slow"]
    fn mqtt311_1_2_3_9_sleeps() {
        helper();
    }

    #[test]
    fn mqtt311_1_2_3_is_a_section() {}

    #[test]
    fn mqtt_1_2_3_4_says_too_little() {}
}
"#;

    fn ids(test: &Test) -> Vec<String> {
        test.holds.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_test_holds_what_its_doc_its_name_and_its_comments_say() {
        let tests = tests_in("sample.rs", SAMPLE);
        let names: Vec<_> = tests.iter().map(|test| &test.name[..]).collect();
        assert_eq!(
            names,
            [
                "mqtt5_1_2_3_6_behaves",
                "mqtt311_1_2_3_9_sleeps",
                "mqtt311_1_2_3_is_a_section",
                "mqtt_1_2_3_4_says_too_little"
            ]
        );
        assert_eq!(
            ids(&tests[0]),
            [
                "[MQTT-1.2.3-4]",
                "[MQTT-1.2.3-6]",
                "[MQTT-1.2.3-7]",
                "[3.1.1 MQTT-1.2.3-5]"
            ]
        );
        assert_eq!(ids(&tests[1]), ["[MQTT-1.2.3-8]", "[3.1.1 MQTT-1.2.3-9]"]);
        assert!(ids(&tests[2]).is_empty() && ids(&tests[3]).is_empty());
    }

    #[test]
    fn what_may_not_run_and_what_says_too_little_is_seen() {
        let tests = tests_in("sample.rs", SAMPLE);
        let left_out: Vec<_> = tests.iter().map(|test| test.left_out.as_deref()).collect();
        assert_eq!(left_out, [None, Some("#[ignore = \"slow\"]"), None, None]);
        let ambiguous: Vec<_> = tests.iter().map(Test::name_is_ambiguous).collect();
        assert_eq!(ambiguous, [false, false, false, true]);
        let gated = format!("#![cfg(loom)]\n{SAMPLE}");
        let tests = tests_in("sample.rs", &gated);
        assert_eq!(tests[0].left_out.as_deref(), Some("#![cfg(loom)]"));
    }

    #[test]
    fn mentions_are_found_with_and_without_brackets() {
        let text = "rule: \"MQTT-3.1.2-3, 3.1.1 MQTT-3.1.2-4\",\n// [MQTT-2.1.4], MQTT-5\n// MQTT-4.7.3-1.\n";
        let found: Vec<_> = mentions(text)
            .into_iter()
            .map(|mention| format!("{}{}", mention.line, mention.id))
            .collect();
        assert_eq!(
            found,
            [
                "1[MQTT-3.1.2-3]",
                "1[3.1.1 MQTT-3.1.2-4]",
                "3[MQTT-4.7.3-1]"
            ]
        );
    }
}
