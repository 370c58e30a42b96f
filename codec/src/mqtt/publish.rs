//! PUBLISH (MQTT 5 section 3.3, 3.1.1 section 3.3).
//!
//! ```text
//! byte 1          0011 DUP QoS QoS RETAIN
//! byte 2…         remaining length
//! topic name      UTF-8 string; empty where an alias stands for it
//! packet id       two bytes, with QoS 1 and 2 only
//! properties      MQTT 5: length, then properties
//! payload         the rest
//! ```
//!
//! Decoding costs no allocation ([`PublishView`]) and turning the view into a [`Message`] costs one: the stretch
//! of the packet from the topic to the end of the payload is kept as it came.

use std::ops::Range;

use super::alias::OutboundAlias;
use super::frame::{begin, packet_len, PacketType};
use super::properties::{
    subscription_id_len, Carrier, Property, PropertyReader, PublishProperties,
};
use super::{malformed, packet_id, ProtocolVersion};
use crate::conversation::{Delivered, Delivery, FrameSink, Millis, Violation};
use crate::cursor::{variable_integer_len, Reader, Writer, VARIABLE_INTEGER_MAX};
use crate::message::{Message, Qos};

/// A PUBLISH read in place.
#[derive(Debug, Clone)]
pub struct PublishView<'a> {
    /// Empty where only an alias was sent and nobody resolved it yet.
    pub topic: &'a str,
    pub payload: &'a [u8],
    /// 0 for QoS 0.
    pub packet_id: u16,
    pub qos: Qos,
    pub dup: bool,
    pub retain: bool,
    pub topic_alias: Option<u16>,
    /// Seconds.
    pub message_expiry_interval: Option<u32>,
    /// Whether there is at least one subscription identifier.
    pub has_subscription_ids: bool,
    /// All properties, in their wire form.
    properties: &'a [u8],
    /// The packet from the first byte of the topic on.
    stretch: &'a [u8],
    /// Where the forwardable properties stand in `stretch`; nowhere where others stand between them.
    forwardable: Forwardable,
}

/// Small, because views are moved around.
#[derive(Debug, Clone, Copy)]
enum Forwardable {
    Run { start: u32, end: u32 },
    Scattered,
}

impl Forwardable {
    /// With the property at `start..end` added.
    fn with(self, next: Range<usize>) -> Forwardable {
        let (next_start, next_end) = (next.start as u32, next.end as u32);
        match self {
            Forwardable::Run { start, end } if start == end => Forwardable::Run {
                start: next_start,
                end: next_end,
            },
            Forwardable::Run { start, end } if end == next_start => Forwardable::Run {
                start,
                end: next_end,
            },
            _ => Forwardable::Scattered,
        }
    }
}

impl<'a> PublishView<'a> {
    /// Reads the body of a PUBLISH whose flags were checked as part of its header. Topics are checked by the
    /// caller, who knows its limits and aliases.
    #[inline]
    pub fn decode(flags: u8, body: &'a [u8], version: ProtocolVersion) -> Result<Self, Violation> {
        let qos = Qos::from_u8(flags >> 1 & 0b11)
            .ok_or(malformed("MQTT-3.3.1-4", "PUBLISH with QoS 3"))?;
        let mut reader = Reader::new(body);
        let topic = reader.string()?; // [MQTT-3.3.2-1]
                                      // [MQTT-2.2.1-2], [3.1.1 MQTT-2.3.1-5]: no packet id with QoS 0.
        let packet_id = if qos == Qos::AtMostOnce {
            0
        } else {
            packet_id(&mut reader)?
        };
        let mut view = PublishView {
            topic,
            payload: &[],
            packet_id,
            qos,
            dup: flags & 0b1000 != 0,
            retain: flags & 0b0001 != 0,
            topic_alias: None,
            message_expiry_interval: None,
            has_subscription_ids: false,
            properties: &[],
            stretch: &body[2..],
            forwardable: Forwardable::Run { start: 0, end: 0 },
        };
        if version.is_v5() {
            view.read_properties(&mut reader)?;
        }
        view.payload = reader.rest();
        Ok(view)
    }

    fn read_properties(&mut self, reader: &mut Reader<'a>) -> Result<(), Violation> {
        let len = reader.variable_integer()?;
        let offset = reader.position() - 2; // in `stretch`, which begins behind the topic's length
        self.properties = reader.take(len as usize)?;
        let carrier = Carrier::Packet(PacketType::Publish);
        let mut properties = PropertyReader::new(self.properties, carrier);
        loop {
            let start = offset + properties.position();
            let Some(property) = properties.try_next()? else {
                break;
            };
            match property {
                Property::TopicAlias(alias) => self.topic_alias = Some(alias),
                Property::MessageExpiryInterval(seconds) => {
                    self.message_expiry_interval = Some(seconds);
                }
                Property::SubscriptionIdentifier(_) => self.has_subscription_ids = true,
                _ => {
                    let end = offset + properties.position();
                    self.forwardable = self.forwardable.with(start..end);
                }
            }
        }
        Ok(())
    }

    /// All properties of the packet.
    pub fn properties(&self) -> PublishProperties<'a> {
        PublishProperties::new(self.properties)
    }

    /// The identifiers of the subscriptions that matched; only servers send them.
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.properties()
            .iter()
            .filter_map(|property| match property {
                Property::SubscriptionIdentifier(id) => Some(id),
                _ => None,
            })
    }

    /// The message, with its expiry counted from `now`. The topic must be in place.
    pub fn to_message(&self, now: Millis) -> Message {
        let mut message = match self.forwardable {
            Forwardable::Run { start, end } => {
                let properties = start as usize..end as usize;
                if self.topic_is_in_place() {
                    Message::from_packet(
                        self.stretch,
                        self.topic.len() as u16,
                        properties,
                        self.stretch.len() - self.payload.len(),
                        self.qos,
                        self.retain,
                    )
                } else {
                    self.rebuild(&self.stretch[properties])
                }
            }
            Forwardable::Scattered => self.rebuild(&self.forwardable_properties()),
        };
        if let Some(seconds) = self.message_expiry_interval {
            message = message.with_expiry(now.plus_seconds(seconds));
        }
        message
    }

    /// Whether the topic is the packet's own and not one that an alias stood for.
    fn topic_is_in_place(&self) -> bool {
        std::ptr::eq(self.topic.as_ptr(), self.stretch.as_ptr())
    }

    fn rebuild(&self, properties: &[u8]) -> Message {
        Message::new(self.topic, properties, self.payload, self.qos, self.retain)
    }

    /// Rare: forwardable properties with others between them are gathered.
    fn forwardable_properties(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.properties.len());
        let mut writer = Writer::new(&mut bytes);
        let properties = self.properties().iter();
        properties
            .filter(Property::is_forwardable)
            .for_each(|property| property.write(&mut writer));
        drop(writer);
        bytes
    }
}

fn first_byte(qos: Qos, retain: bool, dup: bool) -> u8 {
    // [MQTT-3.3.1-2]: QoS 0 never bears DUP.
    let dup = dup && qos != Qos::AtMostOnce;
    (PacketType::Publish as u8) << 4 | u8::from(dup) << 3 | (qos as u8) << 1 | u8::from(retain)
}

/// Remaining length; `properties_len` is `None` before MQTT 5.
fn remaining_len(topic: usize, qos: Qos, properties_len: Option<usize>, payload: usize) -> usize {
    let packet_id = if qos == Qos::AtMostOnce { 0 } else { 2 };
    let properties = properties_len.map_or(0, |len| variable_integer_len(len as u32) + len);
    2 + topic + packet_id + properties + payload
}

/// Writes a delivery to a client, straight from the message's block, unless it exceeds `max` bytes.
pub(super) fn encode_delivery(
    delivery: &Delivery<'_>,
    version: ProtocolVersion,
    alias: Option<OutboundAlias>,
    max: u32,
    out: &mut impl FrameSink,
) -> Delivered {
    let message = delivery.message;
    let alias_known = alias.is_some_and(|alias| alias.known);
    let topic_len = if alias_known {
        0
    } else {
        message.topic_bytes().len()
    };
    let properties_len = version.is_v5().then(|| {
        let ids = delivery.subscription_ids.iter();
        delivery.expiry_seconds.map_or(0, |_| 5)
            + alias.map_or(0, |_| 3)
            + ids.map(|&id| subscription_id_len(id)).sum::<usize>()
            + message.properties_range().len()
    });
    let remaining = remaining_len(
        topic_len,
        delivery.qos,
        properties_len,
        message.payload_range().len(),
    );
    if packet_len(remaining) > max as usize || remaining > VARIABLE_INTEGER_MAX as usize {
        return Delivered::TooLarge;
    }

    let mut writer = begin(
        first_byte(delivery.qos, delivery.retain, delivery.dup),
        remaining,
        out,
    );
    writer.u16(topic_len as u16);
    writer.shared(message.block(), 0..topic_len);
    if delivery.qos != Qos::AtMostOnce {
        writer.u16(delivery.packet_id);
    }
    if let Some(len) = properties_len {
        writer.variable_integer(len as u32);
        if let Some(seconds) = delivery.expiry_seconds {
            Property::MessageExpiryInterval(seconds).write(&mut writer);
        }
        if let Some(alias) = alias {
            Property::TopicAlias(alias.number).write(&mut writer);
        }
        for &id in delivery.subscription_ids {
            Property::SubscriptionIdentifier(id).write(&mut writer);
        }
        writer.shared(message.block(), message.properties_range());
    }
    writer.shared(message.block(), message.payload_range());
    Delivered::Written
}

/// A PUBLISH from its parts, as a client writes it.
#[derive(Debug, Clone, Copy, Default)]
pub struct PublishParts<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub qos: Qos,
    pub retain: bool,
    pub dup: bool,
    /// Not written with QoS 0.
    pub packet_id: u16,
    /// In wire form, without the length in front; not written before MQTT 5.
    pub properties: &'a [u8],
}

impl PublishParts<'_> {
    /// Writes the packet, unless it exceeds `max` bytes or what the standard can say.
    pub fn encode(
        &self,
        version: ProtocolVersion,
        max: u32,
        out: &mut impl FrameSink,
    ) -> Delivered {
        let properties_len = version.is_v5().then_some(self.properties.len());
        let remaining = remaining_len(
            self.topic.len(),
            self.qos,
            properties_len,
            self.payload.len(),
        );
        let sayable =
            remaining <= VARIABLE_INTEGER_MAX as usize && self.topic.len() <= usize::from(u16::MAX);
        if packet_len(remaining) > max as usize || !sayable {
            return Delivered::TooLarge;
        }
        let mut writer = begin(first_byte(self.qos, self.retain, self.dup), remaining, out);
        writer.string(self.topic);
        if self.qos != Qos::AtMostOnce {
            writer.u16(self.packet_id);
        }
        if let Some(len) = properties_len {
            writer.variable_integer(len as u32);
            writer.bytes(self.properties);
        }
        writer.bytes(self.payload);
        Delivered::Written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const NOW: Millis = Millis(5_000);

    /// The message of a QoS 0 PUBLISH of MQTT 5 with these properties.
    fn message(properties: &[u8]) -> Message {
        let body = [
            b"\0\x03a/b",
            &[properties.len() as u8][..],
            properties,
            b"payload",
        ]
        .concat();
        PublishView::decode(0, &body, ProtocolVersion::V5)
            .unwrap()
            .to_message(NOW)
    }

    #[test]
    fn the_packet_is_kept_as_it_came_where_its_properties_stand_together() {
        const TYPE: &[u8] = b"\x03\0\x01t";
        const EXPIRY: &[u8] = b"\x02\0\0\0\x02";
        const USER: &[u8] = b"\x26\0\x01k\0\x01v";
        for (parts, in_place) in [
            (&[][..], true),
            (&[TYPE, USER], true),
            (&[EXPIRY, TYPE, USER], true),
            (&[TYPE, USER, EXPIRY], true),
            (&[TYPE, EXPIRY, USER], false),
        ] {
            let properties = parts.concat();
            let message = message(&properties);
            let without_expiry: Vec<_> = parts
                .iter()
                .filter(|part| **part != EXPIRY)
                .copied()
                .collect();
            assert_eq!(
                message.properties_bytes(),
                without_expiry.concat(),
                "{parts:02x?}"
            );
            assert_eq!(
                (message.topic(), message.payload()),
                ("a/b", &b"payload"[..])
            );
            let kept = message.block().len() == 3 + 1 + properties.len() + 7;
            assert_eq!(kept, in_place, "{parts:02x?}");
            let expires = parts.contains(&EXPIRY);
            assert_eq!(
                message.expires_at(),
                if expires { NOW + 2_000 } else { Millis::NEVER }
            );
        }
    }

    /// A sink that keeps what it was given apart.
    #[derive(Default)]
    struct Pieces {
        own: Vec<Vec<u8>>,
        shared: Vec<Range<usize>>,
    }

    impl FrameSink for Pieces {
        fn put(&mut self, bytes: &[u8]) {
            self.own.push(bytes.to_vec());
        }

        fn put_shared(&mut self, _block: &Arc<[u8]>, range: Range<usize>) {
            self.shared.push(range);
        }
    }

    fn pieces(payload_len: usize) -> Pieces {
        let message = Message::new("a/b", &[], &vec![7; payload_len], Qos::AtLeastOnce, false);
        let delivery = Delivery {
            message: &message,
            qos: Qos::AtLeastOnce,
            retain: false,
            dup: true,
            packet_id: 0x0102,
            subscription_ids: &[],
            expiry_seconds: None,
        };
        let mut pieces = Pieces::default();
        encode_delivery(
            &delivery,
            ProtocolVersion::V3_1_1,
            None,
            u32::MAX,
            &mut pieces,
        );
        pieces
    }

    #[test]
    fn a_long_payload_is_shared_and_a_short_one_goes_with_the_head() {
        let long = pieces(500);
        assert_eq!(long.own, [b"\x3A\xFB\x03\0\x03a/b\x01\x02"]);
        assert_eq!((long.shared.len(), &long.shared[0]), (1, &(3..503)));
        let short = pieces(50);
        assert_eq!(
            (short.own.len(), short.own[0].len(), short.shared.len()),
            (1, 59, 0)
        );
    }

    #[test]
    fn mqtt5_3_3_1_2_qos_0_never_bears_dup() {
        let parts = PublishParts {
            topic: "a",
            dup: true,
            ..PublishParts::default()
        };
        let mut bytes = Vec::new();
        parts.encode(ProtocolVersion::V5, u32::MAX, &mut bytes);
        assert_eq!(bytes, b"\x30\x04\0\x01a\0");
        assert_eq!(
            parts.encode(ProtocolVersion::V5, 5, &mut bytes),
            Delivered::TooLarge
        );
    }
}
