//! MQTT 3.1, 3.1.1 and 5 in one set of types: one packet, one file.
//!
//! [`frame`] cuts the bytes into packets, each packet file decodes and encodes one packet type, and
//! [`connection`] (the server's side) and [`client`] (a client's side) say which packet may come when.
//!
//! Statements are cited by their id in MQTT 5, `MQTT-3.1.0-2`; where 3.1.1 numbers the same rule differently, its
//! id follows as `3.1.1 MQTT-3.1.2-24`. Rules without an id are cited by section.

use crate::conversation::Violation;
use crate::cursor::Defect;
use reason_code::ReasonCode;

pub mod acks;
pub mod auth;
pub mod client;
pub mod connack;
pub mod connect;
pub mod connection;
pub mod disconnect;
pub mod frame;
pub mod ping;
pub mod properties;
pub mod publish;
pub mod reason_code;
pub mod suback;
pub mod subscribe;
pub mod unsuback;
pub mod unsubscribe;

mod alias;
mod connected;
mod ledger;
mod publish_properties;
#[cfg(test)]
mod tests;

/// The protocol version a connection speaks, from CONNECT's protocol level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// 3.1: protocol name `MQIsdp`, level 3.
    V3_1,
    /// 3.1.1: protocol name `MQTT`, level 4.
    #[default]
    V3_1_1,
    /// 5: protocol name `MQTT`, level 5.
    V5,
}

impl ProtocolVersion {
    /// Every version, oldest first.
    pub const ALL: [ProtocolVersion; 3] = [
        ProtocolVersion::V3_1,
        ProtocolVersion::V3_1_1,
        ProtocolVersion::V5,
    ];

    /// Protocol name and level as CONNECT spells them.
    pub const fn name_and_level(self) -> (&'static str, u8) {
        match self {
            ProtocolVersion::V3_1 => ("MQIsdp", 3),
            ProtocolVersion::V3_1_1 => ("MQTT", 4),
            ProtocolVersion::V5 => ("MQTT", 5),
        }
    }

    /// Whether packets carry properties and reason codes.
    pub fn is_v5(self) -> bool {
        self == ProtocolVersion::V5
    }
}

/// A Malformed Packet (MQTT 5 section 4.13.1).
const fn malformed(rule: &'static str, text: &'static str) -> Violation {
    Violation::new(ReasonCode::MalformedPacket, rule, text)
}

/// A Protocol Error (MQTT 5 section 4.13.1).
const fn protocol_error(rule: &'static str, text: &'static str) -> Violation {
    Violation::new(ReasonCode::ProtocolError, rule, text)
}

impl From<Defect> for Violation {
    fn from(defect: Defect) -> Violation {
        match defect {
            Defect::Short => malformed("MQTT 5 4.13.1", "packet ends inside a field"),
            Defect::LongInteger => malformed(
                "MQTT 5 1.5.5",
                "variable byte integer of more than four bytes",
            ),
            Defect::NotMinimal => {
                malformed("MQTT-1.5.5-1", "variable byte integer longer than needed")
            }
            Defect::NotUtf8 => malformed(
                "MQTT-1.5.4-1, 3.1.1 MQTT-1.5.3-1",
                "string is not well-formed UTF-8",
            ),
            Defect::NullCharacter => malformed(
                "MQTT-1.5.4-2, 3.1.1 MQTT-1.5.3-2",
                "string with the null character",
            ),
        }
    }
}

/// A packet id may not be 0.
fn packet_id(reader: &mut crate::cursor::Reader<'_>) -> Result<u16, Violation> {
    match reader.u16()? {
        0 => Err(protocol_error(
            "MQTT-2.2.1-3, 3.1.1 MQTT-2.3.1-1",
            "packet identifier 0",
        )),
        id => Ok(id),
    }
}

/// Nothing may follow the last field of a packet.
fn finish(reader: &crate::cursor::Reader<'_>) -> Result<(), Violation> {
    if reader.is_empty() {
        Ok(())
    } else {
        Err(malformed("MQTT 5 4.13.1", "bytes behind the last field"))
    }
}
