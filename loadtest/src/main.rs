//! `tidegate-flood`: drives an MQTT broker with connections and messages, and checks every delivery
//! it expects.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`cli`] | the command line |
//! | [`scenario`] | the list of scenarios; each is a plan of who publishes what to whom |
//! | [`engine`] | carries out a plan: threads, epoll, connections, windows |
//! | [`ledger`], [`payload`] | what came, once and in order? |
//! | [`outcome`], [`summary`], [`report`] | the result as numbers, as text, as a page of charts |
//! | [`procstat`] | CPU and memory of the process under test |

#![forbid(unsafe_code)]

mod cli;
mod clock;
mod engine;
mod failure;
mod ledger;
mod limits;
mod outcome;
mod pacer;
mod payload;
mod procstat;
mod progress;
mod report;
mod sampler;
mod scenario;
mod source;
mod summary;
mod target;

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgMatches, FromArgMatches};

use cli::LoadArgs;
use failure::Failure;
use outcome::Outcome;
use scenario::SCENARIOS;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = cli::command().get_matches();
    match run(&matches) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            // Where even stderr is gone, the exit code still says it.
            let _ = writeln!(io::stderr(), "error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Runs the chosen scenario; false where a check failed.
fn run(matches: &ArgMatches) -> Result<bool, Failure> {
    let (name, matches) = matches
        .subcommand()
        .ok_or_else(|| Failure::Usage("name a scenario".to_owned()))?;
    let scenario = SCENARIOS
        .iter()
        .find(|scenario| scenario.name == name)
        .ok_or_else(|| Failure::Usage(format!("no scenario `{name}`")))?;
    let load =
        LoadArgs::from_arg_matches(matches).map_err(|error| Failure::Usage(error.to_string()))?;
    // Before anything is reserved for that many clients; the engine counts exactly.
    limits::make_room(load.clients, load.threads)?;
    if let Some(path) = &load.report {
        check_writable(path)?;
    }
    let outcome = (scenario.run)(&load, matches)?;
    print(&outcome, load.json)?;
    if let Some(path) = &load.report {
        fs::write(path, report::page(&outcome)).map_err(|error| report_failure(path, error))?;
    }
    Ok(outcome.ok)
}

/// A path that cannot be written should not show only after an hour of load.
fn check_writable(path: &Path) -> Result<(), Failure> {
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    file.map(drop).map_err(|error| report_failure(path, error))
}

fn report_failure(path: &Path, error: io::Error) -> Failure {
    Failure::Run(format!("--report {}: {error}", path.display()))
}

fn print(outcome: &Outcome, json: bool) -> Result<(), Failure> {
    let text = if json {
        let json = serde_json::to_string(outcome)
            .map_err(|error| Failure::Run(format!("cannot write the result as JSON: {error}")))?;
        json + "\n"
    } else {
        summary::text(outcome)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::system("cannot write the result", error))
}
