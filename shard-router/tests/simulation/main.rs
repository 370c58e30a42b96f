//! Shards in a seeded world.
//!
//! Many real shards in one thread, and around them a world that a seed decides: who has a turn, how full mailboxes
//! get, whose connection breaks, when the process dies. What clients were promised is checked at every step and,
//! when everything has come to rest, once more.
//!
//! | environment | what it does |
//! | --- | --- |
//! | `SEED=7` | this seed alone, every event printed |
//! | `SEEDS=10000` | how many seeds; 200 otherwise |
//! | `STEPS=500` | steps of a run; 2,000 otherwise |

#![allow(clippy::print_stdout)] // A report is what it is for.

mod client;
mod coverage;
mod crash;
mod driver;
mod finish;
mod ledger;
mod lives;
mod mishaps;
mod network;
mod plan;
#[cfg(feature = "planted-defects")]
mod planted;
mod rng;
mod run;
mod store;
mod tables;
mod verdict;
mod workload;
mod world;

#[test]
fn promises_hold_in_every_seed() {
    run::many();
}
