//! The configuration: whatever file and environment say, no panic, and nothing but problems an operator can act on.
//! `gateway/tests/fuzz_corpus.rs` includes this file too, and feeds it the committed corpus with a stable compiler.
//!
//! What must hold: every problem is one line with a place that exists; what loads can be run; what `tidegate check`
//! prints of it loads again as the same.
//!
//! Fed: the file, then variables of the environment as NAME=VALUE, each behind a byte 0xFF.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use tidegate::config::{self, Loaded, Place, Problem, Sources, KEYS};
use tidegate::host::Host;
use tidegate::node::IoDriver;

const FILE: &str = "fuzz.toml";

pub fn run(data: &[u8]) {
    let mut parts = data.split(|byte| *byte == 0xFF);
    let file = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let sources = Sources {
        environment: parts.map(variable).collect(),
        ..Sources::default()
    };
    match config::load_text(FILE, &file, &sources, &host()) {
        Ok(loaded) => runs(&loaded),
        Err(problems) => {
            assert!(!problems.is_empty());
            for problem in &problems {
                speaks(problem, &file, &sources);
            }
        }
    }
}

/// The same everywhere.
fn host() -> Host {
    Host {
        cpus: vec![0, 1, 2, 3],
        memory_bytes: 10 << 30,
        open_files: 20_000,
        locked_bytes: 8 << 20,
    }
}

fn variable(part: &[u8]) -> (OsString, OsString) {
    let mut halves = part.splitn(2, |byte| *byte == b'=');
    let mut next = || OsStr::from_bytes(halves.next().unwrap_or_default()).to_owned();
    (next(), next())
}

fn speaks(problem: &Problem, file: &str, sources: &Sources<'_>) {
    let line = problem.to_string();
    assert!(!line.contains(char::is_control), "{line:?} is not one line");
    assert!(!problem.text.is_empty(), "{line}");
    match &problem.place {
        Place::File { path, line, column } => {
            assert_eq!(&**path, FILE);
            // One behind the last line, and one behind its last character, is where something is missing.
            let text = format!("{file}\n");
            let found = text.split('\n').nth(line - 1).expect("the line exists");
            assert!(
                (1..=found.chars().count() + 1).contains(column),
                "{problem}"
            );
        }
        Place::Environment(name) => {
            let mut names = sources.environment.iter().map(|(name, _)| name);
            assert!(names.any(|known| known == OsStr::new(name)), "{problem}");
        }
        Place::Default | Place::WholeFile(_) | Place::Flag(_) => {
            panic!("{problem}: nothing was given there")
        }
    }
}

fn runs(loaded: &Loaded) {
    let config = &loaded.config;
    let settings = config::node_settings(config, IoDriver::Epoll, 0);
    assert!(settings.shards > 0 && !settings.cpus.is_empty() && !settings.listeners.is_empty());
    assert!(config.allow_anonymous || config.only_loopback());
    assert_eq!(loaded.places.len(), KEYS.len());

    let shown = || KEYS.iter().map(|key| (key.name, key.show(config)));
    let lines: Vec<_> = shown()
        .map(|(name, value)| format!("{name} = {value}"))
        .collect();
    match config::load_text(FILE, &lines.join("\n"), &Sources::default(), &host()) {
        Ok(again) => {
            for (key, (_, value)) in KEYS.iter().zip(shown()) {
                assert_eq!(key.show(&again.config), value, "{}", key.name);
            }
        }
        Err(problems) => panic!("{lines:#?} does not load again: {problems:?}"),
    }
}
