//! DISCONNECT (MQTT 5 section 3.14, 3.1.1 section 3.14).
//!
//! ```text
//! byte 1        1110 0000
//! byte 2…       remaining length; 0 before MQTT 5 and for a normal disconnection without properties
//! reason code   MQTT 5
//! properties    MQTT 5, from a remaining length of 2 on
//! ```

use super::acks::read_reason;
use super::frame::{begin, packet_len, PacketType};
use super::properties::{write_properties, Carrier, Property, PropertyReader};
use super::reason_code::{ReasonCode, Side};
use super::{finish, protocol_error, ProtocolVersion};
use crate::conversation::{FrameSink, Violation};
use crate::cursor::Reader;

/// A decoded DISCONNECT. Server reference, reason string and user properties are checked and left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect {
    pub reason: ReasonCode,
    /// Seconds; clients only.
    pub session_expiry_interval: Option<u32>,
}

impl Disconnect {
    pub const fn new(reason: ReasonCode) -> Disconnect {
        Disconnect {
            reason,
            session_expiry_interval: None,
        }
    }

    /// Reads a DISCONNECT that `side` sent.
    pub fn decode(body: &[u8], version: ProtocolVersion, side: Side) -> Result<Self, Violation> {
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        let mut reader = Reader::new(body);
        if !version.is_v5() || reader.is_empty() {
            finish(&reader)?;
            return Ok(disconnect);
        }
        disconnect.reason = read_reason(&mut reader, PacketType::Disconnect, side)?; // [MQTT-3.14.2-1]
        if !reader.is_empty() {
            let carrier = Carrier::Packet(PacketType::Disconnect);
            let mut properties = PropertyReader::take(&mut reader, carrier)?;
            while let Some(property) = properties.try_next()? {
                if let Property::SessionExpiryInterval(seconds) = property {
                    disconnect.session_expiry_interval = Some(seconds);
                }
            }
        }
        finish(&reader)?;
        if side == Side::Server && disconnect.session_expiry_interval.is_some() {
            return Err(protocol_error(
                "MQTT-3.14.2-2",
                "session expiry interval from a server",
            ));
        }
        Ok(disconnect)
    }

    /// Writes the packet in its shortest form, unless it exceeds `max` bytes.
    pub fn encode(&self, version: ProtocolVersion, max: u32, out: &mut impl FrameSink) {
        let remaining = match (version.is_v5(), self.session_expiry_interval) {
            (true, Some(_)) => 7,
            (true, None) if self.reason != ReasonCode::Success => 1,
            _ => 0,
        };
        if packet_len(remaining) > max as usize {
            return; // [MQTT-3.1.2-24]
        }
        let mut writer = begin(PacketType::Disconnect.first_byte(), remaining, out);
        if remaining > 0 {
            writer.u8(self.reason as u8);
        }
        if let (true, Some(seconds)) = (version.is_v5(), self.session_expiry_interval) {
            write_properties(&[Property::SessionExpiryInterval(seconds)], &mut writer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ProtocolVersion::{V3_1_1, V5};

    fn check(
        version: ProtocolVersion,
        side: Side,
        body: &[u8],
        expected: Result<Disconnect, ReasonCode>,
    ) {
        let decoded = Disconnect::decode(body, version, side).map_err(|violation| violation.reason);
        assert_eq!(decoded, expected, "{version:?} {side:?} {body:02x?}");
    }

    #[test]
    fn mqtt5_section_3_14_2_1_every_length_form_is_read() {
        let normal = Disconnect::new(ReasonCode::Success);
        let with_will = Disconnect::new(ReasonCode::DisconnectWithWill);
        let with_expiry = Disconnect {
            session_expiry_interval: Some(5),
            ..normal
        };
        check(V3_1_1, Side::Client, &[], Ok(normal));
        check(V3_1_1, Side::Client, &[0], Err(ReasonCode::MalformedPacket));
        check(V5, Side::Client, &[], Ok(normal));
        check(V5, Side::Client, &[4], Ok(with_will));
        check(V5, Side::Client, &[4, 0], Ok(with_will));
        check(V5, Side::Client, &[0, 5, 0x11, 0, 0, 0, 5], Ok(with_expiry));
        check(
            V5,
            Side::Server,
            &[0x8E],
            Ok(Disconnect::new(ReasonCode::SessionTakenOver)),
        );
    }

    #[test]
    fn mqtt5_3_14_2_1_and_2_each_side_has_its_own_codes_and_properties() {
        check(V5, Side::Client, &[0x8E], Err(ReasonCode::ProtocolError));
        check(V5, Side::Server, &[0x04], Err(ReasonCode::ProtocolError));
        check(
            V5,
            Side::Server,
            &[0, 5, 0x11, 0, 0, 0, 5],
            Err(ReasonCode::ProtocolError),
        );
        check(
            V5,
            Side::Client,
            &[0, 3, 0x21, 0, 5],
            Err(ReasonCode::MalformedPacket),
        );
        check(V5, Side::Client, &[0x05], Err(ReasonCode::MalformedPacket));
    }

    #[test]
    fn disconnects_come_back() {
        for reason in [ReasonCode::Success, ReasonCode::DisconnectWithWill] {
            for session_expiry_interval in [None, Some(0), Some(77)] {
                let disconnect = Disconnect {
                    reason,
                    session_expiry_interval,
                };
                let mut bytes = Vec::new();
                disconnect.encode(V5, u32::MAX, &mut bytes);
                assert_eq!(usize::from(bytes[1]), bytes.len() - 2);
                check(V5, Side::Client, &bytes[2..], Ok(disconnect));
            }
        }
    }
}
