//! Framing (MQTT 5 section 2.1): fixed header and remaining length, from any split of the bytes.
//!
//! Limits are checked as soon as the header stands there; nothing is reserved for a length a peer announces.

use super::ProtocolVersion;
use crate::conversation::{FrameSink, Violation};
use crate::cursor::{variable_integer, variable_integer_len, VariableInteger, Writer};
use crate::mqtt::reason_code::ReasonCode;

/// Control packet types (MQTT 5 table 2-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

impl PacketType {
    /// The type in the upper half of a packet's first byte; 0 is reserved.
    pub fn from_first_byte(byte: u8) -> Option<PacketType> {
        use PacketType::*;
        const TYPES: [PacketType; 15] = [
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
            PingReq,
            PingResp,
            Disconnect,
            Auth,
        ];
        TYPES.get(usize::from(byte >> 4).wrapping_sub(1)).copied()
    }

    /// The flags every packet of this type bears (MQTT 5 table 2-2); PUBLISH has its own.
    const fn reserved_flags(self) -> u8 {
        match self {
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0,
        }
    }

    /// The first byte of a packet of this type that has no flags of its own.
    pub const fn first_byte(self) -> u8 {
        (self as u8) << 4 | self.reserved_flags()
    }
}

/// One whole packet, still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    pub packet_type: PacketType,
    /// The lower half of the first byte.
    pub flags: u8,
    /// What the remaining length counts.
    pub body: &'a [u8],
    /// Whether the remaining length is encoded in as few bytes as possible.
    pub minimal: bool,
}

/// What [`frame_len`] knows from the bytes in hand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameLen {
    /// At least this many bytes are missing.
    Need(usize),
    /// The first packet takes this many bytes, all of them in hand.
    Complete(usize),
    Violation(Violation),
}

/// How far `input` is from holding one whole packet of at most `max` bytes.
pub fn frame_len(input: &[u8], max: u32) -> FrameLen {
    match header(input, max) {
        Ok(None) => FrameLen::Need(2usize.saturating_sub(input.len()).max(1)),
        Ok(Some(header)) => match header.total_len.checked_sub(input.len()) {
            None | Some(0) => FrameLen::Complete(header.total_len),
            Some(missing) => FrameLen::Need(missing),
        },
        Err(violation) => FrameLen::Violation(violation),
    }
}

/// A fixed header that is complete and within limits.
struct Header {
    packet_type: PacketType,
    body_start: usize,
    total_len: usize,
    minimal: bool,
}

const RESERVED_TYPE: Violation = Violation::new(
    ReasonCode::MalformedPacket,
    "MQTT-2.1.2",
    "packet type 0 is reserved",
);
const LONG_LENGTH: Violation = Violation::new(
    ReasonCode::MalformedPacket,
    "MQTT-2.1.4",
    "remaining length of more than four bytes",
);
const TOO_LARGE: Violation = Violation::new(
    ReasonCode::PacketTooLarge,
    "MQTT-3.1.2-24, MQTT-3.2.2-15",
    "packet above the maximum packet size",
);
const NOT_MINIMAL: Violation = Violation::new(
    ReasonCode::MalformedPacket,
    "MQTT-1.5.5-1",
    "remaining length longer than needed",
);
const FLAGS: Violation = Violation::new(
    ReasonCode::MalformedPacket,
    "MQTT-2.1.3-1, 3.1.1 MQTT-2.2.2-2",
    "reserved flags of the fixed header",
);
const QOS_3: Violation = Violation::new(
    ReasonCode::MalformedPacket,
    "MQTT-3.3.1-4",
    "PUBLISH with QoS 3",
);
const DUP_QOS_0: Violation = Violation::new(
    ReasonCode::MalformedPacket,
    "MQTT-3.3.1-2",
    "PUBLISH with DUP and QoS 0",
);
const AUTH_BEFORE_5: Violation = Violation::new(
    ReasonCode::MalformedPacket,
    "MQTT-2.2.1",
    "packet type 15 is reserved before MQTT 5",
);

fn header(input: &[u8], max: u32) -> Result<Option<Header>, Violation> {
    let Some((&first, rest)) = input.split_first() else {
        return Ok(None);
    };
    let packet_type = PacketType::from_first_byte(first).ok_or(RESERVED_TYPE)?;
    match variable_integer(rest) {
        VariableInteger::NeedMore => Ok(None),
        VariableInteger::TooLong => Err(LONG_LENGTH),
        VariableInteger::Value {
            value,
            len,
            minimal,
        } => {
            let body_start = 1 + len;
            let total_len = body_start + value as usize;
            if total_len > max as usize {
                return Err(TOO_LARGE);
            }
            Ok(Some(Header {
                packet_type,
                body_start,
                total_len,
                minimal,
            }))
        }
    }
}

/// Takes one whole packet from the front of `input`, or nothing where it is not complete.
///
/// Flags are checked for `version`; a first byte that no packet may have is refused while it stands alone.
pub(super) fn take_frame<'a>(
    input: &mut &'a [u8],
    version: ProtocolVersion,
    max: u32,
) -> Result<Option<Frame<'a>>, Violation> {
    if let Some(&first) = input.first() {
        check_first_byte(first, version)?;
    }
    let Some(header) = header(input, max)? else {
        return Ok(None);
    };
    if version == ProtocolVersion::V5 && !header.minimal {
        return Err(NOT_MINIMAL); // 3.1.1 does not ask for the shortest form.
    }
    let Some((packet, rest)) = input.split_at_checked(header.total_len) else {
        return Ok(None);
    };
    *input = rest;
    Ok(Some(Frame {
        packet_type: header.packet_type,
        flags: packet[0] & 0x0F,
        body: &packet[header.body_start..],
        minimal: header.minimal,
    }))
}

/// The version of a CONNECT is known only after its first bytes: what of the fixed header depends on it. Until then
/// it is framed as one of 3.1, which leaves the flags free.
pub(super) fn check_connect_header(
    frame: &Frame<'_>,
    version: ProtocolVersion,
) -> Result<(), Violation> {
    check_first_byte(PacketType::Connect.first_byte() | frame.flags, version)?;
    if version == ProtocolVersion::V5 && !frame.minimal {
        return Err(NOT_MINIMAL);
    }
    Ok(())
}

fn check_first_byte(first: u8, version: ProtocolVersion) -> Result<(), Violation> {
    let packet_type = PacketType::from_first_byte(first).ok_or(RESERVED_TYPE)?;
    match packet_type {
        PacketType::Publish if first & 0b0110 == 0b0110 => Err(QOS_3), // [MQTT-3.3.1-4]
        // MQTT 3.1 leaves the other flags free: its SUBSCRIBE, UNSUBSCRIBE and PUBREL bear DUP when sent again.
        _ if version == ProtocolVersion::V3_1 => Ok(()),
        PacketType::Publish if first & 0b1110 == 0b1000 => Err(DUP_QOS_0), // [MQTT-3.3.1-2]
        PacketType::Publish => Ok(()),
        PacketType::Auth if version != ProtocolVersion::V5 => Err(AUTH_BEFORE_5),
        // [MQTT-2.1.3-1], and for the single packets [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1],
        // [MQTT-3.14.1-1], [MQTT-3.15.1-1].
        _ if first & 0x0F != packet_type.reserved_flags() => Err(FLAGS),
        _ => Ok(()),
    }
}

/// Bytes of a packet whose remaining length is `remaining_len`.
pub(super) const fn packet_len(remaining_len: usize) -> usize {
    1 + variable_integer_len(remaining_len as u32) + remaining_len
}

/// Writes a fixed header and gives back the writer, ready for the body.
pub(super) fn begin<S: FrameSink>(
    first_byte: u8,
    remaining_len: usize,
    out: &mut S,
) -> Writer<'_, S> {
    let mut writer = Writer::new(out);
    writer.u8(first_byte);
    writer.variable_integer(remaining_len as u32);
    writer
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolVersion::{V3_1, V3_1_1, V5};

    #[test]
    fn mqtt5_2_1_4_frame_len_tells_how_much_is_missing() {
        let check =
            |bytes: &[u8], expected| assert_eq!(frame_len(bytes, 1_000), expected, "{bytes:02x?}");
        check(&[], FrameLen::Need(2));
        check(&[0xC0], FrameLen::Need(1));
        check(&[0xC0, 0], FrameLen::Complete(2));
        check(&[0xC0, 0, 0xC0], FrameLen::Complete(2));
        check(&[0x30, 5, 0, 1], FrameLen::Need(3));
        check(&[0x30, 0x80], FrameLen::Need(1));
        check(&[0x30, 0x80, 0x01, 0], FrameLen::Need(127));
        check(&[0x30, 0xE5, 0x07], FrameLen::Need(997)); // 1,000 in all
        check(&[0x30, 0xE6, 0x07], FrameLen::Violation(TOO_LARGE));
        check(
            &[0x30, 0xFF, 0xFF, 0xFF, 0x7F],
            FrameLen::Violation(TOO_LARGE),
        );
        check(
            &[0x30, 0xFF, 0xFF, 0xFF, 0xFF],
            FrameLen::Violation(LONG_LENGTH),
        );
        check(&[0x00], FrameLen::Violation(RESERVED_TYPE));
    }

    #[test]
    fn mqtt5_2_1_3_1_every_first_byte_is_right_or_wrong() {
        let good = |version| {
            (0..=u8::MAX)
                .filter(|&byte| check_first_byte(byte, version).is_ok())
                .count()
        };
        // PUBLISH: 4 with QoS 0 less 2 with DUP, 4 each with QoS 1 and 2; then one of each other type.
        assert_eq!(good(V5), 10 + 14);
        assert_eq!(good(V3_1_1), 10 + 13);
        // 3.1 leaves the flags free: 12 of PUBLISH, 16 of each other type.
        assert_eq!(good(V3_1), 12 + 14 * 16);
    }

    #[test]
    fn a_packet_is_taken_whole_or_not_at_all() {
        let stream = [0xC0, 0, 0x40, 2, 0, 1, 0xE0];
        let mut input = &stream[..];
        let first = take_frame(&mut input, V5, 100).unwrap().unwrap();
        assert_eq!(
            (first.packet_type, first.body),
            (PacketType::PingReq, &[][..])
        );
        let second = take_frame(&mut input, V5, 100).unwrap().unwrap();
        assert_eq!(
            (second.packet_type, second.body),
            (PacketType::PubAck, &[0, 1][..])
        );
        assert_eq!(take_frame(&mut input, V5, 100), Ok(None));
        assert_eq!(input, [0xE0]);
    }
}
