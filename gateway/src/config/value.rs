//! One value as it was given, and how numbers, sizes and times are read from it.

use std::time::Duration;

use super::place::Place;
use super::{GIB, KIB, MIB};

/// A value before its key has looked at it.
#[derive(Clone, Debug, PartialEq)]
pub enum Raw {
    /// From a flag or the environment: what it is, its key decides.
    Text(String),
    /// From the file, where types are written down.
    String(String),
    Integer(i128),
    Boolean(bool),
    List(Vec<Given>),
    /// A type no key takes: what it is and how it was written.
    Other(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    pub raw: Raw,
    pub place: Place,
}

impl Raw {
    /// As a sentence's subject.
    pub fn shown(&self) -> String {
        match self {
            Raw::Text(text) | Raw::String(text) => format!("{text:?}"),
            Raw::Integer(number) => number.to_string(),
            Raw::Boolean(value) => value.to_string(),
            Raw::List(_) => "a list".to_owned(),
            Raw::Other(what) => (*what).to_owned(),
        }
    }

    /// "is not" and what its key would want, in the words that fit what it is.
    pub fn is_not(&self, wanted: &str) -> String {
        match self {
            Raw::String(_) => format!("is a string, not {wanted}"),
            Raw::Integer(_) => format!("is a number, not {wanted}"),
            _ => format!("is not {wanted}"),
        }
    }

    /// A whole number, from a number or a flag's text.
    pub fn integer(&self) -> Option<i128> {
        match self {
            Raw::Integer(number) => Some(*number),
            Raw::Text(text) => text.trim().replace('_', "").parse().ok(),
            _ => None,
        }
    }

    pub fn boolean(&self) -> Option<bool> {
        match self {
            Raw::Boolean(value) => Some(*value),
            Raw::Text(text) => text.trim().parse().ok(),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Raw::Text(text) | Raw::String(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes: a plain number, or text with a unit. KiB and MiB count in 1,024s, kB and MB in 1,000s.
    pub fn bytes(&self) -> Option<i128> {
        if let Some(number) = self.integer() {
            return Some(number);
        }
        self.text()?
            .parse::<bytesize::ByteSize>()
            .ok()
            .map(|size| i128::from(size.as_u64()))
    }

    /// A time: a plain number of seconds, or text such as `10s` or `1h 30m`.
    pub fn time(&self) -> Option<Duration> {
        if let Some(seconds) = self.integer() {
            return u64::try_from(seconds).ok().map(Duration::from_secs);
        }
        humantime::parse_duration(self.text()?).ok()
    }
}

impl Given {
    /// The items of a list; a flag or an environment variable separates them by commas.
    pub fn items(&self) -> Option<Vec<Given>> {
        match &self.raw {
            Raw::List(items) => Some(items.clone()),
            Raw::Text(text) => Some(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| Given {
                        raw: Raw::Text(item.to_owned()),
                        place: self.place.clone(),
                    })
                    .collect(),
            ),
            _ => None,
        }
    }
}

/// Bytes in the largest unit that leaves a whole number, so that what is printed can be set again.
pub(crate) fn show_bytes(bytes: u64) -> String {
    for (unit, name) in [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")] {
        if bytes >= unit && bytes.is_multiple_of(unit) {
            return format!("{} {name}", bytes / unit);
        }
    }
    format!("{bytes} B")
}

pub(crate) fn show_time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// A string as the file writes it; Rust's own escapes are not those of TOML.
pub(crate) fn show_text(text: &str) -> String {
    let mut shown = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => shown.extend(['\\', character]),
            _ if character.is_control() => shown += &format!("\\u{:04X}", character as u32),
            _ => shown.push(character),
        }
    }
    shown + "\""
}

/// A list of strings as the file writes it.
pub(crate) fn show_list(texts: impl Iterator<Item = String>) -> String {
    let shown: Vec<_> = texts.map(|text| show_text(&text)).collect();
    format!("[{}]", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Raw {
        Raw::Text(text.to_owned())
    }

    #[test]
    fn sizes_take_units_and_plain_numbers() {
        for (given, bytes) in [
            ("1 MiB", Some(1_048_576)),
            ("1MB", Some(1_000_000)),
            ("64k", Some(64_000)),
            ("4_096", Some(4_096)),
            ("1.5 KiB", Some(1_536)),
            ("1 mole", None),
            ("", None),
        ] {
            assert_eq!(text(given).bytes(), bytes, "{given}");
        }
        assert_eq!(Raw::Boolean(true).bytes(), None);
    }

    #[test]
    fn times_take_units_and_plain_seconds() {
        for (given, ms) in [
            ("10s", Some(10_000)),
            ("1h 30m", Some(5_400_000)),
            ("250ms", Some(250)),
            ("7", Some(7_000)),
            ("30 days", Some(2_592_000_000)),
            ("-1", None),
            ("soon", None),
        ] {
            assert_eq!(text(given).time(), ms.map(Duration::from_millis), "{given}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for bytes in [0, 1, 1_023, 1_024, 1_500, MIB, 3 * GIB, MIB + 1] {
            assert_eq!(text(&show_bytes(bytes)).bytes(), Some(i128::from(bytes)));
        }
        for ms in [0, 1, 999, 60_000, 2_592_000_000] {
            let time = Duration::from_millis(ms);
            assert_eq!(text(&show_time(time)).time(), Some(time));
        }
    }
}
