//! PUBACK, PUBREC, PUBREL and PUBCOMP (MQTT 5 sections 3.4 to 3.7): one layout for four packets.
//!
//! ```text
//! byte 1        type, flags 0000; PUBREL 0010
//! byte 2        remaining length: 2, or with MQTT 5 also 3 and more
//! packet id     two bytes
//! reason code   MQTT 5, where it is not Success
//! properties    MQTT 5, from a remaining length of 4 on: reason string, user properties
//! ```

use super::frame::{begin, packet_len, PacketType};
use super::properties::{Carrier, PropertyReader};
use super::reason_code::{ReasonCode, Side};
use super::{finish, malformed, packet_id, protocol_error, ProtocolVersion};
use crate::conversation::{FrameSink, Violation};
use crate::cursor::Reader;

/// Packet id and reason code of an acknowledgement that `side` sent.
pub fn decode(
    packet: PacketType,
    body: &[u8],
    version: ProtocolVersion,
    side: Side,
) -> Result<(u16, ReasonCode), Violation> {
    let mut reader = Reader::new(body);
    let packet_id = packet_id(&mut reader)?; // [MQTT-2.2.1-5]
    if !version.is_v5() || reader.is_empty() {
        finish(&reader)?;
        return Ok((packet_id, ReasonCode::Success));
    }
    let reason = read_reason(&mut reader, packet, side)?;
    if !reader.is_empty() {
        PropertyReader::take(&mut reader, Carrier::Packet(packet))?.check()?;
    }
    finish(&reader)?;
    Ok((packet_id, reason))
}

/// A reason code that `side` may send in `packet` ([MQTT-3.4.2-1] and its like for every packet that has one).
pub(super) fn read_reason(
    reader: &mut Reader<'_>,
    packet: PacketType,
    side: Side,
) -> Result<ReasonCode, Violation> {
    let reason = ReasonCode::try_from(reader.u8()?)
        .map_err(|_| malformed("MQTT 5 2.4", "byte that is no reason code"))?;
    if !reason.is_valid_in(packet, side) {
        return Err(protocol_error(
            "MQTT 5 2.4",
            "reason code that this packet does not carry",
        ));
    }
    Ok(reason)
}

/// Writes an acknowledgement, unless it exceeds `max` bytes. Reason strings are never sent, so neither Request
/// Problem Information [MQTT-3.1.2-29] nor a maximum packet size [MQTT-3.4.2-2] can be broken by one.
pub fn encode(
    packet: PacketType,
    packet_id: u16,
    reason: ReasonCode,
    version: ProtocolVersion,
    max: u32,
    out: &mut impl FrameSink,
) {
    let with_reason = version.is_v5() && reason != ReasonCode::Success;
    let remaining = if with_reason { 3 } else { 2 };
    if packet_len(remaining) > max as usize {
        return; // [MQTT-3.1.2-24]
    }
    let mut writer = begin(packet.first_byte(), remaining, out);
    writer.u16(packet_id);
    if with_reason {
        writer.u8(reason as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolVersion::{V3_1_1, V5};

    fn check(
        version: ProtocolVersion,
        body: &[u8],
        expected: Result<(u16, ReasonCode), ReasonCode>,
    ) {
        let decoded = decode(PacketType::PubAck, body, version, Side::Client);
        assert_eq!(
            decoded.map_err(|violation| violation.reason),
            expected,
            "{version:?} {body:02x?}"
        );
    }

    #[test]
    fn mqtt5_section_3_4_2_1_every_length_form_is_read() {
        check(V3_1_1, &[0, 7], Ok((7, ReasonCode::Success)));
        check(V3_1_1, &[0, 7, 0], Err(ReasonCode::MalformedPacket));
        check(V5, &[0, 7], Ok((7, ReasonCode::Success)));
        check(
            V5,
            &[0, 7, 0x10],
            Ok((7, ReasonCode::NoMatchingSubscribers)),
        );
        check(V5, &[0, 7, 0x87, 0], Ok((7, ReasonCode::NotAuthorized)));
        check(
            V5,
            b"\0\x07\x87\x05\x1F\0\x02no",
            Ok((7, ReasonCode::NotAuthorized)),
        );
        check(
            V5,
            b"\0\x07\0\x07\x26\0\x01a\0\x01b",
            Ok((7, ReasonCode::Success)),
        );
    }

    #[test]
    fn mqtt5_3_4_2_1_other_reasons_and_properties_are_refused() {
        check(V5, &[], Err(ReasonCode::MalformedPacket));
        check(V5, &[0], Err(ReasonCode::MalformedPacket));
        check(V5, &[0, 0], Err(ReasonCode::ProtocolError)); // [MQTT-2.2.1-3]
        check(V5, &[0, 7, 0x92], Err(ReasonCode::ProtocolError)); // belongs to PUBREL and PUBCOMP
        check(V5, &[0, 7, 0x7F], Err(ReasonCode::MalformedPacket));
        check(V5, &[0, 7, 0, 1], Err(ReasonCode::MalformedPacket));
        check(V5, &[0, 7, 0, 0, 0], Err(ReasonCode::MalformedPacket));
        check(V5, &[0, 7, 0, 2, 0x01, 0], Err(ReasonCode::MalformedPacket)); // payload format
        check(
            V5,
            b"\0\x07\0\x08\x1F\0\x01a\x1F\0\x01a",
            Err(ReasonCode::ProtocolError),
        ); // twice
    }

    #[test]
    fn acknowledgements_come_back() {
        use PacketType::*;
        for version in ProtocolVersion::ALL {
            for (packet, reason) in [
                (PubAck, ReasonCode::Success),
                (PubAck, ReasonCode::QuotaExceeded),
                (PubRec, ReasonCode::TopicNameInvalid),
                (PubRel, ReasonCode::PacketIdentifierNotFound),
                (PubComp, ReasonCode::Success),
            ] {
                let mut bytes = Vec::new();
                encode(packet, 0x0102, reason, version, u32::MAX, &mut bytes);
                assert_eq!(bytes[0], packet.first_byte());
                assert_eq!(usize::from(bytes[1]), bytes.len() - 2);
                let expected = if version == V5 {
                    reason
                } else {
                    ReasonCode::Success
                };
                let decoded = decode(packet, &bytes[2..], version, Side::Server);
                assert_eq!(decoded, Ok((0x0102, expected)), "{version:?} {packet:?}");
            }
        }
    }
}
