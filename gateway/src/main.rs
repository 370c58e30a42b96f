//! The `tidegate` binary: read what is wanted, look at the host, start the shards, run until told to stop.

mod admin;
mod check;
mod cli;
mod logging;
mod metrics;
mod run;
mod signals;

use std::io::Write;
use std::process::ExitCode;

use cli::Command;
use tidegate::{config, host};

/// Message-sized blocks come and go on every shard all the time; mimalloc keeps a heap per thread for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// Why the process ends without success.
#[derive(Debug)]
enum Failure {
    /// What was asked for cannot be: one line a problem.
    Usage(Vec<config::Problem>),
    /// It could be, and still did not work.
    Run(String),
}

fn main() -> ExitCode {
    let ended = match cli::parse() {
        Some(Command::Run(flags)) => run::run(&flags),
        Some(Command::Check(flags)) => check::check(&flags),
        None => Ok(()),
    };
    match ended {
        Ok(()) => {
            logging::flush();
            ExitCode::SUCCESS
        }
        Err(Failure::Usage(problems)) => {
            problems
                .iter()
                .for_each(|problem| complain(&problem.to_string()));
            ExitCode::from(EXIT_USAGE)
        }
        Err(Failure::Run(why)) => {
            fail(&why);
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

/// The last words of a process that fails, behind everything it logged.
fn fail(why: &str) {
    logging::flush();
    complain(why);
}

/// One line on standard error.
fn complain(line: &str) {
    // There is nowhere left to report that nobody reads standard error.
    let _ = writeln!(std::io::stderr().lock(), "tidegate: {line}");
}

/// One line on standard output, at once: scripts wait for it through a pipe.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    // Whoever closed our output does not want to hear it; that is no reason to stop serving devices.
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// Tells systemd, where it listens.
fn notify(states: &[sd_notify::NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be notified");
    }
}
