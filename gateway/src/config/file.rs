//! The configuration file: TOML to key and value, each with the line and column it stands at.

use std::ops::Range;
use std::path::Path;
use std::rc::Rc;

use toml::de::{DeTable, DeValue};
use toml::Spanned;

use super::keys;
use super::nearest::{hint, nearest};
use super::place::{Place, Problem};
use super::value::{Given, Raw};

/// The keys `path` sets; what is wrong is added to `problems`.
pub(super) fn read(path: &Path, problems: &mut Vec<Problem>) -> Vec<(usize, Given)> {
    let name: Rc<str> = path.display().to_string().into();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(name, &text, problems),
        Err(error) => {
            let text = format!("the configuration file cannot be read: {error}");
            problems.push(Problem::new(Place::WholeFile(name), "", text));
            Vec::new()
        }
    }
}

pub(super) fn parse(name: Rc<str>, text: &str, problems: &mut Vec<Problem>) -> Vec<(usize, Given)> {
    let mut reader = Reader {
        name,
        text,
        found: Vec::new(),
        problems: Vec::new(),
    };
    match DeTable::parse(text) {
        Ok(document) => reader.document(document.get_ref()),
        Err(error) => {
            let at = error.span().unwrap_or(0..0);
            let message = error.message().replace('\n', ", ");
            reader.complain(at, "", format!("this is not TOML: {message}"));
        }
    }
    problems.append(&mut reader.problems);
    reader.found
}

struct Reader<'a> {
    name: Rc<str>,
    text: &'a str,
    found: Vec<(usize, Given)>,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn document(&mut self, document: &DeTable<'_>) {
        for (name, value) in document {
            match value.get_ref() {
                DeValue::Table(table) => self.section(name.get_ref(), name.span(), table),
                _ if keys::is_section(name.get_ref()) => {
                    let text = format!("a section is right here: a line [{}]", name.get_ref());
                    self.complain(name.span(), name.get_ref(), text);
                }
                _ => self.unknown_key(name.span(), name.get_ref()),
            }
        }
    }

    fn section(&mut self, section: &str, at: Range<usize>, table: &DeTable<'_>) {
        if !keys::is_section(section) {
            let hint = match nearest(section, keys::sections()) {
                Some(near) => format!("did you mean [{near}]?"),
                None => format!("sections are {}", keys::sections().join(", ")),
            };
            return self.complain(at, section, format!("no such section; {hint}"));
        }
        for (name, value) in table {
            let key = format!("{section}.{}", name.get_ref());
            match keys::index(&key) {
                Some(index) => {
                    let given = self.given(value);
                    self.found.push((index, given));
                }
                None => self.unknown_key(name.span(), &key),
            }
        }
    }

    fn given(&self, value: &Spanned<DeValue<'_>>) -> Given {
        let raw = match value.get_ref() {
            DeValue::String(text) => Raw::String(text.to_string()),
            DeValue::Integer(number) => i128::from_str_radix(number.as_str(), number.radix())
                .map_or(Raw::Other("a number beyond all ranges"), Raw::Integer),
            DeValue::Boolean(value) => Raw::Boolean(*value),
            DeValue::Array(items) => Raw::List(items.iter().map(|item| self.given(item)).collect()),
            DeValue::Float(_) => Raw::Other("a number with a fraction"),
            DeValue::Datetime(_) => Raw::Other("a date"),
            DeValue::Table(_) => Raw::Other("a table"),
        };
        Given {
            raw,
            place: self.place(value.span()),
        }
    }

    fn unknown_key(&mut self, at: Range<usize>, key: &str) {
        let hint = hint(key, str::to_owned);
        self.complain(at, key, format!("no such key; {hint}"));
    }

    fn complain(&mut self, at: Range<usize>, key: &str, text: String) {
        let place = self.place(at);
        self.problems.push(Problem::new(place, key, text));
    }

    fn place(&self, at: Range<usize>) -> Place {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place::File {
            path: self.name.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}
