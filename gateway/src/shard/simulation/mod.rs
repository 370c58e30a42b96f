//! Whole shards in a seeded world: real workers, lanes and mailboxes over [`SimulatedDriver`]s.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`world`] | the shards, the clock, what happens next and what must hold |
//! | [`client`] | one client, which is strict about every byte it gets |
//! | [`stories`] | what a seed would meet too seldom |
//! | [`differential`] | one script against this driver and the real ones |
//!
//! A failure prints its seed; `SEED=… cargo test -p gateway --lib simulation::seeds` replays it.
//!
//! [`SimulatedDriver`]: super::driver::simulated::SimulatedDriver

#![allow(clippy::print_stdout, clippy::print_stderr)] // Seeds and coverage are for the person who runs it.

mod client;
mod differential;
mod stories;
mod world;

use std::collections::BTreeMap;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};

use self::world::{Plan, World};

/// Seeds of the plain run.
const SEEDS: u64 = 200;

fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    let plan = Plan::seeded(seed);
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(plan.clone());
        world.run();
        world.coverage()
    }));
    ran.unwrap_or_else(|panic| {
        eprintln!("SEED={seed} fails: {plan:?}");
        resume_unwind(panic)
    })
}

#[test]
fn seeds() {
    if let Ok(seed) = std::env::var("SEED") {
        run(seed.parse().expect("SEED is a number"));
        return;
    }
    let mut coverage = BTreeMap::new();
    for seed in 0..SEEDS {
        for (what, n) in run(seed) {
            *coverage.entry(what).or_insert(0) += n;
        }
    }
    // A run in which something never happened proves nothing about it.
    println!("{coverage:?}");
    assert!(coverage.values().all(|&n| n >= 5), "{coverage:?}");
}
