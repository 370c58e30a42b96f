//! AUTH (MQTT 5 section 3.15): one step of an enhanced authentication.
//!
//! ```text
//! byte 1        1111 0000
//! byte 2…       remaining length; 0 for Success without properties
//! reason code   0x00, 0x18 or 0x19
//! properties    authentication method and data, reason string, user properties
//! ```

use super::acks::read_reason;
use super::frame::{begin, PacketType};
use super::properties::{write_properties, Carrier, Property, PropertyReader};
use super::reason_code::{ReasonCode, Side};
use super::{finish, protocol_error};
use crate::conversation::{FrameSink, Violation};
use crate::cursor::{Count, Reader, Writer};

/// A decoded AUTH.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    pub reason: ReasonCode,
    pub method: String,
    pub data: Option<Vec<u8>>,
}

impl Auth {
    /// Reads an AUTH that `side` sent.
    pub fn decode(body: &[u8], side: Side) -> Result<Auth, Violation> {
        let mut reader = Reader::new(body);
        let mut reason = ReasonCode::Success;
        let (mut method, mut data) = (None, None);
        if !reader.is_empty() {
            reason = read_reason(&mut reader, PacketType::Auth, side)?; // [MQTT-3.15.2-1]
            let carrier = Carrier::Packet(PacketType::Auth);
            let mut properties = PropertyReader::take(&mut reader, carrier)?;
            while let Some(property) = properties.try_next()? {
                match property {
                    Property::AuthenticationMethod(name) => method = Some(name.to_owned()),
                    Property::AuthenticationData(bytes) => data = Some(bytes.to_vec()),
                    _ => {}
                }
            }
        }
        finish(&reader)?;
        let method = method.ok_or(protocol_error(
            "MQTT 5 3.15.2.2.2",
            "AUTH without an authentication method",
        ))?;
        Ok(Auth {
            reason,
            method,
            data,
        })
    }

    pub fn encode(&self, out: &mut impl FrameSink) {
        let mut properties = vec![Property::AuthenticationMethod(&self.method)];
        properties.extend(self.data.as_deref().map(Property::AuthenticationData));
        let mut count = Count::default();
        write_properties(&properties, &mut Writer::new(&mut count));
        let mut writer = begin(PacketType::Auth.first_byte(), 1 + count.0, out);
        writer.u8(self.reason as u8);
        write_properties(&properties, &mut writer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auths_come_back() {
        let auth = Auth {
            reason: ReasonCode::ContinueAuthentication,
            method: "SCRAM-SHA-256".into(),
            data: Some(b"nonce".to_vec()),
        };
        let mut bytes = Vec::new();
        auth.encode(&mut bytes);
        assert_eq!(Auth::decode(&bytes[2..], Side::Client), Ok(auth));
    }

    #[test]
    fn mqtt5_3_15_2_1_each_side_has_its_own_codes() {
        let check = |body: &[u8], side, expected| {
            let reason = Auth::decode(body, side).map(|auth| auth.reason);
            assert_eq!(
                reason.map_err(|violation| violation.reason),
                expected,
                "{body:02x?}"
            );
        };
        check(
            b"\x19\x04\x15\0\x01m",
            Side::Client,
            Ok(ReasonCode::ReAuthenticate),
        );
        check(
            b"\x19\x04\x15\0\x01m",
            Side::Server,
            Err(ReasonCode::ProtocolError),
        );
        check(
            b"\x00\x04\x15\0\x01m",
            Side::Client,
            Err(ReasonCode::ProtocolError),
        );
        check(b"\x18\0", Side::Client, Err(ReasonCode::ProtocolError)); // no method
        check(b"", Side::Client, Err(ReasonCode::ProtocolError));
        check(b"\x18", Side::Client, Err(ReasonCode::MalformedPacket));
    }
}
