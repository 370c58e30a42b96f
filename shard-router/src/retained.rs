//! Retained messages of the topics this shard owns, and paced replay.
//!
//! Ordered by topic, so that a replay is a cursor: "what matches, after this topic". A cursor reads the value of
//! the moment it sends, so what it sends is never stale, and the owner remembers nothing about it.

use std::collections::BTreeMap;
use std::ops::Bound;

use tidegate_codec::{topic, Message, Millis};

use crate::envelope::Room;
use crate::key::InstanceId;

/// Topics looked at for one piece; a filter that matches little must not hold the shard.
const PIECE_TOPICS: usize = 2_048;

/// What became of a retained PUBLISH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Stored,
    Cleared,
    /// Nothing to clear.
    Nothing,
    /// A bound was reached; what was there before stays.
    Full,
}

#[derive(Debug)]
pub(crate) struct Retained {
    messages: BTreeMap<(InstanceId, Box<str>), Entry>,
    /// How many messages were ever kept; numbers them.
    kept: u64,
    bytes: u64,
    messages_max: u64,
    bytes_max: u64,
    /// Topics whose message the last piece found expired, and gave up.
    expired: Vec<Box<str>>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    message: Message,
}

impl Retained {
    pub(crate) fn new(messages_max: u64, bytes_max: u64) -> Self {
        Retained {
            messages: BTreeMap::new(),
            kept: 0,
            bytes: 0,
            messages_max,
            bytes_max,
            expired: Vec::new(),
        }
    }

    /// What the store need not keep any more.
    pub(crate) fn take_expired(&mut self) -> Vec<Box<str>> {
        std::mem::take(&mut self.expired)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many messages were ever kept. Who learns of a filter at this moment replays what was kept until now,
    /// and delivers the rest live.
    pub(crate) fn kept(&self) -> u64 {
        self.kept
    }

    /// Replaces the topic's message; an empty payload clears it [MQTT-3.3.1-6], [MQTT-3.3.1-7].
    pub(crate) fn keep(&mut self, instance: InstanceId, message: &Message) -> Kept {
        let key = (instance, Box::from(message.topic()));
        if message.payload().is_empty() {
            return match self.messages.remove(&key) {
                Some(old) => {
                    self.bytes -= old.message.size() as u64;
                    Kept::Cleared
                }
                None => Kept::Nothing,
            };
        }
        let old_size = self.messages.get(&key).map(|old| old.message.size() as u64);
        let bytes = self.bytes - old_size.unwrap_or(0) + message.size() as u64;
        let one_more = u64::from(old_size.is_none());
        if bytes > self.bytes_max || self.messages.len() as u64 + one_more > self.messages_max {
            return Kept::Full;
        }
        self.bytes = bytes;
        let mut message = message.clone();
        // A replay is not a delivery of a publish that was just read.
        message.stamp_read_at(0);
        self.kept += 1;
        let number = self.kept;
        self.messages.insert(key, Entry { number, message });
        Kept::Stored
    }

    /// The next piece of what matches `filter` behind the topic `after`, and where to go on. Messages that were
    /// kept after the first `until` are left out.
    pub(crate) fn piece(
        &mut self,
        now: Millis,
        instance: InstanceId,
        filter: &str,
        after: Option<&str>,
        until: u64,
        room: Room,
    ) -> (Vec<Message>, Option<Box<str>>) {
        let mut found = Vec::new();
        let mut bytes = 0;
        let mut expired = Vec::new();
        let mut next = None;
        let prefix = literal_prefix(filter);
        let start = match after {
            Some(topic) => Bound::Excluded((instance, Box::from(topic))),
            None => Bound::Included((instance, Box::from(prefix))),
        };
        let behind = self.messages.range((start, Bound::Unbounded));
        let in_reach =
            behind.take_while(|((of, topic), _)| *of == instance && topic.starts_with(prefix));
        for (looked_at, ((_, name), Entry { number, message })) in in_reach.enumerate() {
            if topic::matches(filter, name) {
                if message.expired(now) {
                    expired.push(name.clone());
                } else if *number <= until {
                    bytes += message.size() as u64;
                    found.push(message.clone());
                }
            }
            let full = found.len() >= room.messages || bytes >= room.bytes;
            if full || looked_at + 1 == PIECE_TOPICS {
                next = Some(name.clone());
                break;
            }
        }
        for name in expired {
            if let Some(old) = self.messages.remove(&(instance, name.clone())) {
                self.bytes -= old.message.size() as u64;
            }
            self.expired.push(name);
        }
        (found, next)
    }
}

/// What every topic a filter matches begins with: the filter up to its first wildcard, without the slash in front
/// of a `#`, because `a/#` matches `a` too.
fn literal_prefix(filter: &str) -> &str {
    let literal = match filter.find(['+', '#']) {
        Some(at) => &filter[..at],
        None => filter,
    };
    match filter.as_bytes().get(literal.len()) {
        Some(b'#') => literal.strip_suffix('/').unwrap_or(literal),
        _ => literal,
    }
}

#[cfg(test)]
mod tests {
    use tidegate_codec::Qos;

    use super::*;

    const HERE: InstanceId = InstanceId(0);
    const NOW: Millis = Millis(0);
    const ROOM: Room = Room {
        messages: 64,
        bytes: 1 << 20,
    };

    fn retained(topics: &[&str]) -> Retained {
        let mut retained = Retained::new(1_000, 1 << 20);
        for topic in topics {
            let message = Message::new(topic, &[], b"x", Qos::AtMostOnce, true);
            assert_eq!(retained.keep(HERE, &message), Kept::Stored);
        }
        retained
    }

    fn replay(retained: &mut Retained, filter: &str) -> Vec<String> {
        let mut all = Vec::new();
        let mut after: Option<Box<str>> = None;
        loop {
            let (messages, next) =
                retained.piece(NOW, HERE, filter, after.as_deref(), u64::MAX, ROOM);
            all.extend(messages.iter().map(|message| message.topic().to_owned()));
            match next {
                Some(_) => after = next,
                None => return all,
            }
        }
    }

    #[test]
    fn a_replay_finds_what_the_matcher_finds() {
        let topics = ["a", "a/b", "a/b/c", "ab", "b", "/a", "$SYS/x", "a/", "a!b"];
        let mut kept = retained(&topics);
        for filter in [
            "a", "a/#", "a/+", "#", "+", "+/b", "/+", "$SYS/#", "a/b/c/#", "b/#",
        ] {
            let mut expected: Vec<_> = topics
                .iter()
                .filter(|t| topic::matches(filter, t))
                .map(|t| t.to_string())
                .collect();
            expected.sort();
            assert_eq!(replay(&mut kept, filter), expected, "{filter}");
        }
    }

    #[test]
    fn pieces_are_bounded_and_nothing_is_lost_between_them() {
        let topics: Vec<_> = (0..300).map(|i| format!("t/{i:03}")).collect();
        let mut kept = retained(&topics.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(
            kept.piece(NOW, HERE, "t/+", None, u64::MAX, ROOM).0.len(),
            ROOM.messages
        );
        let narrow = Room { bytes: 1, ..ROOM };
        assert_eq!(
            kept.piece(NOW, HERE, "t/+", None, u64::MAX, narrow).0.len(),
            1
        );
        assert_eq!(replay(&mut kept, "t/+"), topics);
    }

    #[test]
    fn what_is_kept_later_is_left_out() {
        let mut kept = retained(&["a", "b", "c"]);
        let until = kept.kept();
        let message = |topic: &str| Message::new(topic, &[], b"later", Qos::AtMostOnce, true);
        kept.keep(HERE, &message("b"));
        kept.keep(HERE, &message("d"));
        let topics = |kept: &mut Retained, until| {
            let (messages, _) = kept.piece(NOW, HERE, "#", None, until, ROOM);
            messages
                .iter()
                .map(|message| message.topic().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(topics(&mut kept, until), ["a", "c"]);
        let until = kept.kept();
        assert_eq!(topics(&mut kept, until), ["a", "b", "c", "d"]);
    }

    #[test]
    fn bounds_hold_and_bytes_are_given_back() {
        let mut kept = Retained::new(1, 1 << 20);
        let message =
            |topic: &str, payload: &[u8]| Message::new(topic, &[], payload, Qos::AtMostOnce, true);
        assert_eq!(kept.keep(HERE, &message("a", b"1")), Kept::Stored);
        assert_eq!(kept.keep(HERE, &message("b", b"1")), Kept::Full);
        assert_eq!(kept.keep(HERE, &message("a", b"22")), Kept::Stored);
        assert_eq!(kept.keep(HERE, &message("a", b"")), Kept::Cleared);
        assert_eq!((kept.len(), kept.bytes()), (0, 0));
        assert_eq!(kept.keep(HERE, &message("a", b"")), Kept::Nothing);
    }

    #[test]
    fn an_expired_message_is_not_replayed_and_goes() {
        let mut kept = Retained::new(10, 1 << 20);
        let message =
            Message::new("a", &[], b"x", Qos::AtMostOnce, true).with_expiry(Millis(1_000));
        kept.keep(HERE, &message);
        assert_eq!(
            kept.piece(Millis(999), HERE, "a", None, u64::MAX, ROOM)
                .0
                .len(),
            1
        );
        assert_eq!(
            kept.piece(Millis(1_000), HERE, "a", None, u64::MAX, ROOM)
                .0
                .len(),
            0
        );
        assert_eq!(kept.len(), 0);
    }
}
