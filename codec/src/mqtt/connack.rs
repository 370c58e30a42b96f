//! CONNACK (MQTT 5 section 3.2, 3.1.1 section 3.2).
//!
//! ```text
//! byte 1           0010 0000
//! byte 2…          remaining length; 2 before MQTT 5
//! flags            bit 0: session present
//! reason code      one byte; a return code before MQTT 5
//! properties       MQTT 5
//! ```

use super::acks::read_reason;
use super::frame::{begin, packet_len, PacketType};
use super::properties::{write_properties, Carrier, Property, PropertyReader};
use super::reason_code::{ReasonCode, Side};
use super::{finish, malformed, protocol_error, ProtocolVersion};
use crate::conversation::{Delivered, FrameSink, Violation};
use crate::cursor::{Count, Reader, Writer};
use crate::message::Qos;

/// A CONNACK. Fields hold what silence means where nothing was said, `None` where silence means "as you asked".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    pub reason: ReasonCode,
    pub session_expiry_interval: Option<u32>,
    pub receive_maximum: u16,
    pub maximum_qos: Qos,
    pub retain_available: bool,
    pub maximum_packet_size: Option<u32>,
    pub assigned_client_id: Option<String>,
    pub topic_alias_maximum: u16,
    pub reason_string: Option<String>,
    pub user_properties: Vec<(String, String)>,
    pub wildcard_subscriptions_available: bool,
    pub subscription_ids_available: bool,
    pub shared_subscriptions_available: bool,
    pub server_keep_alive: Option<u16>,
    pub response_information: Option<String>,
    pub server_reference: Option<String>,
    pub authentication_method: Option<String>,
    pub authentication_data: Option<Vec<u8>>,
}

impl ConnAck {
    pub const fn new(reason: ReasonCode, session_present: bool) -> ConnAck {
        ConnAck {
            session_present,
            reason,
            session_expiry_interval: None,
            receive_maximum: u16::MAX,
            maximum_qos: Qos::ExactlyOnce,
            retain_available: true,
            maximum_packet_size: None,
            assigned_client_id: None,
            topic_alias_maximum: 0,
            reason_string: None,
            user_properties: Vec::new(),
            wildcard_subscriptions_available: true,
            subscription_ids_available: true,
            shared_subscriptions_available: true,
            server_keep_alive: None,
            response_information: None,
            server_reference: None,
            authentication_method: None,
            authentication_data: None,
        }
    }

    pub fn decode(body: &[u8], version: ProtocolVersion) -> Result<ConnAck, Violation> {
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        if flags > 1 && version != ProtocolVersion::V3_1 {
            return Err(malformed("MQTT-3.2.2-1", "reserved CONNACK flags"));
        }
        // MQTT 3.1 reserves the whole byte, and knows no such flag.
        let session_present = flags & 1 != 0 && version != ProtocolVersion::V3_1;
        let connack = if version.is_v5() {
            let reason = read_reason(&mut reader, PacketType::ConnAck, Side::Server)?; // [MQTT-3.2.2-8]
            let mut connack = ConnAck::new(reason, session_present);
            connack.read_properties(&mut reader)?;
            connack
        } else {
            let reason = ReasonCode::from_connack_return_code(reader.u8()?).ok_or(malformed(
                "3.1.1 MQTT-3.2.2-6",
                "reserved CONNACK return code",
            ))?;
            ConnAck::new(reason, session_present)
        };
        finish(&reader)?;
        if session_present && connack.reason != ReasonCode::Success {
            let rule = "MQTT-3.2.2-6, 3.1.1 MQTT-3.2.2-4";
            return Err(protocol_error(
                rule,
                "session present in a CONNACK that refuses",
            ));
        }
        Ok(connack)
    }

    fn read_properties(&mut self, reader: &mut Reader<'_>) -> Result<(), Violation> {
        let mut properties = PropertyReader::take(reader, Carrier::Packet(PacketType::ConnAck))?;
        while let Some(property) = properties.try_next()? {
            match property {
                Property::SessionExpiryInterval(seconds) => {
                    self.session_expiry_interval = Some(seconds);
                }
                Property::ReceiveMaximum(maximum) => self.receive_maximum = maximum,
                Property::MaximumQos(qos) => {
                    self.maximum_qos = Qos::from_u8(qos).unwrap_or_default()
                }
                Property::RetainAvailable(yes) => self.retain_available = yes,
                Property::MaximumPacketSize(size) => self.maximum_packet_size = Some(size),
                Property::AssignedClientIdentifier(id) => {
                    self.assigned_client_id = Some(id.to_owned());
                }
                Property::TopicAliasMaximum(maximum) => self.topic_alias_maximum = maximum,
                Property::ReasonString(text) => self.reason_string = Some(text.to_owned()),
                Property::UserProperty(name, value) => {
                    self.user_properties
                        .push((name.to_owned(), value.to_owned()));
                }
                Property::WildcardSubscriptionAvailable(yes) => {
                    self.wildcard_subscriptions_available = yes;
                }
                Property::SubscriptionIdentifierAvailable(yes) => {
                    self.subscription_ids_available = yes;
                }
                Property::SharedSubscriptionAvailable(yes) => {
                    self.shared_subscriptions_available = yes;
                }
                Property::ServerKeepAlive(seconds) => self.server_keep_alive = Some(seconds),
                Property::ResponseInformation(text) => {
                    self.response_information = Some(text.to_owned());
                }
                Property::ServerReference(text) => self.server_reference = Some(text.to_owned()),
                Property::AuthenticationMethod(text) => {
                    self.authentication_method = Some(text.to_owned());
                }
                Property::AuthenticationData(data) => {
                    self.authentication_data = Some(data.to_vec())
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the packet, unless it exceeds `max` bytes. Before MQTT 5 nothing is written for a reason that has no
    /// return code.
    pub fn encode(
        &self,
        version: ProtocolVersion,
        max: u32,
        out: &mut impl FrameSink,
    ) -> Delivered {
        let code = if version.is_v5() {
            Some(self.reason.fitted_to(PacketType::ConnAck) as u8)
        } else {
            self.reason.connack_return_code()
        };
        let Some(code) = code else {
            return Delivered::Written;
        };
        let properties = if version.is_v5() {
            self.properties()
        } else {
            Vec::new()
        };
        let mut count = Count::default();
        if version.is_v5() {
            write_properties(&properties, &mut Writer::new(&mut count));
        }
        if packet_len(2 + count.0) > max as usize {
            return Delivered::TooLarge; // [MQTT-3.1.2-24]
        }
        let mut writer = begin(PacketType::ConnAck.first_byte(), 2 + count.0, out);
        // MQTT 3.1 has no session present flag, [MQTT-3.2.2-6] none beside an error.
        let flag = self.session_present && code == 0 && version != ProtocolVersion::V3_1;
        writer.u8(u8::from(flag));
        writer.u8(code);
        if version.is_v5() {
            write_properties(&properties, &mut writer);
        }
        Delivered::Written
    }

    /// What differs from the values that silence means.
    fn properties(&self) -> Vec<Property<'_>> {
        use Property::*;
        let mut properties = Vec::with_capacity(8);
        properties.extend(self.session_expiry_interval.map(SessionExpiryInterval));
        if self.receive_maximum != u16::MAX {
            properties.push(ReceiveMaximum(self.receive_maximum));
        }
        if self.maximum_qos != Qos::ExactlyOnce {
            properties.push(MaximumQos(self.maximum_qos as u8));
        }
        properties.extend(self.maximum_packet_size.map(MaximumPacketSize));
        properties.extend(
            self.assigned_client_id
                .as_deref()
                .map(AssignedClientIdentifier),
        );
        if self.topic_alias_maximum != 0 {
            properties.push(TopicAliasMaximum(self.topic_alias_maximum));
        }
        properties.extend(self.reason_string.as_deref().map(ReasonString));
        let users = self.user_properties.iter();
        properties.extend(users.map(|(name, value)| UserProperty(name, value)));
        let unavailable = [
            (self.retain_available, RetainAvailable(false)),
            (
                self.wildcard_subscriptions_available,
                WildcardSubscriptionAvailable(false),
            ),
            (
                self.subscription_ids_available,
                SubscriptionIdentifierAvailable(false),
            ),
            (
                self.shared_subscriptions_available,
                SharedSubscriptionAvailable(false),
            ),
        ];
        properties.extend(
            unavailable
                .into_iter()
                .filter(|(yes, _)| !yes)
                .map(|(_, no)| no),
        );
        properties.extend(self.server_keep_alive.map(ServerKeepAlive));
        properties.extend(
            self.response_information
                .as_deref()
                .map(ResponseInformation),
        );
        properties.extend(self.server_reference.as_deref().map(ServerReference));
        properties.extend(
            self.authentication_method
                .as_deref()
                .map(AuthenticationMethod),
        );
        properties.extend(self.authentication_data.as_deref().map(AuthenticationData));
        properties
    }
}
