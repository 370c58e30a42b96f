//! The scenarios, one file each. Adding one is its file and its line in [`SCENARIOS`].

mod connect;
mod fanin;
mod fanout;
mod p2p;

use clap::{ArgMatches, Args, Command};

use crate::cli::LoadArgs;
use crate::failure::Failure;
use crate::outcome::Outcome;

/// Every scenario there is, in the order of `--help`.
pub(crate) const SCENARIOS: &[Scenario] = &[
    connect::SCENARIO,
    fanout::SCENARIO,
    p2p::SCENARIO,
    fanin::SCENARIO,
];

/// One kind of load.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// One line for `--help`.
    pub(crate) about: &'static str,
    pub(crate) examples: &'static str,
    /// Adds the flags that only this scenario has.
    pub(crate) augment_args: fn(Command) -> Command,
    pub(crate) run: fn(&LoadArgs, &ArgMatches) -> Result<Outcome, Failure>,
}

/// For scenarios without flags of their own.
#[derive(Debug, Args)]
struct NoArgs {}
