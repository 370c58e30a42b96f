//! SUBSCRIBE and its subscription options (MQTT 5 section 3.8, 3.1.1 section 3.8).
//!
//! ```text
//! byte 1          1000 0010
//! byte 2…         remaining length
//! packet id       two bytes
//! properties      MQTT 5: subscription identifier, user properties
//! topic filter    UTF-8 string      ┐ once a subscription,
//! options         one byte          ┘ at least once [MQTT-3.8.3-2]
//! ```

use super::frame::{begin, PacketType};
use super::properties::{write_properties, Carrier, Property, PropertyReader};
use super::{malformed, packet_id, protocol_error, ProtocolVersion};
use crate::conversation::{FrameSink, Violation};
use crate::cursor::{Count, Reader, Writer};
use crate::message::Qos;
use crate::topic::{TopicError, TopicFilter, TopicLimits};

pub use super::unsubscribe::Unsubscribe;

/// A decoded SUBSCRIBE.
#[derive(Debug, Clone)]
pub struct Subscribe {
    pub packet_id: u16,
    /// 1 to 268,435,455, or `None`.
    pub subscription_id: Option<u32>,
    /// At least one, in the order of the packet.
    pub subscriptions: Vec<RequestedSubscription>,
}

/// One filter of a SUBSCRIBE. A filter that breaks a rule of topic filters (but is valid UTF-8) is answered
/// with a reason code of its own instead of closing the connection.
#[derive(Debug, Clone)]
pub struct RequestedSubscription {
    pub filter: Result<TopicFilter, TopicError>,
    pub options: SubscriptionOptions,
}

/// Subscription options byte, MQTT 5 section 3.8.3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubscriptionOptions {
    pub maximum_qos: Qos,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RetainHandling {
    #[default]
    SendAtSubscribe = 0,
    SendAtNewSubscribe = 1,
    DoNotSend = 2,
}

impl SubscriptionOptions {
    /// Options that only name a QoS, as 3.1.1 does.
    pub fn qos(maximum_qos: Qos) -> SubscriptionOptions {
        SubscriptionOptions {
            maximum_qos,
            ..SubscriptionOptions::default()
        }
    }

    /// Reads the byte; the upper bits mean something in MQTT 5 only.
    pub fn from_byte(byte: u8, version: ProtocolVersion) -> Result<Self, Violation> {
        const RESERVED: Violation = malformed(
            "MQTT-3.8.3-5, 3.1.1 MQTT-3.8.3-4",
            "reserved bits of subscription options",
        );
        let maximum_qos = Qos::from_u8(byte & 0b11).ok_or(if version.is_v5() {
            protocol_error("MQTT 5 3.8.3.1", "subscription with QoS 3")
        } else {
            malformed("3.1.1 MQTT-3.8.3-4", "subscription with QoS 3")
        })?;
        match version {
            ProtocolVersion::V5 => {}
            // MQTT 3.1 calls these bits "not used".
            ProtocolVersion::V3_1 => return Ok(Self::qos(maximum_qos)),
            ProtocolVersion::V3_1_1 if byte & !0b11 != 0 => return Err(RESERVED),
            ProtocolVersion::V3_1_1 => return Ok(Self::qos(maximum_qos)),
        }
        if byte & 0b1100_0000 != 0 {
            return Err(RESERVED);
        }
        let retain_handling = match byte >> 4 & 0b11 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendAtNewSubscribe,
            2 => RetainHandling::DoNotSend,
            _ => return Err(protocol_error("MQTT 5 3.8.3.1", "retain handling 3")),
        };
        Ok(SubscriptionOptions {
            maximum_qos,
            no_local: byte & 0b0100 != 0,
            retain_as_published: byte & 0b1000 != 0,
            retain_handling,
        })
    }

    /// The byte as `version` writes it.
    pub fn to_byte(self, version: ProtocolVersion) -> u8 {
        let qos = self.maximum_qos as u8;
        if !version.is_v5() {
            return qos;
        }
        qos | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

impl Subscribe {
    pub fn decode(
        body: &[u8],
        version: ProtocolVersion,
        limits: TopicLimits,
    ) -> Result<Subscribe, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = packet_id(&mut reader)?; // [MQTT-2.2.1-3], [3.1.1 MQTT-2.3.1-1]
        let mut subscription_id = None;
        if version.is_v5() {
            let carrier = Carrier::Packet(PacketType::Subscribe);
            let mut properties = PropertyReader::take(&mut reader, carrier)?;
            while let Some(property) = properties.try_next()? {
                if let Property::SubscriptionIdentifier(id) = property {
                    subscription_id = Some(id);
                }
            }
        }
        let mut subscriptions = Vec::new();
        while !reader.is_empty() {
            subscriptions.push(RequestedSubscription::read(&mut reader, version, limits)?);
        }
        if subscriptions.is_empty() {
            let rule = "MQTT-3.8.3-2, 3.1.1 MQTT-3.8.3-3";
            return Err(protocol_error(rule, "SUBSCRIBE without a topic filter"));
        }
        Ok(Subscribe {
            packet_id,
            subscription_id,
            subscriptions,
        })
    }
}

impl RequestedSubscription {
    fn read(
        reader: &mut Reader<'_>,
        version: ProtocolVersion,
        limits: TopicLimits,
    ) -> Result<Self, Violation> {
        let filter = read_filter(reader, version, limits)?; // [MQTT-3.8.3-1]
        let options = SubscriptionOptions::from_byte(reader.u8()?, version)?;
        if options.no_local && filter.as_ref().is_ok_and(TopicFilter::is_shared) {
            return Err(protocol_error(
                "MQTT-3.8.3-4",
                "No Local on a shared subscription",
            ));
        }
        Ok(RequestedSubscription { filter, options })
    }
}

/// A filter of a SUBSCRIBE or UNSUBSCRIBE. MQTT 5 answers a filter that is none with a reason code of its own.
/// For 3.1.1 it is a protocol violation that closes [3.1.1 MQTT-4.8.0-1]; what breaks only our limits, or the
/// rules of shared subscriptions that 3.1.1 does not know, is answered with failure there too.
pub(super) fn read_filter(
    reader: &mut Reader<'_>,
    version: ProtocolVersion,
    limits: TopicLimits,
) -> Result<Result<TopicFilter, TopicError>, Violation> {
    let filter = TopicFilter::parse(reader.string()?, limits);
    match filter {
        _ if version.is_v5() => Ok(filter),
        Err(TopicError::Empty) => Err(protocol_error("3.1.1 MQTT-4.7.3-1", "empty topic filter")),
        Err(TopicError::MisplacedWildcard) => Err(protocol_error(
            "3.1.1 MQTT-4.7.1-2",
            "misplaced wildcard in a topic filter",
        )),
        filter => Ok(filter),
    }
}

/// Writes a SUBSCRIBE. Filters go out as they are, so that a test can send wrong ones.
pub fn encode(
    packet_id: u16,
    subscriptions: &[(&str, SubscriptionOptions)],
    subscription_id: Option<u32>,
    version: ProtocolVersion,
    out: &mut impl FrameSink,
) {
    fn write_body<S: FrameSink>(
        packet_id: u16,
        subscriptions: &[(&str, SubscriptionOptions)],
        properties: &[Property<'_>],
        version: ProtocolVersion,
        writer: &mut Writer<'_, S>,
    ) {
        writer.u16(packet_id);
        if version.is_v5() {
            write_properties(properties, writer);
        }
        for (filter, options) in subscriptions {
            writer.string(filter);
            writer.u8(options.to_byte(version));
        }
    }
    let id = subscription_id.map(Property::SubscriptionIdentifier);
    let properties = id.as_slice();
    let mut count = Count::default();
    write_body(
        packet_id,
        subscriptions,
        properties,
        version,
        &mut Writer::new(&mut count),
    );
    let mut writer = begin(PacketType::Subscribe.first_byte(), count.0, out);
    write_body(packet_id, subscriptions, properties, version, &mut writer);
}
