//! README and ARCHITECTURE.md say where things are; this holds them to it.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace around gateway")
        .into()
}

/// The files in the table "How one PUBLISH flows", in its order.
fn publish_path() -> Vec<String> {
    let readme = fs::read_to_string(root().join("README.md")).expect("README.md");
    let (_, section) = readme
        .split_once("## How one PUBLISH flows")
        .expect("the section");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains(".rs`"));
    rows.map(|row| {
        row.split('`')
            .nth(1)
            .expect("a file in backquotes")
            .to_owned()
    })
    .collect()
}

fn room(file: &str) -> &str {
    file.split('/').next().unwrap_or_default()
}

#[test]
fn the_files_on_the_path_of_a_publish_exist() {
    let files = publish_path();
    assert!(files.len() >= 8, "{files:?}");
    for file in files {
        assert!(
            root().join(&file).is_file(),
            "README.md names {file}, which is not there"
        );
    }
}

#[test]
fn every_source_file_a_document_names_exists() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "loadtest/README.md",
    ] {
        let text = fs::read_to_string(root().join(document)).expect(document);
        for name in text
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|name| name.ends_with(".rs"))
        {
            let there = root().join(name).is_file() || root().join("loadtest").join(name).is_file();
            // A bare name speaks of a neighbour of the file named before it.
            assert!(
                there || !name.contains('/'),
                "{document} names {name}, which is not there"
            );
        }
    }
}

#[test]
fn the_path_of_a_publish_goes_down_the_rooms_and_up_again() {
    let mut rooms: Vec<_> = publish_path()
        .iter()
        .map(|file| room(file).to_owned())
        .collect();
    rooms.dedup();
    // In through the codec, over the router, out through the codec: never across a room it does not know.
    assert_eq!(
        rooms,
        ["gateway", "codec", "shard-router", "codec", "gateway"]
    );
}

#[test]
fn rooms_know_only_the_rooms_below_them() {
    let known = |room: &str| {
        let manifest = fs::read_to_string(root().join(room).join("Cargo.toml")).expect(room);
        let (_, dependencies) = manifest.split_once("[dependencies]").expect("dependencies");
        let dependencies = dependencies
            .split("\n[")
            .next()
            .unwrap_or_default()
            .to_owned();
        let rooms = [
            "tidegate-codec",
            "tidegate-shard-router",
            "gateway",
            "loadtest",
            "glommio",
        ];
        rooms
            .into_iter()
            .filter(|name| dependencies.contains(name))
            .collect::<Vec<_>>()
    };
    assert_eq!(known("codec"), Vec::<&str>::new());
    assert_eq!(known("shard-router"), ["tidegate-codec"]);
    assert_eq!(
        known("gateway"),
        ["tidegate-codec", "tidegate-shard-router", "glommio"]
    );
    assert_eq!(known("loadtest"), ["tidegate-codec"]);
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "loadtest/README.md",
    ] {
        let path = root().join(document);
        let text = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{document} is missing"));
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.starts_with("http") {
                continue;
            }
            let there = path.parent().expect("a folder").join(target);
            assert!(
                there.exists(),
                "{document} links to {link}, which is not there"
            );
        }
    }
}

#[test]
fn sources_say_what_they_are_in_their_first_line_and_stay_within_a_thousand_lines() {
    let mut files = Vec::new();
    for room in ["codec", "shard-router", "gateway", "loadtest"] {
        collect(&root().join(room).join("src"), &mut files);
    }
    assert!(files.len() > 40);
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        assert!(
            text.starts_with("//! "),
            "{} has no header line",
            file.display()
        );
        let lines = text.lines().count();
        assert!(lines <= 1_000, "{} has {lines} lines", file.display());
    }
}

#[test]
fn nothing_below_gateway_reads_a_clock() {
    let mut files = Vec::new();
    for room in ["codec", "shard-router"] {
        collect(&root().join(room).join("src"), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).expect("a source file");
        for word in [
            "Instant::now",
            "SystemTime",
            "thread::",
            "std::net",
            "Mutex",
            "RwLock",
        ] {
            assert!(!text.contains(word), "{} uses {word}", file.display());
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
}
