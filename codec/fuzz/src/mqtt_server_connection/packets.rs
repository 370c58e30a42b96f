//! What clients send, made of a few bytes each: mostly right, sometimes not, and raw.

use arbitrary::{Result, Unstructured};
use tidegate_codec::mqtt::auth::Auth;
use tidegate_codec::mqtt::connect::{Connect, Will};
use tidegate_codec::mqtt::disconnect::Disconnect;
use tidegate_codec::mqtt::frame::PacketType;
use tidegate_codec::mqtt::publish::PublishParts;
use tidegate_codec::mqtt::subscribe::{self, SubscriptionOptions};
use tidegate_codec::mqtt::{acks, ping, unsubscribe, ProtocolVersion};
use tidegate_codec::{Message, Qos, ReasonCode};

/// Topics and filters, some of them neither.
pub(super) const TOPICS: [&str; 12] = [
    "a",
    "a/b",
    "sensors/1/t",
    "/",
    "$SYS/x",
    "é/→",
    "long/topic/of/many/levels",
    "a/b/c",
    "topic/1",
    "topic/2",
    "topic/3",
    "topic/4",
];
const FILTERS: [&str; 10] = [
    "a",
    "a/#",
    "+/b",
    "#",
    "$share/g/a/+",
    "$share/g",
    "a#",
    "",
    "a/+/b/c/d/e",
    "$SYS/#",
];

/// Properties that are passed on: none, one, several, many bytes.
pub(super) const PROPERTIES: [&[u8]; 4] = [
    b"",
    b"\x01\x01",
    b"\x03\0\x04text\x08\0\x01r\x09\0\x02\0\xff\x26\0\x01k\0\x01v\x26\0\x01k\0\0",
    b"\x26\0\x40kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk\0\x01v",
];
/// What only its own packet may carry, and what none may.
const OWN_PROPERTIES: [&[u8]; 8] = [
    b"",
    b"\x23\0\x01",
    b"\x23\0\x02\x02\0\0\0\x05",
    b"\x23\xff\xff",
    b"\x23\0\0",
    b"\x0b\x05",
    b"\x02\0\0\0\0\x01\x01",
    b"\x01\x02",
];
/// Small enough to be in the way, and the ends of the range.
const SIZES: [u32; 8] = [1, 4, 5, 16, 32, 64, 128, u32::MAX];

fn pick<T: Copy>(input: &mut Unstructured<'_>, from: &[T]) -> Result<T> {
    Ok(from[usize::from(input.arbitrary::<u8>()?) % from.len()])
}

pub(super) fn error(input: &mut Unstructured<'_>) -> Result<ReasonCode> {
    let reason = pick(input, &ReasonCode::ALL)?;
    Ok(match reason.is_error() {
        true => reason,
        false => ReasonCode::UnspecifiedError,
    })
}

/// A length and as many bytes.
pub(super) fn raw(input: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let len = usize::from(input.arbitrary::<u8>()?).min(input.len());
    out.extend_from_slice(input.bytes(len)?);
    Ok(())
}

pub(super) fn connect(input: &mut Unstructured<'_>, out: &mut Vec<u8>) -> Result<()> {
    let [flags, more, keep_alive]: [u8; 3] = input.arbitrary()?;
    let version = ProtocolVersion::ALL[usize::from(flags & 0b11) % 3];
    let mut connect = Connect {
        version,
        client_id: ["c", "", "client-7", "a client id that is long"][usize::from(more & 0b11)]
            .into(),
        clean_start: flags & 0b100 != 0,
        keep_alive: u16::from(keep_alive) * if more & 0b100 == 0 { 1 } else { 257 },
        user_name: (flags & 0b1000 != 0).then(|| "user".to_owned()),
        password: (flags & 0b10000 != 0).then(|| b"secret".to_vec()),
        session_expiry_interval: if more & 0b1000 == 0 {
            0
        } else {
            u32::from(keep_alive)
        },
        receive_maximum: if more & 0b10000 == 0 {
            u16::MAX
        } else {
            1 + u16::from(keep_alive % 4)
        },
        request_response_information: more & 0b10_0000 != 0,
        request_problem_information: more & 0b100_0000 == 0,
        authentication_method: (more == u8::MAX).then(|| "method".to_owned()),
        ..Connect::default()
    };
    if flags & 0b10_0000 != 0 {
        connect.topic_alias_maximum = input.arbitrary::<u8>()?.into();
    }
    if flags & 0b100_0000 != 0 {
        connect.maximum_packet_size = Some(pick(input, &SIZES)?);
    }
    if flags & 0b1000_0000 != 0 {
        let [topic, how]: [u8; 2] = input.arbitrary()?;
        let topic = TOPICS[usize::from(topic) % TOPICS.len()];
        let properties = PROPERTIES[usize::from(how >> 3) % PROPERTIES.len()];
        let qos = Qos::from_u8(how & 0b11).unwrap_or_default();
        connect.will = Some(Will {
            message: Message::new(topic, properties, b"gone", qos, how & 0b100 != 0),
            delay_interval: u32::from(how),
            message_expiry_interval: (how & 0b1000_0000 != 0).then_some(9),
        });
    }
    connect.encode(version, out);
    Ok(())
}

pub(super) fn publish(
    input: &mut Unstructured<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<()> {
    let [topic, how, packet_id]: [u8; 3] = input.arbitrary()?;
    let own = OWN_PROPERTIES[usize::from(how >> 5)];
    let kept = PROPERTIES[usize::from(packet_id >> 4) % PROPERTIES.len()];
    // A topic is left out where the table ends: an alias stands for it, or nothing does.
    let topic = TOPICS
        .get(usize::from(topic) % 16)
        .copied()
        .unwrap_or_default();
    let parts = PublishParts {
        topic,
        payload: &[b'x'; 64][..usize::from(packet_id >> 2)],
        qos: Qos::from_u8(how & 0b11).unwrap_or_default(),
        retain: how & 0b100 != 0,
        dup: how & 0b1000 != 0,
        packet_id: u16::from(packet_id & 0x0F),
        properties: &[own, kept].concat(),
    };
    parts.encode(version, u32::MAX, out);
    Ok(())
}

/// All the others, by number: acknowledgements, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT, AUTH.
pub(super) fn other(
    input: &mut Unstructured<'_>,
    version: ProtocolVersion,
    out: &mut Vec<u8>,
) -> Result<()> {
    use PacketType::{PubAck, PubComp, PubRec, PubRel};
    let [which, packet_id]: [u8; 2] = input.arbitrary()?;
    let packet_id = packet_id.into();
    match which % 9 {
        index @ 0..=3 => {
            let packet = [PubAck, PubRec, PubRel, PubComp][usize::from(index)];
            let reason = pick(input, &ReasonCode::ALL)?;
            acks::encode(packet, packet_id, reason, version, u32::MAX, out);
        }
        4 => {
            let count = input.arbitrary::<u8>()? % 8;
            let mut subscriptions = Vec::new();
            for _ in 0..count {
                let options = SubscriptionOptions::from_byte(input.arbitrary()?, version);
                subscriptions.push((pick(input, &FILTERS)?, options.unwrap_or_default()));
            }
            let id = (which >= 128).then_some(u32::from(which));
            subscribe::encode(packet_id, &subscriptions, id, version, out);
        }
        5 => {
            let count = input.arbitrary::<u8>()? % 8;
            let filters: Result<Vec<_>> = (0..count).map(|_| pick(input, &FILTERS)).collect();
            unsubscribe::encode(packet_id, &filters?, version, out);
        }
        6 => ping::encode_request(out),
        7 => Disconnect {
            reason: pick(input, &ReasonCode::ALL)?,
            session_expiry_interval: (which >= 128).then_some(u32::from(packet_id)),
        }
        .encode(version, u32::MAX, out),
        _ => Auth {
            reason: pick(input, &ReasonCode::ALL)?,
            method: "method".to_owned(),
            data: None,
        }
        .encode(out),
    }
    Ok(())
}

/// Makes what is on its way almost right: a byte of it is changed, taken out, or put in twice.
pub(super) fn damage(input: &mut Unstructured<'_>, wire: &mut Vec<u8>) -> Result<()> {
    let [at, how]: [u8; 2] = input.arbitrary()?;
    if wire.is_empty() {
        return Ok(());
    }
    let at = wire.len() - 1 - usize::from(at) % wire.len();
    match how {
        0 => drop(wire.remove(at)),
        1 => wire.insert(at, wire[at]),
        change => wire[at] ^= change,
    }
    Ok(())
}
