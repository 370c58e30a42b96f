//! SUBACK (MQTT 5 section 3.9, 3.1.1 section 3.9).
//!
//! ```text
//! byte 1         1001 0000
//! byte 2…        remaining length
//! packet id      two bytes
//! properties     MQTT 5
//! reason codes   one byte a filter, in the order of the SUBSCRIBE [MQTT-3.9.3-1]
//! ```

use super::acks::read_reason;
use super::frame::{begin, packet_len, PacketType};
use super::properties::{Carrier, PropertyReader};
use super::reason_code::{ReasonCode, Side};
use super::{malformed, packet_id, ProtocolVersion};
use crate::conversation::{FrameSink, Violation};
use crate::cursor::Reader;

/// A decoded SUBACK.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubAck {
    pub packet_id: u16,
    pub reasons: Vec<ReasonCode>,
}

impl SubAck {
    pub fn decode(body: &[u8], version: ProtocolVersion) -> Result<SubAck, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = packet_id(&mut reader)?;
        let mut reasons = Vec::with_capacity(reader.rest().len().min(64));
        if version.is_v5() {
            PropertyReader::take(&mut reader, Carrier::Packet(PacketType::SubAck))?.check()?;
            while !reader.is_empty() {
                reasons.push(read_reason(&mut reader, PacketType::SubAck, Side::Server)?);
            }
        } else {
            for &byte in reader.rest() {
                reasons.push(match byte {
                    0 => ReasonCode::Success,
                    1 => ReasonCode::GrantedQos1,
                    2 => ReasonCode::GrantedQos2,
                    0x80 => ReasonCode::UnspecifiedError,
                    _ => {
                        return Err(malformed(
                            "3.1.1 MQTT-3.9.3-2",
                            "reserved SUBACK return code",
                        ))
                    }
                });
            }
        }
        Ok(SubAck { packet_id, reasons })
    }
}

/// Writes a SUBACK, unless it exceeds `max` bytes.
pub fn encode(
    packet_id: u16,
    reasons: &[ReasonCode],
    version: ProtocolVersion,
    max: u32,
    out: &mut impl FrameSink,
) {
    let properties_len = usize::from(version.is_v5());
    let remaining = 2 + properties_len + reasons.len();
    if packet_len(remaining) > max as usize {
        return; // [MQTT-3.1.2-24]
    }
    let mut writer = begin(PacketType::SubAck.first_byte(), remaining, out);
    writer.u16(packet_id);
    if version.is_v5() {
        writer.variable_integer(0); // [MQTT-2.2.2-1]
    }
    for reason in reasons {
        writer.u8(reason.suback_byte(version));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolVersion::{V3_1_1, V5};

    #[test]
    fn mqtt5_3_9_3_1_reasons_come_back_in_order() {
        let reasons = [
            ReasonCode::GrantedQos2,
            ReasonCode::NotAuthorized,
            ReasonCode::Success,
        ];
        let mut bytes = Vec::new();
        encode(9, &reasons, V5, u32::MAX, &mut bytes);
        assert_eq!(bytes, [0x90, 6, 0, 9, 0, 2, 0x87, 0]);
        assert_eq!(SubAck::decode(&bytes[2..], V5).unwrap().reasons, reasons);
    }

    #[test]
    fn mqtt311_3_9_3_2_there_is_one_failure() {
        let reasons = [ReasonCode::GrantedQos1, ReasonCode::QuotaExceeded];
        let mut bytes = Vec::new();
        encode(9, &reasons, V3_1_1, u32::MAX, &mut bytes);
        assert_eq!(bytes, [0x90, 4, 0, 9, 1, 0x80]);
        let decoded = SubAck::decode(&bytes[2..], V3_1_1).unwrap();
        assert_eq!(
            decoded.reasons,
            [ReasonCode::GrantedQos1, ReasonCode::UnspecifiedError]
        );
        assert!(SubAck::decode(&[0, 9, 3], V3_1_1).is_err());
    }
}
