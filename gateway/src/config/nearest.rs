//! Which known name was probably meant.

use super::keys::{self, KEYS};

/// The known name closest to `wanted`, where one is close enough to be a slip of the pen.
pub(crate) fn nearest<'a>(
    wanted: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // Two slips make any short word any other.
    let slips_max = if wanted.chars().count() <= 3 {
        1
    } else {
        (wanted.len() / 3).max(2)
    };
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(wanted, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= slips_max)
        .map(|(_, name)| name)
}

/// What to say about an unknown key: the nearest known one, or those of its section. `shown` turns a key's name
/// into the form in which the unknown one was written.
pub(crate) fn hint(unknown: &str, shown: impl Fn(&str) -> String) -> String {
    let names = || KEYS.iter().map(|key| key.name);
    let (section, last) = unknown.rsplit_once('.').unwrap_or(("", unknown));
    // The right word in the wrong section is the likelier slip than a near word in the right one.
    let moved = names().find(|name| keys::last_word(name) == last);
    if let Some(name) = moved
        .or_else(|| nearest_key(section, last))
        .or_else(|| nearest(unknown, names()))
    {
        return format!("did you mean {}?", shown(name));
    }
    let siblings: Vec<&str> = names()
        .filter(|name| keys::section(name) == section)
        .map(keys::last_word)
        .collect();
    if siblings.is_empty() {
        format!("sections are {}", keys::sections().join(", "))
    } else {
        format!("[{section}] knows {}", siblings.join(", "))
    }
}

fn nearest_key(section: &str, last: &str) -> Option<&'static str> {
    let siblings = KEYS.iter().filter(|key| keys::section(key.name) == section);
    let word = nearest(last, siblings.map(|key| keys::last_word(key.name)))?;
    KEYS.iter()
        .map(|key| key.name)
        .find(|name| keys::section(name) == section && keys::last_word(name) == word)
}

/// `limits.keep_alive_max` as `TIDEGATE__LIMITS__KEEP_ALIVE_MAX`.
pub(crate) fn environment_name(key: &str) -> String {
    format!(
        "{}{}",
        super::environment::PREFIX,
        key.to_ascii_uppercase().replace('.', "__")
    )
}
