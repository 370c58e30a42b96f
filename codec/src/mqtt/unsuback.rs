//! UNSUBACK (MQTT 5 section 3.11, 3.1.1 section 3.11).
//!
//! ```text
//! byte 1         1011 0000
//! byte 2…        remaining length; 2 before MQTT 5
//! packet id      two bytes
//! properties     MQTT 5
//! reason codes   MQTT 5: one byte a filter, in the order of the UNSUBSCRIBE [MQTT-3.11.3-1]
//! ```

use super::acks::read_reason;
use super::frame::{begin, packet_len, PacketType};
use super::properties::{Carrier, PropertyReader};
use super::reason_code::{ReasonCode, Side};
use super::{finish, packet_id, ProtocolVersion};
use crate::conversation::{FrameSink, Violation};
use crate::cursor::Reader;

/// A decoded UNSUBACK; without reasons before MQTT 5.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubAck {
    pub packet_id: u16,
    pub reasons: Vec<ReasonCode>,
}

impl UnsubAck {
    pub fn decode(body: &[u8], version: ProtocolVersion) -> Result<UnsubAck, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = packet_id(&mut reader)?;
        let mut reasons = Vec::new();
        if version.is_v5() {
            PropertyReader::take(&mut reader, Carrier::Packet(PacketType::UnsubAck))?.check()?;
            while !reader.is_empty() {
                reasons.push(read_reason(
                    &mut reader,
                    PacketType::UnsubAck,
                    Side::Server,
                )?);
            }
        }
        finish(&reader)?;
        Ok(UnsubAck { packet_id, reasons })
    }
}

/// Writes an UNSUBACK, unless it exceeds `max` bytes.
pub fn encode(
    packet_id: u16,
    reasons: &[ReasonCode],
    version: ProtocolVersion,
    max: u32,
    out: &mut impl FrameSink,
) {
    let remaining = if version.is_v5() {
        3 + reasons.len()
    } else {
        2
    };
    if packet_len(remaining) > max as usize {
        return; // [MQTT-3.1.2-24]
    }
    let mut writer = begin(PacketType::UnsubAck.first_byte(), remaining, out);
    writer.u16(packet_id);
    if version.is_v5() {
        writer.variable_integer(0); // [MQTT-2.2.2-1]
        for reason in reasons {
            writer.u8(reason.fitted_to(PacketType::UnsubAck) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolVersion::{V3_1_1, V5};

    #[test]
    fn mqtt5_3_11_3_1_reasons_come_back_in_order() {
        let reasons = [ReasonCode::NoSubscriptionExisted, ReasonCode::Success];
        let mut bytes = Vec::new();
        encode(9, &reasons, V5, u32::MAX, &mut bytes);
        assert_eq!(bytes, [0xB0, 5, 0, 9, 0, 0x11, 0]);
        assert_eq!(UnsubAck::decode(&bytes[2..], V5).unwrap().reasons, reasons);
    }

    #[test]
    fn mqtt311_3_11_unsuback_has_no_reasons() {
        let mut bytes = Vec::new();
        encode(9, &[ReasonCode::Success], V3_1_1, u32::MAX, &mut bytes);
        assert_eq!(bytes, [0xB0, 2, 0, 9]);
        assert_eq!(UnsubAck::decode(&[0, 9], V3_1_1).unwrap().reasons, []);
        assert!(UnsubAck::decode(&[0, 9, 0], V3_1_1).is_err());
    }
}
