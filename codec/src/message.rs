//! [`Message`]: what every protocol decodes to and encodes from, in one reference-counted block.

use std::fmt;
use std::iter::repeat_n;
use std::ops::Range;
use std::sync::Arc;

use crate::conversation::Millis;
use crate::mqtt::properties::PublishProperties;

/// Quality of service of a message or a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    #[default]
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl Qos {
    /// 0, 1 or 2; `None` for the reserved value and anything above.
    pub fn from_u8(value: u8) -> Option<Qos> {
        match value {
            0 => Some(Qos::AtMostOnce),
            1 => Some(Qos::AtLeastOnce),
            2 => Some(Qos::ExactlyOnce),
            _ => None,
        }
    }
}

/// An application message: topic, properties and payload in one shared block.
///
/// A clone costs one count; the bytes are never copied per subscriber. The block may be a stretch of the PUBLISH
/// packet as it came from the wire (gaps between the parts included), so that decoding costs one allocation.
/// Properties are the forwardable ones of MQTT 5 in their wire form, already validated: payload format, content
/// type, response topic, correlation data, user properties. Message expiry is a deadline, not a property.
#[derive(Clone)]
pub struct Message {
    block: Arc<[u8]>,
    expires_at: Millis,
    /// Microseconds, wrapping, of the moment the driver read it; 0 where nobody measures.
    read_at_us: u32,
    properties_start: u32,
    properties_len: u32,
    payload_start: u32,
    topic_len: u16,
    qos: Qos,
    retain: bool,
}

impl Message {
    /// A message from its parts. `properties` are in MQTT 5 wire form without the length in front, forwardable
    /// ones only; `topic` has at most 65,535 bytes (longer ones are cut by no caller: codecs check first).
    pub fn new(topic: &str, properties: &[u8], payload: &[u8], qos: Qos, retain: bool) -> Message {
        let properties_start = topic.len();
        let payload_start = properties_start + properties.len();
        // An iterator of known length fills the block in one allocation; zeros first and slices over them are
        // several times faster than the bytes one by one.
        let mut block: Arc<[u8]> = repeat_n(0, payload_start + payload.len()).collect();
        let bytes = Arc::get_mut(&mut block).expect("nobody else knows the new block");
        bytes[..properties_start].copy_from_slice(topic.as_bytes());
        bytes[properties_start..payload_start].copy_from_slice(properties);
        bytes[payload_start..].copy_from_slice(payload);
        Message {
            block,
            expires_at: Millis::NEVER,
            read_at_us: 0,
            properties_start: properties_start as u32,
            properties_len: properties.len() as u32,
            payload_start: payload_start as u32,
            topic_len: u16::try_from(topic.len()).expect("codecs refuse topics above 65,535 bytes"),
            qos,
            retain,
        }
    }

    /// A message whose block is a stretch of a packet that begins with the topic and ends with the payload.
    ///
    /// The topic must be valid UTF-8 and `properties` hold forwardable properties only; both ranges count from
    /// the start of `block`.
    pub fn from_packet(
        block: &[u8],
        topic_len: u16,
        properties: Range<usize>,
        payload_start: usize,
        qos: Qos,
        retain: bool,
    ) -> Message {
        debug_assert!(usize::from(topic_len) <= properties.start || properties.is_empty());
        debug_assert!(properties.end <= payload_start && payload_start <= block.len());
        Message {
            block: Arc::from(block),
            expires_at: Millis::NEVER,
            read_at_us: 0,
            properties_start: properties.start as u32,
            properties_len: properties.len() as u32,
            payload_start: payload_start as u32,
            topic_len,
            qos,
            retain,
        }
    }

    pub fn with_expiry(mut self, expires_at: Millis) -> Message {
        self.expires_at = expires_at;
        self
    }

    /// Stamps the moment of reading, from which `delivery_seconds` is measured.
    pub fn stamp_read_at(&mut self, microseconds: u32) {
        self.read_at_us = microseconds;
    }

    pub fn topic(&self) -> &str {
        // A constructor took the bytes from a `&str` or a codec checked them; the empty name matches no filter.
        std::str::from_utf8(self.topic_bytes()).unwrap_or_default()
    }

    pub fn topic_bytes(&self) -> &[u8] {
        &self.block[..usize::from(self.topic_len)]
    }

    pub fn payload(&self) -> &[u8] {
        &self.block[self.payload_start as usize..]
    }

    pub fn properties(&self) -> PublishProperties<'_> {
        PublishProperties::new(self.properties_bytes())
    }

    /// The forwardable properties as they stand on an MQTT 5 wire, without the length in front.
    pub fn properties_bytes(&self) -> &[u8] {
        &self.block[self.properties_range()]
    }

    /// Where the properties stand in [`Message::block`].
    pub fn properties_range(&self) -> Range<usize> {
        let start = self.properties_start as usize;
        start..start + self.properties_len as usize
    }

    /// Where the payload stands in [`Message::block`].
    pub fn payload_range(&self) -> Range<usize> {
        self.payload_start as usize..self.block.len()
    }

    /// The shared bytes, for sinks that keep a reference instead of a copy.
    pub fn block(&self) -> &Arc<[u8]> {
        &self.block
    }

    /// The publisher's QoS.
    pub fn qos(&self) -> Qos {
        self.qos
    }

    /// The publisher's RETAIN flag.
    pub fn retain(&self) -> bool {
        self.retain
    }

    /// When the message expires; [`Millis::NEVER`] where it does not.
    pub fn expires_at(&self) -> Millis {
        self.expires_at
    }

    pub fn expired(&self, now: Millis) -> bool {
        self.expires_at <= now
    }

    /// Whole seconds left, at least 1 while the message is alive. Rounded to the nearest: the clock of a shard that
    /// sends may lag a turn behind that of the one that received, and rounding up would then show more than the
    /// publisher gave [MQTT-3.3.2-6].
    pub fn expiry_seconds(&self, now: Millis) -> Option<u32> {
        if self.expires_at == Millis::NEVER {
            return None;
        }
        let left = (self.expires_at.since(now) + 500) / 1_000;
        Some(left.clamp(1, u64::from(u32::MAX)) as u32)
    }

    pub fn read_at_us(&self) -> u32 {
        self.read_at_us
    }

    /// Bytes this message is charged with in a memory budget.
    pub fn size(&self) -> usize {
        self.block.len() + size_of::<Message>()
    }
}

impl fmt::Debug for Message {
    /// Payloads may be secret and large: only their length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("topic", &self.topic())
            .field("payload_bytes", &self.payload().len())
            .field("qos", &self.qos)
            .field("retain", &self.retain)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_from_one_block() {
        let message = Message::new("a/b", &[1, 1], b"payload", Qos::AtLeastOnce, true);
        assert_eq!(message.topic(), "a/b");
        assert_eq!(message.properties_bytes(), &[1, 1]);
        assert_eq!(message.payload(), b"payload");
        assert!(size_of::<Message>() <= 48);
    }

    #[test]
    fn a_packet_with_gaps_is_kept_as_it_came() {
        let packet = b"a/b\x00\x07\x02\x01\x01hello";
        let message = Message::from_packet(packet, 3, 6..8, 8, Qos::AtLeastOnce, false);
        assert_eq!((message.topic(), message.payload()), ("a/b", &b"hello"[..]));
        assert_eq!(message.properties_bytes(), &[1, 1]);
    }

    #[test]
    fn mqtt5_3_3_2_6_expiry_counts_down_and_never_shows_more_than_was_given() {
        let expiring = Message::new("a", &[], b"", Qos::AtMostOnce, false);
        let message = expiring.with_expiry(Millis(2_500));
        assert_eq!(message.expiry_seconds(Millis(0)), Some(3));
        assert_eq!(message.expiry_seconds(Millis(500)), Some(2));
        assert_eq!(message.expiry_seconds(Millis(2_499)), Some(1));
        // Given two seconds at 500 by a shard whose clock is 20 ms ahead.
        assert_eq!(message.expiry_seconds(Millis(480)), Some(2));
        assert!(!message.expired(Millis(2_499)));
        assert!(message.expired(Millis(2_500)));
    }
}
