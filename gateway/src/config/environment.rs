//! The environment: which variables are keys, and what they say.

use std::ffi::OsString;

use super::keys;
use super::nearest;
use super::place::{Place, Problem};
use super::value::{Given, Raw};

pub(super) const PREFIX: &str = "TIDEGATE__";

/// `TIDEGATE__LIMITS__PACKET_BYTES_MAX` sets `limits.packet_bytes_max`.
pub(super) fn read(
    variables: &[(OsString, OsString)],
    problems: &mut Vec<Problem>,
) -> Vec<(usize, Given)> {
    let mut given = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let place = Place::Environment(name.to_owned());
        let key = rest.to_ascii_lowercase().replace("__", ".");
        match (keys::index(&key), value.to_str()) {
            (Some(index), Some(text)) => {
                given.push((
                    index,
                    Given {
                        raw: Raw::Text(text.to_owned()),
                        place,
                    },
                ));
            }
            (Some(_), None) => problems.push(Problem::new(place, key, "the value is not UTF-8")),
            (None, _) => {
                let hint = nearest::hint(&key, nearest::environment_name);
                problems.push(Problem::new(place, key, format!("no such key; {hint}")));
            }
        }
    }
    given
}
