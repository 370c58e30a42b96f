//! Planted defects: each must be found, within few seeds, and the seed that finds it must find it again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use tidegate_shard_router::planted::{plant, Defect};

use crate::run::{one, Failure, STEPS};

/// Within so many seeds a defect of this kind has to show.
const SEEDS_MAX: u64 = 1_000;

/// One run with a defect in it.
fn with(defect: Defect, seed: u64) -> Option<Failure> {
    plant(Some(defect));
    let ran = one(seed, STEPS, false);
    plant(None);
    ran.err()
}

/// The lowest seed that finds it. Seeds are tried on all cores.
fn first_found(defect: Defect) -> Option<Failure> {
    let (next, found_at) = (AtomicU64::new(0), AtomicU64::new(u64::MAX));
    let (sender, failures) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            let (sender, next, found_at) = (sender.clone(), &next, &found_at);
            scope.spawn(move || loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= SEEDS_MAX || seed > found_at.load(Ordering::Relaxed) {
                    return;
                }
                if let Some(failure) = with(defect, seed) {
                    found_at.fetch_min(seed, Ordering::Relaxed);
                    let _ = sender.send(failure);
                }
            });
        }
    });
    drop(sender);
    failures.into_iter().min_by_key(|failure| failure.seed)
}

#[test]
fn every_planted_defect_is_found_and_its_seed_finds_it_again() {
    let mut hidden = Vec::new();
    for defect in Defect::ALL {
        let Some(found) = first_found(defect) else {
            hidden.push(defect);
            continue;
        };
        let line = found.what.lines().nth(1).unwrap_or(&found.what);
        let short: String = line.chars().take(100).collect();
        println!(
            "{:20} seed {:3}, step {:4}: {short}",
            format!("{defect:?}"),
            found.seed,
            found.step
        );
        let again = with(defect, found.seed).expect("the seed finds it again");
        assert_eq!(
            (again.step, again.what),
            (found.step, found.what),
            "another failure than before"
        );
        let without = one(found.seed, STEPS, false);
        assert!(
            without.is_ok(),
            "the failure is not the defect's: {without:?}"
        );
    }
    assert!(
        hidden.is_empty(),
        "not found within {SEEDS_MAX} seeds: {hidden:?}"
    );
}
