//! The committed corpus of the configuration's fuzz target, fed to the target's own body by a stable compiler.

#[allow(unreachable_pub, reason = "the target sees it as a library")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

#[test]
fn the_configuration_takes_its_corpus() {
    let room = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = fs::read_dir(room.join("fuzz/corpus/configuration")).expect("a corpus");
    let corpus = files.map(|file| file.expect("the corpus can be listed").path());
    let mut inputs: Vec<_> = corpus.collect();
    inputs.push(room.join("../ops/examples/minimal.toml"));
    assert!(inputs.len() > 10, "{inputs:?}");
    for path in inputs {
        let input = fs::read(&path).expect("the corpus can be read");
        assert!(
            catch_unwind(|| fuzz::run(&input)).is_ok(),
            "{}",
            path.display()
        );
    }
}
