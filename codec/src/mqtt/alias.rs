//! Topic aliases (MQTT 5 section 3.3.2.3.4): numbers that stand for topics on one connection, one table a direction.

use super::properties::ALIAS_0;
use super::protocol_error;
use crate::conversation::Violation;
use crate::mqtt::reason_code::ReasonCode;

/// What the peer's aliases mean. Bounded by the Topic Alias Maximum we announced; empty while none is used.
#[derive(Debug, Default)]
pub(super) struct InboundAliases {
    topics: Vec<Option<Box<str>>>,
}

const ALIAS_TOO_HIGH: Violation = Violation::new(
    ReasonCode::TopicAliasInvalid,
    "MQTT-3.3.2-9",
    "topic alias above the announced maximum",
);
const ALIAS_UNKNOWN: Violation =
    protocol_error("MQTT 5 3.3.2.3.4", "topic alias that no topic was given to");

impl InboundAliases {
    /// An alias the peer may use: 1 to the maximum we announced [MQTT-3.3.2-9], [MQTT-3.3.2-11].
    pub(super) fn check(alias: u16, maximum: u16) -> Result<(), Violation> {
        match alias {
            0 => Err(ALIAS_0),
            _ if alias > maximum => Err(ALIAS_TOO_HIGH),
            _ => Ok(()),
        }
    }

    pub(super) fn resolve(&self, alias: u16) -> Result<&str, Violation> {
        let topic = self.topics.get(usize::from(alias).wrapping_sub(1));
        topic.and_then(Option::as_deref).ok_or(ALIAS_UNKNOWN)
    }

    /// Gives `alias`, which [`InboundAliases::check`] let pass, to `topic`.
    pub(super) fn assign(&mut self, alias: u16, topic: &str) {
        let index = usize::from(alias) - 1;
        if self.topics.len() <= index {
            self.topics.resize(index + 1, None);
        }
        if self.topics[index].as_deref() != Some(topic) {
            self.topics[index] = Some(topic.into());
        }
    }
}

/// An alias for one PUBLISH: known ones replace the topic, new ones go along with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutboundAlias {
    pub(super) number: u16,
    pub(super) known: bool,
}

/// Aliases we gave, the first topics first. Bounded by the client's maximum and by [`OUTBOUND_ALIASES_MAX`].
#[derive(Debug, Default)]
pub(super) struct OutboundAliases {
    topics: Vec<Box<[u8]>>,
}

/// More would make the linear search cost more than the bytes are worth, and a client with many topics does
/// not gain from the first few.
pub(super) const OUTBOUND_ALIASES_MAX: u16 = 16;

/// The property takes three bytes: a shorter topic gains nothing.
const TOPIC_BYTES_MIN: usize = 4;

impl OutboundAliases {
    /// The alias of `topic`, or the number it would get; `maximum` is the client's [MQTT-3.1.2-26].
    pub(super) fn propose(&self, topic: &[u8], maximum: u16) -> Option<OutboundAlias> {
        if topic.len() < TOPIC_BYTES_MIN {
            return None;
        }
        if let Some(index) = self.topics.iter().position(|known| **known == *topic) {
            return Some(OutboundAlias {
                number: index as u16 + 1,
                known: true,
            });
        }
        let number = self.topics.len() as u16 + 1;
        (number <= maximum.min(OUTBOUND_ALIASES_MAX)).then_some(OutboundAlias {
            number,
            known: false,
        })
    }

    /// The PUBLISH that introduces the proposed alias was written.
    pub(super) fn introduce(&mut self, topic: &[u8]) {
        self.topics.push(topic.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mqtt5_3_3_2_9_aliases_above_the_maximum_are_refused() {
        assert_eq!(InboundAliases::check(0, 4), Err(ALIAS_0));
        assert_eq!(InboundAliases::check(4, 4), Ok(()));
        assert_eq!(InboundAliases::check(5, 4), Err(ALIAS_TOO_HIGH));
    }

    #[test]
    fn an_alias_can_be_given_to_another_topic() {
        let mut aliases = InboundAliases::default();
        assert_eq!(aliases.resolve(2), Err(ALIAS_UNKNOWN));
        aliases.assign(2, "a");
        assert_eq!(
            (aliases.resolve(2), aliases.resolve(1)),
            (Ok("a"), Err(ALIAS_UNKNOWN))
        );
        aliases.assign(2, "b");
        assert_eq!(aliases.resolve(2), Ok("b"));
    }

    #[test]
    fn mqtt5_3_1_2_26_outbound_aliases_stay_within_the_clients_maximum() {
        let mut aliases = OutboundAliases::default();
        let fresh = |number| {
            Some(OutboundAlias {
                number,
                known: false,
            })
        };
        assert_eq!(aliases.propose(b"topic/1", 0), None);
        assert_eq!(aliases.propose(b"abc", 9), None);
        assert_eq!(aliases.propose(b"topic/1", 1), fresh(1));
        aliases.introduce(b"topic/1");
        assert_eq!(aliases.propose(b"topic/2", 1), None);
        assert_eq!(aliases.propose(b"topic/2", 2), fresh(2));
        assert_eq!(
            aliases.propose(b"topic/1", 1),
            Some(OutboundAlias {
                number: 1,
                known: true
            })
        );
    }
}
