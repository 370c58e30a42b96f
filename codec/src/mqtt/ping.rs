//! PINGREQ and PINGRESP (MQTT 5 sections 3.12 and 3.13): a fixed header and nothing else.

use super::frame::PacketType;
use super::malformed;
use crate::conversation::{FrameSink, Violation};

/// PINGREQ as it stands on the wire.
pub const PINGREQ: [u8; 2] = [PacketType::PingReq.first_byte(), 0];
/// PINGRESP as it stands on the wire.
pub const PINGRESP: [u8; 2] = [PacketType::PingResp.first_byte(), 0];

/// Neither packet has a body.
pub fn decode(body: &[u8]) -> Result<(), Violation> {
    if body.is_empty() {
        Ok(())
    } else {
        Err(malformed(
            "MQTT 5 3.12.1",
            "PINGREQ or PINGRESP with a body",
        ))
    }
}

pub fn encode_request(out: &mut impl FrameSink) {
    out.put(&PINGREQ);
}

pub fn encode_response(out: &mut impl FrameSink) {
    out.put(&PINGRESP);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_are_two_bytes() {
        assert_eq!((PINGREQ, PINGRESP), ([0xC0, 0], [0xD0, 0]));
        assert!(decode(&[]).is_ok() && decode(&[0]).is_err());
    }
}
