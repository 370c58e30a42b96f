//! The committed corpora of the fuzz targets, fed to the targets' own bodies by a stable compiler.
//!
//! The seeds among them are written by `fuzz/src/seeds.rs`; after a change there,
//! `TIDEGATE_WRITE_SEEDS=1 cargo test -p tidegate-codec --test fuzz_corpus` brings them to disk. Inputs of any other
//! name are findings: they stay.

#[allow(unreachable_pub, reason = "the targets see it as a library")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::panic::catch_unwind;
use std::path::PathBuf;

fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "fuzz/corpus", target]
        .iter()
        .collect()
}

#[test]
fn every_target_takes_its_corpus() {
    for (target, run) in fuzz::TARGETS {
        let files = fs::read_dir(corpus(target)).expect("each target has a corpus");
        let mut inputs = 0;
        for file in files {
            let path = file.expect("the corpus can be listed").path();
            let input = fs::read(&path).expect("the corpus can be read");
            assert!(catch_unwind(|| run(&input)).is_ok(), "{}", path.display());
            inputs += 1;
        }
        assert!(inputs > 0, "{target} has no input");
    }
}

#[test]
fn the_seeds_on_disk_are_those_the_codec_writes() {
    let write = std::env::var_os("TIDEGATE_WRITE_SEEDS").is_some();
    for (target, name, input) in fuzz::seeds::all() {
        let path = corpus(target).join(name);
        if write {
            fs::create_dir_all(corpus(target)).expect("the corpus can be made");
            fs::write(&path, &input).expect("the seed can be written");
        }
        let found = fs::read(&path).unwrap_or_default();
        assert_eq!(found, input, "{}", path.display());
    }
}

/// A corpus that grew with every run would be a burden in every clone.
#[test]
fn the_corpora_stay_small() {
    let (mut files, mut bytes) = (0, 0);
    for (target, _) in fuzz::TARGETS {
        for file in fs::read_dir(corpus(target)).expect("each target has a corpus") {
            files += 1;
            bytes += file
                .and_then(|file| file.metadata())
                .map_or(0, |meta| meta.len());
        }
    }
    assert!(
        files <= 200 && bytes <= 1 << 20,
        "{files} files, {bytes} bytes"
    );
}
