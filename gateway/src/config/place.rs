//! Where a value was given, and what is wrong with it.

use std::fmt;
use std::rc::Rc;

/// Where a value was given; what an error message points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Default,
    /// Line and column count from 1, the column in characters.
    File {
        path: Rc<str>,
        line: usize,
        column: usize,
    },
    /// The file as a whole: it cannot be read.
    WholeFile(Rc<str>),
    /// The variable's name.
    Environment(String),
    /// The flag, with its dashes.
    Flag(&'static str),
}

impl Place {
    /// People read a file from top to bottom; what stands in no file comes first.
    pub(crate) fn position(&self) -> (usize, usize) {
        match self {
            Place::File { line, column, .. } => (*line, *column),
            _ => (0, 0),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Default => write!(f, "default"),
            Place::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Place::WholeFile(path) => write!(f, "{path}"),
            Place::Environment(name) => write!(f, "{name}"),
            Place::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

/// One line an operator can act on: where, which key, what is wrong and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) place: Place,
    /// Empty where the problem is not one key's.
    pub(crate) key: String,
    pub(crate) text: String,
}

impl Problem {
    pub(crate) fn new(place: Place, key: impl Into<String>, text: impl Into<String>) -> Problem {
        Problem {
            place,
            key: key.into(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, self.key.is_empty()) {
            (Place::Default, true) => write!(f, "{}", self.text),
            (Place::Default, false) => write!(f, "{}: {}", self.key, self.text),
            (place, true) => write!(f, "{place}: {}", self.text),
            (place, false) => write!(f, "{place}: {}: {}", self.key, self.text),
        }
    }
}
