//! What ends a run early: bad usage (exit code 2) or a failure at run time (exit code 1).

use std::fmt;
use std::io;

/// One line an operator can act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The command line asks for something that cannot be; exit code 2.
    Usage(String),
    /// The environment or the target stopped the run; exit code 1.
    Run(String),
}

impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Failure::Usage(_) => 2,
            Failure::Run(_) => 1,
        }
    }

    /// A failed call to the system, with what was tried.
    pub(crate) fn system(what: &str, error: impl Into<io::Error>) -> Failure {
        Failure::Run(format!("{what}: {}", error.into()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(text) | Failure::Run(text) => f.write_str(text),
        }
    }
}
