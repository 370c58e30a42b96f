//! Topic names and topic filters: their rules, and a plain matcher (MQTT 5 section 4.7, 3.1.1 section 4.7).

/// Bounds on names and filters; both count towards what a peer can make a server remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicLimits {
    pub bytes_max: u16,
    pub levels_max: u16,
}

/// Why a topic name or filter is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicError {
    Empty,
    /// U+0000 stands in it [MQTT-4.7.3-2].
    NullCharacter,
    /// A wildcard in a topic name [MQTT-3.3.2-2].
    WildcardInName,
    /// `#` not last, or a wildcard beside other characters of its level [MQTT-4.7.1-1], [MQTT-4.7.1-2].
    MisplacedWildcard,
    /// `$share` without a name, with a wildcard in it, or without a filter [MQTT-4.8.2-1], [MQTT-4.8.2-2].
    BadShare,
    TooLong,
    TooManyLevels,
}

/// A topic name a client may publish to.
pub fn validate_name(name: &str, limits: TopicLimits) -> Result<(), TopicError> {
    // Every PUBLISH comes this way: one pass over the bytes finds that nothing is wrong, and only where something
    // is do the checks ask what.
    let counted = Counted::new(name);
    if name.is_empty() || name.len() > usize::from(limits.bytes_max) || !counted.fits_name(limits) {
        check_common(name, limits)?;
        return Err(TopicError::WildcardInName);
    }
    Ok(())
}

/// What a pass over a topic name counts; without branches, so that the compiler takes many bytes at once.
struct Counted {
    slashes: usize,
    special: bool,
}

impl Counted {
    fn new(name: &str) -> Counted {
        let mut counted = Counted {
            slashes: 0,
            special: false,
        };
        // A byte counts to 255, and so many are taken at once.
        for chunk in name.as_bytes().chunks(255) {
            let mut slashes = 0u8;
            for &byte in chunk {
                slashes += u8::from(byte == b'/');
                counted.special |= matches!(byte, 0 | b'+' | b'#');
            }
            counted.slashes += usize::from(slashes);
        }
        counted
    }

    fn fits_name(&self, limits: TopicLimits) -> bool {
        !self.special && self.slashes < usize::from(limits.levels_max)
    }
}

fn check_common(text: &str, limits: TopicLimits) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > usize::from(limits.bytes_max) {
        return Err(TopicError::TooLong);
    }
    let bytes = text.as_bytes();
    if memchr::memchr(0, bytes).is_some() {
        return Err(TopicError::NullCharacter);
    }
    if memchr::memchr_iter(b'/', bytes).count() >= usize::from(limits.levels_max) {
        return Err(TopicError::TooManyLevels);
    }
    Ok(())
}

/// A valid topic filter, with the share name of a shared subscription taken apart.
///
/// `$share/lights/home/+` has the share name `lights` and the filter `home/+`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicFilter {
    text: Box<str>,
    /// Where the filter proper starts; 0 for an ordinary subscription.
    filter_start: u16,
}

const SHARE: &str = "$share/";

impl TopicFilter {
    pub fn parse(text: &str, limits: TopicLimits) -> Result<TopicFilter, TopicError> {
        check_common(text, limits)?;
        let mut filter_start = 0;
        if let Some(rest) = text.strip_prefix(SHARE) {
            let slash = rest.find('/').ok_or(TopicError::BadShare)?;
            let share_name = &rest[..slash];
            if share_name.is_empty() || share_name.contains(['+', '#']) || slash + 1 == rest.len() {
                return Err(TopicError::BadShare);
            }
            filter_start = SHARE.len() + slash + 1;
        } else if text == "$share" {
            return Err(TopicError::BadShare);
        }
        check_wildcards(&text[filter_start..])?;
        Ok(TopicFilter {
            text: text.into(),
            filter_start: filter_start as u16,
        })
    }

    /// As the client wrote it, share name included.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The part that topics are matched against.
    pub fn filter(&self) -> &str {
        &self.text[usize::from(self.filter_start)..]
    }

    pub fn share_name(&self) -> Option<&str> {
        let end = usize::from(self.filter_start).checked_sub(1)?;
        Some(&self.text[SHARE.len()..end])
    }

    pub fn is_shared(&self) -> bool {
        self.filter_start != 0
    }

    pub fn matches(&self, topic: &str) -> bool {
        matches(self.filter(), topic)
    }
}

fn check_wildcards(filter: &str) -> Result<(), TopicError> {
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let misplaced = match level {
            "+" => false,
            "#" => levels.peek().is_some(),
            _ => memchr::memchr2(b'+', b'#', level.as_bytes()).is_some(),
        };
        if misplaced {
            return Err(TopicError::MisplacedWildcard);
        }
    }
    Ok(())
}

/// Whether `filter` (valid, without a share name) matches `topic`.
///
/// A filter that begins with a wildcard does not match a topic that begins with `$` [MQTT-4.7.2-1].
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = topic.split('/');
    for level in filter.split('/') {
        match (level, names.next()) {
            ("#", _) => return true,
            ("+", Some(_)) => {}
            (level, Some(name)) if level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TopicLimits = TopicLimits {
        bytes_max: 64,
        levels_max: 8,
    };

    fn filter(text: &str) -> Result<TopicFilter, TopicError> {
        TopicFilter::parse(text, LIMITS)
    }

    #[test]
    fn mqtt5_4_7_1_wildcards_stand_alone_and_hash_last() {
        for good in ["#", "+", "a/#", "+/+", "a/+/b", "/", "//", "+/#", "/+"] {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["a#", "#/a", "a/#/b", "+a", "a/b+/c", "a/+b"] {
            assert_eq!(filter(bad), Err(TopicError::MisplacedWildcard), "{bad}");
        }
    }

    #[test]
    fn mqtt5_4_8_2_share_names_are_taken_apart() {
        let shared = filter("$share/group/a/+").unwrap();
        assert_eq!(
            (shared.share_name(), shared.filter()),
            (Some("group"), "a/+")
        );
        assert!(shared.matches("a/b"));
        for bad in [
            "$share",
            "$share/",
            "$share/g",
            "$share/g/",
            "$share//a",
            "$share/+/a",
        ] {
            assert_eq!(filter(bad), Err(TopicError::BadShare), "{bad}");
        }
        assert_eq!(filter("$shared/a").unwrap().share_name(), None);
    }

    #[test]
    fn mqtt5_4_7_2_leading_wildcards_leave_dollar_topics_alone() {
        assert!(!matches("#", "$SYS/x"));
        assert!(!matches("+/x", "$SYS/x"));
        assert!(matches("$SYS/#", "$SYS/x"));
        assert!(matches("a/+", "a/$x"));
    }

    #[test]
    fn matching_follows_the_examples_of_the_standard() {
        for (pattern, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            (
                "sport/tennis/player1/#",
                "sport/tennis/player1/score/wimbledon",
                true,
            ),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "a/b", true),
            ("a/b", "a/b/c", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} on {topic}");
        }
    }

    #[test]
    fn limits_hold_for_names_and_filters() {
        assert_eq!(validate_name("", LIMITS), Err(TopicError::Empty));
        assert_eq!(
            validate_name("a\0b", LIMITS),
            Err(TopicError::NullCharacter)
        );
        assert_eq!(
            validate_name("a/+", LIMITS),
            Err(TopicError::WildcardInName)
        );
        assert_eq!(
            validate_name(&"x".repeat(65), LIMITS),
            Err(TopicError::TooLong)
        );
        assert_eq!(validate_name("1/2/3/4/5/6/7/8", LIMITS), Ok(()));
        assert_eq!(
            validate_name("1/2/3/4/5/6/7/8/9", LIMITS),
            Err(TopicError::TooManyLevels)
        );
    }
}
