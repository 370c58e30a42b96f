//! `STATEMENTS.md`: one row a statement, with the tests that hold it.

use std::fmt::Write;

use super::sources::Test;
use super::standard::{Standard, Statement};

const HEAD: &str = "\
# Statements

Every numbered statement of MQTT 5 and MQTT 3.1.1, in words of our own, and the tests that hold it. Written by
`gateway/tests/statements/`, which fails when a statement has neither a test nor a reason, when a test names a statement
that does not exist or may not run, and when this file is not what it would write:

```
UPDATE_STATEMENTS=1 cargo test -p gateway --test statements
```

A statement that binds the client only is held by a test of what the server does with a client that breaks it.
";

/// One line: how many statements there are, and what became of them.
pub(crate) fn count(standard: &Standard, tests: &[Test]) -> String {
    let of = |binds: &[&str]| {
        let bound = standard
            .statements
            .iter()
            .filter(|statement| binds.contains(&&statement.binds[..]));
        let (tested, untestable): (Vec<_>, Vec<_>) =
            bound.partition(|statement| !holders(statement, tests).is_empty());
        (tested.len(), untestable.len())
    };
    let (all, server) = (of(&["server", "client", "both"]), of(&["server", "both"]));
    format!(
        "{}: {} statements, {} tested, {} untestable; {} of them bind the server: {} tested, {} untestable",
        standard.version.name(),
        all.0 + all.1,
        all.0,
        all.1,
        server.0 + server.1,
        server.0,
        server.1
    )
}

fn holders<'a>(statement: &Statement, tests: &'a [Test]) -> Vec<&'a Test> {
    let holds = |test: &&Test| test.holds.contains(&statement.id);
    tests.iter().filter(holds).collect()
}

pub(crate) fn render(standards: &[Standard], tests: &[Test]) -> String {
    let mut page = HEAD.to_owned();
    let mut line = |text: &str| writeln!(page, "{text}").expect("writing into a string");
    for standard in standards {
        line(&format!("\n## {}\n", standard.version.name()));
        line(&format!("{}.\n", count(standard, tests)));
        line("| statement | binds | what | held by |");
        line("| --- | --- | --- | --- |");
        for statement in &standard.statements {
            let held_by = match &statement.why_untested {
                Some(reason) => format!("no test: {reason}"),
                None => by_file(&holders(statement, tests)),
            };
            line(&format!(
                "| {} | {} | {} | {held_by} |",
                statement.id.number, statement.binds, statement.what
            ));
        }
    }
    page
}

/// `file` first `test`, second `test`, each file once.
fn by_file(holders: &[&Test]) -> String {
    let mut cell = String::new();
    let mut file = "";
    for test in holders {
        let separator = match (file == test.file, cell.is_empty()) {
            (true, _) => ", ".to_owned(),
            (false, true) => format!("{}: ", test.file),
            (false, false) => format!("<br>{}: ", test.file),
        };
        file = &test.file;
        write!(cell, "{separator}`{}`", test.name).expect("writing into a string");
    }
    cell
}
