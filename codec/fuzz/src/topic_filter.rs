//! Topic filters and names against a naive reading of MQTT 5 section 4.7 and 4.8.2, level by level.
//!
//! Fed: bytes_max / 4, levels_max, then text whose first line is a filter and whose rest is a topic name.

use tidegate_codec::topic::{matches, validate_name, TopicError, TopicFilter, TopicLimits};

pub fn run(data: &[u8]) {
    let [bytes_max, levels_max, text @ ..] = data else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let limits = TopicLimits {
        bytes_max: u16::from(*bytes_max) * 4,
        levels_max: u16::from(*levels_max),
    };
    let (filter, name) = text.split_once('\n').unwrap_or((text, text));

    let named = validate_name(name, limits);
    assert_eq!(named, naive_name(name, limits), "name {name:?}");
    let parsed = TopicFilter::parse(filter, limits);
    let expected = naive_filter(filter, limits);
    assert_eq!(parsed.is_ok(), expected.is_ok(), "filter {filter:?}");
    let (parsed, (share_name, rest)) = match (parsed, expected) {
        (Ok(parsed), Ok(expected)) => (parsed, expected),
        (parsed, expected) => return assert_eq!(parsed.err(), expected.err(), "{filter:?}"),
    };
    assert_eq!(parsed.text(), filter);
    assert_eq!((parsed.share_name(), parsed.filter()), (share_name, rest));
    assert_eq!(parsed.is_shared(), share_name.is_some());
    assert_eq!(parsed.matches(name), matches(rest, name));
    let levels: Vec<_> = rest.split('/').collect();
    let names: Vec<_> = name.split('/').collect();
    assert_eq!(
        parsed.matches(name),
        naive_match(&levels, &names, true),
        "{rest:?} on {name:?}"
    );
    if named.is_ok() && share_name.is_none() {
        // A name is a filter that matches itself, unless it reads as a shared subscription.
        if let Ok(own) = TopicFilter::parse(name, limits) {
            assert!(own.is_shared() || own.matches(name), "{name:?}");
        }
    }
}

fn naive_limits(text: &str, limits: TopicLimits) -> Result<(), TopicError> {
    if text.is_empty() {
        Err(TopicError::Empty)
    } else if text.len() > limits.bytes_max.into() {
        Err(TopicError::TooLong)
    } else if text.contains('\0') {
        Err(TopicError::NullCharacter)
    } else if text.split('/').count() > limits.levels_max.into() {
        Err(TopicError::TooManyLevels)
    } else {
        Ok(())
    }
}

fn naive_name(name: &str, limits: TopicLimits) -> Result<(), TopicError> {
    naive_limits(name, limits)?;
    match name.contains(['+', '#']) {
        true => Err(TopicError::WildcardInName),
        false => Ok(()),
    }
}

/// The share name and the filter proper.
fn naive_filter(text: &str, limits: TopicLimits) -> Result<(Option<&str>, &str), TopicError> {
    naive_limits(text, limits)?;
    let levels: Vec<_> = text.split('/').collect();
    let (share_name, rest) = if levels[0] == "$share" {
        // `$share/name/` and nothing behind it is no filter; `$share/name//` is one with two empty levels.
        match levels[1..] {
            [share, ref rest @ ..]
                if !share.is_empty()
                    && !share.contains(['+', '#'])
                    && !matches!(rest, [] | [""]) =>
            {
                (Some(share), &text["$share/".len() + share.len() + 1..])
            }
            _ => return Err(TopicError::BadShare),
        }
    } else {
        (None, text)
    };
    let rest_levels: Vec<_> = rest.split('/').collect();
    for (index, level) in rest_levels.iter().enumerate() {
        let good = match *level {
            "+" => true,
            "#" => index + 1 == rest_levels.len(),
            other => !other.contains(['+', '#']),
        };
        if !good {
            return Err(TopicError::MisplacedWildcard);
        }
    }
    Ok((share_name, rest))
}

fn naive_match(levels: &[&str], names: &[&str], first: bool) -> bool {
    let hidden = first && names.first().is_some_and(|name| name.starts_with('$')); // [MQTT-4.7.2-1]
    match (levels, names) {
        ([], []) => true,
        (["#"], _) => !hidden,
        (["+", levels @ ..], [_, names @ ..]) => !hidden && naive_match(levels, names, false),
        ([level, levels @ ..], [name, names @ ..]) => {
            level == name && naive_match(levels, names, false)
        }
        _ => false,
    }
}
