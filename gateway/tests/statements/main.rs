//! Which test holds which statement of MQTT 5 and 3.1.1: every numbered statement has a test, or a reason why none
//! can hold it, and `STATEMENTS.md` lists them.
//!
//! A test says what it holds in its doc, or in a comment beside the line that shows it: `[MQTT-3.1.0-2]` is a
//! statement of MQTT 5, `[3.1.1 MQTT-3.1.0-2]` one of 3.1.1. Its name may say it too, with four numbers behind the
//! version: `mqtt5_3_1_0_2_…`, `mqtt311_3_1_0_2_…`; any other count of numbers is a section of the standard, and a
//! section that has four says so, `mqtt5_section_3_1_2_11_…`.
//!
//! The statements themselves are in `mqtt5.tsv` and `mqtt311.tsv`. After a change of either side:
//! `UPDATE_STATEMENTS=1 cargo test -p gateway --test statements`.

mod sources;
mod standard;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sources::{mentions, tests_in, Mention, Test};
use standard::{Standard, Version};

const UPDATE: &str = "UPDATE_STATEMENTS";

/// Where sources and their tests are.
const ROOMS: [&str; 4] = ["codec", "shard-router", "gateway", "loadtest"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace around gateway")
        .into()
}

/// Every source file of the workspace, with its path from the root, in order. Those of this test are left out: their
/// samples name statements that do not exist.
fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for room in ROOMS {
        collect(&root().join(room), &mut files);
    }
    files.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a source file");
        let from_root = path.strip_prefix(root()).expect("a file of the workspace");
        (from_root.display().to_string(), text)
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder").flatten() {
        let path = entry.path();
        if path.ends_with("target") || path.ends_with("gateway/tests/statements") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}

fn standards() -> [Standard; 2] {
    [
        Standard::read(Version::V5, include_str!("mqtt5.tsv")),
        Standard::read(Version::V3_1_1, include_str!("mqtt311.tsv")),
    ]
}

/// The tests that name a statement. What stands in a `fuzz` folder is another workspace, which `make test` does not run.
fn tests() -> Vec<Test> {
    let all = sources();
    let tests = all
        .iter()
        .filter(|(file, _)| !file.contains("/fuzz/"))
        .flat_map(|(file, text)| tests_in(file, text));
    tests.filter(|test| !test.holds.is_empty()).collect()
}

/// Complains about everything at once, since whoever adds one test often adds ten.
fn expect_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn every_statement_has_either_a_test_or_a_reason_why_not() {
    let tests = tests();
    let mut neither = Vec::new();
    let mut both = Vec::new();
    for standard in standards() {
        for statement in &standard.statements {
            let held = tests.iter().any(|test| test.holds.contains(&statement.id));
            match (held, &statement.why_untested) {
                (false, None) => neither.push(format!("{}: {}", statement.id, statement.what)),
                (true, Some(reason)) => both.push(format!("{}: {reason}", statement.id)),
                _ => {}
            }
        }
    }
    expect_none("no test holds these, and nothing says why", &neither);
    expect_none("a test holds these, so their reason must go", &both);
}

/// In tests, in comments and in the rules that violations name.
#[test]
fn every_statement_a_source_names_exists() {
    let standards = standards();
    let known: BTreeSet<_> = standards
        .iter()
        .flat_map(|standard| standard.statements.iter().map(|statement| &statement.id))
        .collect();
    let mut unknown = Vec::new();
    for (file, text) in sources() {
        for Mention { line, id } in mentions(&text) {
            if !known.contains(&id) {
                unknown.push(format!("{file}:{line} {id}"));
            }
        }
        for test in tests_in(&file, &text) {
            for id in test.holds.iter().filter(|id| !known.contains(id)) {
                unknown.push(format!("{file} {}: {id}", test.name));
            }
        }
    }
    expect_none("no such statement", &unknown);
}

#[test]
fn no_name_of_a_test_leaves_open_which_standard_numbers_it() {
    let all = sources();
    let tests = all.iter().flat_map(|(file, text)| tests_in(file, text));
    let open: Vec<_> = tests
        .filter(|test| test.name_is_ambiguous())
        .map(|test| format!("{} {}", test.file, test.name))
        .collect();
    expect_none("say mqtt5_, mqtt311_ or mqtt31_", &open);
}

#[test]
fn no_test_that_holds_a_statement_is_left_out() {
    let left_out: Vec<_> = tests()
        .into_iter()
        .filter_map(|test| Some(format!("{} {}: {}", test.file, test.name, test.left_out?)))
        .collect();
    expect_none("tests that name statements and may not run", &left_out);
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the counts are what one wants to see of this test with --nocapture"
)]
fn the_table_is_up_to_date() {
    let (standards, tests) = (standards(), tests());
    for standard in &standards {
        println!("{}", table::count(standard, &tests));
    }
    let path = root().join("gateway/tests/STATEMENTS.md");
    let now = table::render(&standards, &tests);
    if std::env::var_os(UPDATE).is_some() {
        fs::write(&path, &now).expect("STATEMENTS.md can be written");
    }
    let there = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        there == now,
        "gateway/tests/STATEMENTS.md is not what the tests say; write it anew with\n  \
         {UPDATE}=1 cargo test -p gateway --test statements"
    );
}
