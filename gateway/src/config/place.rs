//! Where a value was given, and what is wrong with it.

use std::fmt::{self, Write};
use std::rc::Rc;

/// Where a value was given; what an error message points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
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
    pub fn position(&self) -> (usize, usize) {
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
pub struct Problem {
    pub place: Place,
    /// Empty where the problem is not one key's.
    pub key: String,
    pub text: String,
}

impl Problem {
    pub fn new(place: Place, key: impl Into<String>, text: impl Into<String>) -> Problem {
        Problem {
            place,
            key: key.into(),
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let f = &mut OneLine(f);
        match (&self.place, self.key.is_empty()) {
            (Place::Default, true) => write!(f, "{}", self.text),
            (Place::Default, false) => write!(f, "{}: {}", self.key, self.text),
            (place, true) => write!(f, "{place}: {}", self.text),
            (place, false) => write!(f, "{place}: {}: {}", self.key, self.text),
        }
    }
}

/// Names in quotes may hold line breaks, and a terminal obeys control characters: both are written as escapes.
struct OneLine<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for OneLine<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for piece in text.split_inclusive(char::is_control) {
            let end = piece.char_indices().next_back();
            match end {
                Some((at, last)) if last.is_control() => {
                    self.0.write_str(&piece[..at])?;
                    write!(self.0, "{}", last.escape_default())?;
                }
                _ => self.0.write_str(piece)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_whatever_the_file_calls_its_keys() {
        let place = Place::Environment("TIDEGATE__A\nB".into());
        let problem = Problem::new(place, "a\nb.\u{1b}[31m", "no such key\r");
        let line = "TIDEGATE__A\\nB: a\\nb.\\u{1b}[31m: no such key\\r";
        assert_eq!(problem.to_string(), line);
    }
}
