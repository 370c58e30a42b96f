//! Properties of MQTT 5 (section 2.2.2): one table of ids, types and carriers, one reader, one writer.

use super::frame::PacketType;
use super::{malformed, protocol_error};
use crate::conversation::{FrameSink, Violation};
use crate::cursor::{variable_integer_len, Count, Reader, Writer};
use crate::mqtt::reason_code::ReasonCode;

pub use super::publish_properties::{
    NotRepresentable, PublishProperties, PublishPropertiesBuilder,
};

/// One property with its value, as MQTT 5 table 2-4 lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    /// Whether the payload is UTF-8 text.
    PayloadFormatIndicator(bool),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(bool),
    WillDelayInterval(u32),
    RequestResponseInformation(bool),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    /// 0 or 1: QoS 2 is said by silence.
    MaximumQos(u8),
    RetainAvailable(bool),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(bool),
    SubscriptionIdentifierAvailable(bool),
    SharedSubscriptionAvailable(bool),
}

/// What carries properties: a packet, or the will inside a CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Packet(PacketType),
    Will,
}

impl Carrier {
    const fn bit(self) -> u16 {
        match self {
            Carrier::Packet(packet) => 1 << packet as u8,
            Carrier::Will => 1, // packet type 0 is reserved
        }
    }
}

/// Bits of the packets that may carry the property `id`; 0 for an id that is none (MQTT 5 table 2-4).
const fn carriers(id: u8) -> u16 {
    const WILL: u16 = Carrier::Will.bit();
    const CONNECT: u16 = Carrier::Packet(PacketType::Connect).bit();
    const CONNACK: u16 = Carrier::Packet(PacketType::ConnAck).bit();
    const PUBLISH: u16 = Carrier::Packet(PacketType::Publish).bit();
    const SUBSCRIBE: u16 = Carrier::Packet(PacketType::Subscribe).bit();
    const UNSUBSCRIBE: u16 = Carrier::Packet(PacketType::Unsubscribe).bit();
    const DISCONNECT: u16 = Carrier::Packet(PacketType::Disconnect).bit();
    const AUTH: u16 = Carrier::Packet(PacketType::Auth).bit();
    const ACKS: u16 = Carrier::Packet(PacketType::PubAck).bit()
        | Carrier::Packet(PacketType::PubRec).bit()
        | Carrier::Packet(PacketType::PubRel).bit()
        | Carrier::Packet(PacketType::PubComp).bit()
        | Carrier::Packet(PacketType::SubAck).bit()
        | Carrier::Packet(PacketType::UnsubAck).bit();
    match id {
        0x01 | 0x02 | 0x03 | 0x08 | 0x09 => PUBLISH | WILL,
        0x0B => PUBLISH | SUBSCRIBE,
        0x11 => CONNECT | CONNACK | DISCONNECT,
        0x12 | 0x13 => CONNACK,
        0x15 | 0x16 => CONNECT | CONNACK | AUTH,
        0x17 | 0x19 => CONNECT,
        0x18 => WILL,
        0x1A => CONNACK,
        0x1C => CONNACK | DISCONNECT,
        0x1F => CONNACK | ACKS | DISCONNECT | AUTH,
        0x21 | 0x22 | 0x27 => CONNECT | CONNACK,
        0x23 => PUBLISH,
        0x24 | 0x25 | 0x28 | 0x29 | 0x2A => CONNACK,
        0x26 => {
            CONNECT | CONNACK | PUBLISH | WILL | SUBSCRIBE | UNSUBSCRIBE | ACKS | DISCONNECT | AUTH
        }
        _ => 0,
    }
}

impl<'a> Property<'a> {
    /// Reads id and value and checks the value's range, not whether it may stand here.
    pub(super) fn read(id: u8, reader: &mut Reader<'a>) -> Result<Property<'a>, Violation> {
        use Property::*;
        Ok(match id {
            0x01 => PayloadFormatIndicator(flag(reader, "MQTT 5 3.3.2.3.2")?),
            0x02 => MessageExpiryInterval(reader.u32()?),
            0x03 => ContentType(reader.string()?),
            0x08 => ResponseTopic(response_topic(reader)?),
            0x09 => CorrelationData(reader.binary()?),
            0x0B => SubscriptionIdentifier(match reader.variable_integer()? {
                0 => {
                    return Err(protocol_error(
                        "MQTT 5 3.8.2.1.2",
                        "subscription identifier 0",
                    ))
                }
                id => id,
            }),
            0x11 => SessionExpiryInterval(reader.u32()?),
            0x12 => AssignedClientIdentifier(reader.string()?),
            0x13 => ServerKeepAlive(reader.u16()?),
            0x15 => AuthenticationMethod(reader.string()?),
            0x16 => AuthenticationData(reader.binary()?),
            0x17 => RequestProblemInformation(flag(reader, "MQTT 5 3.1.2.11.7")?),
            0x18 => WillDelayInterval(reader.u32()?),
            0x19 => RequestResponseInformation(flag(reader, "MQTT 5 3.1.2.11.6")?),
            0x1A => ResponseInformation(reader.string()?),
            0x1C => ServerReference(reader.string()?),
            0x1F => ReasonString(reader.string()?),
            0x21 => ReceiveMaximum(match reader.u16()? {
                0 => return Err(protocol_error("MQTT 5 3.1.2.11.3", "receive maximum 0")),
                maximum => maximum,
            }),
            0x22 => TopicAliasMaximum(reader.u16()?),
            0x23 => TopicAlias(match reader.u16()? {
                0 => return Err(ALIAS_0),
                alias => alias,
            }),
            0x24 => MaximumQos(u8::from(flag(reader, "MQTT 5 3.2.2.3.4")?)),
            0x25 => RetainAvailable(flag(reader, "MQTT 5 3.2.2.3.5")?),
            0x26 => UserProperty(reader.string()?, reader.string()?),
            0x27 => MaximumPacketSize(match reader.u32()? {
                0 => return Err(protocol_error("MQTT 5 3.1.2.11.4", "maximum packet size 0")),
                size => size,
            }),
            0x28 => WildcardSubscriptionAvailable(flag(reader, "MQTT 5 3.2.2.3.11")?),
            0x29 => SubscriptionIdentifierAvailable(flag(reader, "MQTT 5 3.2.2.3.12")?),
            0x2A => SharedSubscriptionAvailable(flag(reader, "MQTT 5 3.2.2.3.13")?),
            _ => return Err(NOT_HERE),
        })
    }

    pub fn id(&self) -> u8 {
        use Property::*;
        match self {
            PayloadFormatIndicator(_) => 0x01,
            MessageExpiryInterval(_) => 0x02,
            ContentType(_) => 0x03,
            ResponseTopic(_) => 0x08,
            CorrelationData(_) => 0x09,
            SubscriptionIdentifier(_) => 0x0B,
            SessionExpiryInterval(_) => 0x11,
            AssignedClientIdentifier(_) => 0x12,
            ServerKeepAlive(_) => 0x13,
            AuthenticationMethod(_) => 0x15,
            AuthenticationData(_) => 0x16,
            RequestProblemInformation(_) => 0x17,
            WillDelayInterval(_) => 0x18,
            RequestResponseInformation(_) => 0x19,
            ResponseInformation(_) => 0x1A,
            ServerReference(_) => 0x1C,
            ReasonString(_) => 0x1F,
            ReceiveMaximum(_) => 0x21,
            TopicAliasMaximum(_) => 0x22,
            TopicAlias(_) => 0x23,
            MaximumQos(_) => 0x24,
            RetainAvailable(_) => 0x25,
            UserProperty(..) => 0x26,
            MaximumPacketSize(_) => 0x27,
            WildcardSubscriptionAvailable(_) => 0x28,
            SubscriptionIdentifierAvailable(_) => 0x29,
            SharedSubscriptionAvailable(_) => 0x2A,
        }
    }

    /// Whether a server passes the property on with the message.
    pub fn is_forwardable(&self) -> bool {
        matches!(self.id(), 0x01 | 0x03 | 0x08 | 0x09 | 0x26)
    }

    pub(super) fn write<S: FrameSink>(&self, writer: &mut Writer<'_, S>) {
        use Property::*;
        writer.u8(self.id());
        match *self {
            PayloadFormatIndicator(flag)
            | RequestProblemInformation(flag)
            | RequestResponseInformation(flag)
            | RetainAvailable(flag)
            | WildcardSubscriptionAvailable(flag)
            | SubscriptionIdentifierAvailable(flag)
            | SharedSubscriptionAvailable(flag) => writer.u8(u8::from(flag)),
            MaximumQos(value) => writer.u8(value),
            ServerKeepAlive(value)
            | ReceiveMaximum(value)
            | TopicAliasMaximum(value)
            | TopicAlias(value) => writer.u16(value),
            MessageExpiryInterval(value)
            | SessionExpiryInterval(value)
            | WillDelayInterval(value)
            | MaximumPacketSize(value) => writer.u32(value),
            SubscriptionIdentifier(value) => writer.variable_integer(value),
            ContentType(text)
            | ResponseTopic(text)
            | AssignedClientIdentifier(text)
            | AuthenticationMethod(text)
            | ResponseInformation(text)
            | ServerReference(text)
            | ReasonString(text) => writer.string(text),
            CorrelationData(bytes) | AuthenticationData(bytes) => writer.binary(bytes),
            UserProperty(name, value) => {
                writer.string(name);
                writer.string(value);
            }
        }
    }
}

const NOT_HERE: Violation = malformed("MQTT 5 2.2.2.2", "property that this packet does not carry");
const TWICE: Violation = protocol_error("MQTT 5 2.2.2.2", "property more than once");
pub(super) const ALIAS_0: Violation = Violation::new(
    ReasonCode::TopicAliasInvalid,
    "MQTT-3.3.2-8",
    "topic alias 0",
);

/// A byte that may be 0 or 1; anything else is a Protocol Error.
fn flag(reader: &mut Reader<'_>, rule: &'static str) -> Result<bool, Violation> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(protocol_error(rule, "property value other than 0 and 1")),
    }
}

fn response_topic<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Violation> {
    let topic = reader.string()?; // [MQTT-3.3.2-13]
    if memchr::memchr2(b'+', b'#', topic.as_bytes()).is_some() {
        return Err(protocol_error(
            "MQTT-3.3.2-14",
            "wildcard in a response topic",
        ));
    }
    Ok(topic)
}

/// Walks over the properties of one packet and refuses what may not stand there.
#[derive(Debug, Clone)]
pub struct PropertyReader<'a> {
    reader: Reader<'a>,
    carrier: Carrier,
    /// One bit an id; the largest id is 0x2A.
    seen: u64,
}

impl<'a> PropertyReader<'a> {
    /// Takes the property length and the properties behind it from the front of `packet` [MQTT-2.2.2-1].
    pub fn take(packet: &mut Reader<'a>, carrier: Carrier) -> Result<Self, Violation> {
        let len = packet.variable_integer()?;
        let bytes = packet.take(len as usize)?;
        Ok(PropertyReader::new(bytes, carrier))
    }

    /// `bytes` are properties without the length in front.
    pub fn new(bytes: &'a [u8], carrier: Carrier) -> Self {
        PropertyReader {
            reader: Reader::new(bytes),
            carrier,
            seen: 0,
        }
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.reader.position()
    }

    pub fn try_next(&mut self) -> Result<Option<Property<'a>>, Violation> {
        if self.reader.is_empty() {
            return Ok(None);
        }
        // The id is a variable byte integer, but every id there is takes one byte.
        let id = self.reader.u8()?;
        if carriers(id) & self.carrier.bit() == 0 {
            return Err(NOT_HERE);
        }
        let bit = 1u64 << id;
        let repeatable = match id {
            0x26 => true,
            0x0B => self.carrier == Carrier::Packet(PacketType::Publish),
            _ => false,
        };
        if self.seen & bit != 0 && !repeatable {
            return Err(TWICE);
        }
        self.seen |= bit;
        Property::read(id, &mut self.reader).map(Some)
    }

    /// Checks properties that nobody here asks for, such as the reason string of a PUBACK.
    pub fn check(mut self) -> Result<(), Violation> {
        while self.try_next()?.is_some() {}
        Ok(())
    }
}

/// Writes the property length and the properties.
pub(super) fn write_properties<S: FrameSink>(
    properties: &[Property<'_>],
    writer: &mut Writer<'_, S>,
) {
    let mut count = Count::default();
    let mut counter = Writer::new(&mut count);
    properties
        .iter()
        .for_each(|property| property.write(&mut counter));
    drop(counter);
    writer.variable_integer(count.0 as u32);
    properties
        .iter()
        .for_each(|property| property.write(writer));
}

/// Bytes of one subscription identifier with its property id.
pub(super) const fn subscription_id_len(id: u32) -> usize {
    1 + variable_integer_len(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use PacketType::*;

    const PACKETS: [PacketType; 13] = [
        Connect,
        ConnAck,
        Publish,
        PubAck,
        PubRec,
        PubRel,
        PubComp,
        Subscribe,
        SubAck,
        Unsubscribe,
        UnsubAck,
        Disconnect,
        Auth,
    ];

    /// One of each, with a good value.
    fn all() -> [Property<'static>; 27] {
        use Property::*;
        [
            PayloadFormatIndicator(true),
            MessageExpiryInterval(1),
            ContentType("text/plain"),
            ResponseTopic("a/b"),
            CorrelationData(b"\0\xFF"),
            SubscriptionIdentifier(268_435_455),
            SessionExpiryInterval(u32::MAX),
            AssignedClientIdentifier("c"),
            ServerKeepAlive(60),
            AuthenticationMethod("m"),
            AuthenticationData(b""),
            RequestProblemInformation(false),
            WillDelayInterval(5),
            RequestResponseInformation(true),
            ResponseInformation("r"),
            ServerReference("s"),
            ReasonString("why"),
            ReceiveMaximum(1),
            TopicAliasMaximum(0),
            TopicAlias(65_535),
            MaximumQos(1),
            RetainAvailable(false),
            UserProperty("", "v"),
            MaximumPacketSize(1),
            WildcardSubscriptionAvailable(false),
            SubscriptionIdentifierAvailable(true),
            SharedSubscriptionAvailable(false),
        ]
    }

    fn bytes(properties: &[Property<'_>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_properties(properties, &mut Writer::new(&mut bytes));
        bytes
    }

    fn read(bytes: &[u8], carrier: Carrier) -> Result<Vec<Property<'_>>, Violation> {
        let mut packet = Reader::new(bytes);
        let mut reader = PropertyReader::take(&mut packet, carrier)?;
        let mut properties = Vec::new();
        while let Some(property) = reader.try_next()? {
            properties.push(property);
        }
        Ok(properties)
    }

    #[test]
    fn mqtt5_section_2_2_2_2_each_property_comes_back_where_it_may_stand() {
        let all_carriers = PACKETS
            .map(Carrier::Packet)
            .into_iter()
            .chain([Carrier::Will]);
        let mut pairs = 0;
        for carrier in all_carriers {
            for property in all() {
                let bytes = bytes(&[property]);
                let allowed = carriers(property.id()) & carrier.bit() != 0;
                pairs += usize::from(allowed);
                let expected = if allowed {
                    Ok(vec![property])
                } else {
                    Err(NOT_HERE)
                };
                assert_eq!(
                    read(&bytes, carrier),
                    expected,
                    "{property:?} in {carrier:?}"
                );
            }
        }
        // MQTT 5 table 2-4, counted by hand: CONNECT 9, CONNACK 17, PUBLISH 8, will 7, six acknowledgements 2 each,
        // SUBSCRIBE 2, UNSUBSCRIBE 1, DISCONNECT 4, AUTH 4.
        assert_eq!(pairs, 9 + 17 + 8 + 7 + 6 * 2 + 2 + 1 + 4 + 4);
    }

    #[test]
    fn mqtt5_section_2_2_2_2_only_user_properties_and_a_servers_subscription_ids_repeat() {
        for property in all() {
            for packet in PACKETS {
                let carrier = Carrier::Packet(packet);
                if carriers(property.id()) & carrier.bit() == 0 {
                    continue;
                }
                let repeatable = match property {
                    Property::UserProperty(..) => true,
                    Property::SubscriptionIdentifier(_) => packet == Publish,
                    _ => false,
                };
                let twice = bytes(&[property, property]);
                assert_eq!(
                    read(&twice, carrier).is_ok(),
                    repeatable,
                    "{property:?} in {packet:?}"
                );
            }
        }
    }

    #[test]
    fn values_out_of_range_are_protocol_errors() {
        use ReasonCode::{MalformedPacket, ProtocolError, TopicAliasInvalid};
        let check = |packet, property: &[u8], reason| {
            let bytes = [&[property.len() as u8], property].concat();
            let violation = read(&bytes, Carrier::Packet(packet)).unwrap_err();
            assert_eq!(violation.reason, reason, "{property:02x?}: {violation}");
        };
        for (packet, id) in [
            (Publish, 0x01),
            (Connect, 0x17),
            (Connect, 0x19),
            (ConnAck, 0x24),
            (ConnAck, 0x25),
            (ConnAck, 0x28),
            (ConnAck, 0x29),
            (ConnAck, 0x2A),
        ] {
            check(packet, &[id, 2], ProtocolError);
            check(packet, &[id], MalformedPacket);
        }
        check(Subscribe, &[0x0B, 0], ProtocolError);
        check(Subscribe, &[0x0B, 0x80, 0x80, 0x80, 0x80], MalformedPacket);
        check(Connect, &[0x21, 0, 0], ProtocolError);
        check(Connect, &[0x27, 0, 0, 0, 0], ProtocolError);
        check(Publish, &[0x23, 0, 0], TopicAliasInvalid);
        check(Publish, &[0x08, 0, 3, b'a', b'/', b'#'], ProtocolError);
        check(Publish, &[0x26, 0, 1, 0, 0, 1, b'v'], MalformedPacket); // U+0000
        check(Publish, &[0x00], MalformedPacket);
        check(Publish, &[0x80, 0x01], MalformedPacket);
    }
}
