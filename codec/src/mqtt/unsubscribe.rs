//! UNSUBSCRIBE (MQTT 5 section 3.10, 3.1.1 section 3.10).
//!
//! ```text
//! byte 1          1010 0010
//! byte 2…         remaining length
//! packet id       two bytes
//! properties      MQTT 5: user properties
//! topic filter    UTF-8 string, at least once [MQTT-3.10.3-2]
//! ```

use super::frame::{begin, PacketType};
use super::properties::{Carrier, PropertyReader};
use super::subscribe::read_filter;
use super::{packet_id, protocol_error, ProtocolVersion};
use crate::conversation::{FrameSink, Violation};
use crate::cursor::Reader;
use crate::topic::{TopicError, TopicFilter, TopicLimits};

/// A decoded UNSUBSCRIBE.
#[derive(Debug, Clone)]
pub struct Unsubscribe {
    pub packet_id: u16,
    pub filters: Vec<Result<TopicFilter, TopicError>>,
}

impl Unsubscribe {
    pub fn decode(
        body: &[u8],
        version: ProtocolVersion,
        limits: TopicLimits,
    ) -> Result<Unsubscribe, Violation> {
        let mut reader = Reader::new(body);
        let packet_id = packet_id(&mut reader)?; // [MQTT-2.2.1-3], [3.1.1 MQTT-2.3.1-1]
        if version.is_v5() {
            let carrier = Carrier::Packet(PacketType::Unsubscribe);
            PropertyReader::take(&mut reader, carrier)?.check()?;
        }
        let mut filters = Vec::new();
        while !reader.is_empty() {
            filters.push(read_filter(&mut reader, version, limits)?); // [MQTT-3.10.3-1]
        }
        if filters.is_empty() {
            return Err(protocol_error(
                "MQTT-3.10.3-2",
                "UNSUBSCRIBE without a topic filter",
            ));
        }
        Ok(Unsubscribe { packet_id, filters })
    }
}

/// Writes an UNSUBSCRIBE. Filters go out as they are, so that a test can send wrong ones.
pub fn encode(
    packet_id: u16,
    filters: &[&str],
    version: ProtocolVersion,
    out: &mut impl FrameSink,
) {
    let properties_len = usize::from(version.is_v5());
    let filters_len: usize = filters.iter().map(|filter| 2 + filter.len()).sum();
    let remaining = 2 + properties_len + filters_len;
    let mut writer = begin(PacketType::Unsubscribe.first_byte(), remaining, out);
    writer.u16(packet_id);
    if version.is_v5() {
        writer.variable_integer(0); // [MQTT-2.2.2-1]
    }
    filters.iter().for_each(|filter| writer.string(filter));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::reason_code::ReasonCode;
    use ProtocolVersion::{V3_1_1, V5};

    const LIMITS: TopicLimits = TopicLimits {
        bytes_max: 64,
        levels_max: 8,
    };

    fn check(version: ProtocolVersion, body: &[u8], expected: Result<usize, ReasonCode>) {
        let decoded = Unsubscribe::decode(body, version, LIMITS);
        let filters = decoded.map(|unsubscribe| unsubscribe.filters.len());
        assert_eq!(
            filters.map_err(|violation| violation.reason),
            expected,
            "{version:?} {body:02x?}"
        );
    }

    #[test]
    fn mqtt5_3_10_3_2_at_least_one_filter() {
        check(V3_1_1, b"\0\x01\0\x01a\0\x01#", Ok(2));
        check(V5, b"\0\x01\0\0\x01a", Ok(1));
        check(V5, b"\0\x01\x07\x26\0\x01k\0\x01v\0\x01a", Ok(1));
        check(V3_1_1, b"\0\x01", Err(ReasonCode::ProtocolError));
        check(V5, b"\0\x01\0", Err(ReasonCode::ProtocolError));
        check(V5, b"\0\0\0\0\x01a", Err(ReasonCode::ProtocolError)); // [MQTT-2.2.1-3]
        check(
            V5,
            b"\0\x01\x02\x0B\x01\0\x01a",
            Err(ReasonCode::MalformedPacket),
        );
        check(V5, b"\0\x01\0\0\x02a", Err(ReasonCode::MalformedPacket));
    }

    #[test]
    fn mqtt5_3_10_3_1_filters_come_back() {
        for version in ProtocolVersion::ALL {
            let mut bytes = Vec::new();
            encode(7, &["a/+", "$share/g/b"], version, &mut bytes);
            assert_eq!((bytes[0], usize::from(bytes[1])), (0xA2, bytes.len() - 2));
            let decoded = Unsubscribe::decode(&bytes[2..], version, LIMITS).unwrap();
            let texts: Vec<_> = decoded
                .filters
                .iter()
                .map(|f| f.as_ref().unwrap().text())
                .collect();
            assert_eq!((decoded.packet_id, texts), (7, vec!["a/+", "$share/g/b"]));
        }
    }
}
