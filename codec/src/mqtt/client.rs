//! A client's side of the conversation: what the flooder and the tests speak with.
//!
//! It writes whatever it is told, right or wrong, and is strict about what comes back: a server that breaks a
//! statement it can see is reported as a [`Violation`]. Session state beyond one connection is its user's.

use super::acks;
use super::alias::InboundAliases;
use super::auth::Auth;
use super::connack::ConnAck;
use super::disconnect::Disconnect;
use super::frame::{take_frame, Frame, PacketType};
use super::ledger::{Ledger, Owed, NO_REQUEST};
use super::publish::{PublishParts, PublishView};
use super::reason_code::{ReasonCode, Side};
use super::suback::SubAck;
use super::subscribe::{self, SubscriptionOptions};
use super::unsuback::UnsubAck;
use super::{ping, protocol_error, unsubscribe, ProtocolVersion};
use crate::conversation::{Ack, Delivered, FrameSink, Violation};
use crate::message::Qos;

/// What a client says in its CONNECT; the version is the connection's.
pub use super::connect::Connect as ConnectOptions;

/// What a server said. Read in place: an event borrows from the input and from the connection.
#[derive(Debug)]
pub enum ClientEvent<'a> {
    /// Accepted or refused; after a refusal the connection is over.
    ConnAck(Box<ConnAck>),
    /// A message with its alias resolved.
    Publish(PublishView<'a>),
    PubAck {
        packet_id: u16,
        reason: ReasonCode,
    },
    PubRec {
        packet_id: u16,
        reason: ReasonCode,
    },
    PubRel {
        packet_id: u16,
        reason: ReasonCode,
    },
    PubComp {
        packet_id: u16,
        reason: ReasonCode,
    },
    SubAck {
        packet_id: u16,
        reasons: Vec<ReasonCode>,
    },
    /// `reasons` is empty before MQTT 5.
    UnsubAck {
        packet_id: u16,
        reasons: Vec<ReasonCode>,
    },
    Pong,
    /// A step of an enhanced authentication, which the user answers.
    Auth(Box<Auth>),
    /// MQTT 5 only; the connection is over.
    Disconnect {
        reason: ReasonCode,
    },
}

/// One connection of a client.
#[derive(Debug)]
pub struct ClientConnection {
    version: ProtocolVersion,
    state: State,
    /// What CONNECT asked for, as far as the answers are checked against it.
    asked: Asked,
    /// What CONNACK granted.
    granted: Granted,
    aliases: InboundAliases,
    /// PINGREQs without their PINGRESP.
    pings: u32,
    ledger: Ledger,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Idle,
    AwaitConnAck,
    Connected,
    /// We said goodbye; what the server wrote before it heard is still read.
    Left,
    /// The server ended the conversation.
    Closed,
}

#[derive(Debug)]
struct Asked {
    clean_start: bool,
    empty_client_id: bool,
    authentication: bool,
    response_information: bool,
    maximum_packet_size: u32,
    receive_maximum: u16,
    topic_alias_maximum: u16,
}

#[derive(Debug)]
struct Granted {
    session_present: bool,
    maximum_packet_size: u32,
    receive_maximum: u16,
}

impl ClientConnection {
    pub fn new(version: ProtocolVersion) -> Self {
        ClientConnection {
            version,
            state: State::Idle,
            asked: Asked {
                clean_start: true,
                empty_client_id: false,
                authentication: false,
                response_information: false,
                maximum_packet_size: u32::MAX,
                receive_maximum: u16::MAX,
                topic_alias_maximum: 0,
            },
            granted: Granted {
                session_present: false,
                maximum_packet_size: u32::MAX,
                receive_maximum: u16::MAX,
            },
            aliases: InboundAliases::default(),
            pings: 0,
            ledger: Ledger::default(),
        }
    }

    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }

    /// How many more QoS 1 and 2 messages the server takes now [MQTT-3.3.4-7].
    pub fn send_quota(&self) -> usize {
        usize::from(self.granted.receive_maximum).saturating_sub(self.ledger.publishes())
    }

    /// Requests the server has not answered: PUBLISH with QoS 1 and 2, SUBSCRIBE, UNSUBSCRIBE and PINGREQ.
    pub fn unanswered(&self) -> usize {
        self.ledger.unanswered() + self.pings as usize
    }

    pub fn connect(&mut self, options: &ConnectOptions, out: &mut impl FrameSink) {
        self.asked = Asked {
            clean_start: options.clean_start,
            empty_client_id: options.client_id.is_empty(),
            authentication: options.authentication_method.is_some(),
            response_information: options.request_response_information,
            maximum_packet_size: options.maximum_packet_size.unwrap_or(u32::MAX),
            receive_maximum: options.receive_maximum,
            topic_alias_maximum: options.topic_alias_maximum,
        };
        self.state = State::AwaitConnAck;
        options.encode(self.version, out);
    }

    /// `properties` in wire form, as [`PublishPropertiesBuilder`](super::properties::PublishPropertiesBuilder)
    /// writes them. Nothing is written where the packet exceeds the server's Maximum Packet Size.
    #[expect(
        clippy::too_many_arguments,
        reason = "the fields of a PUBLISH, in the order of use"
    )]
    pub fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: Qos,
        retain: bool,
        dup: bool,
        packet_id: u16,
        properties: &[u8],
        out: &mut impl FrameSink,
    ) -> Delivered {
        let parts = PublishParts {
            topic,
            payload,
            qos,
            retain,
            dup,
            packet_id,
            properties,
        };
        // [MQTT-3.2.2-15]
        if parts.encode(self.version, self.granted.maximum_packet_size, out) == Delivered::TooLarge
        {
            return Delivered::TooLarge;
        }
        match qos {
            Qos::AtMostOnce => {}
            Qos::AtLeastOnce => self.ledger.expect(packet_id, Owed::PubAck),
            Qos::ExactlyOnce => self.ledger.expect(packet_id, Owed::PubRec),
        }
        Delivered::Written
    }

    pub fn subscribe(
        &mut self,
        packet_id: u16,
        subscriptions: &[(&str, SubscriptionOptions)],
        subscription_id: Option<u32>,
        out: &mut impl FrameSink,
    ) {
        subscribe::encode(packet_id, subscriptions, subscription_id, self.version, out);
        self.ledger.expect(
            packet_id,
            Owed::SubAck {
                filters: subscriptions.len(),
            },
        );
    }

    pub fn unsubscribe(&mut self, packet_id: u16, filters: &[&str], out: &mut impl FrameSink) {
        unsubscribe::encode(packet_id, filters, self.version, out);
        self.ledger.expect(
            packet_id,
            Owed::UnsubAck {
                filters: filters.len(),
            },
        );
    }

    pub fn ping(&mut self, out: &mut impl FrameSink) {
        self.pings += 1;
        ping::encode_request(out);
    }

    /// Writes PUBACK, PUBREC, PUBREL or PUBCOMP; the other acknowledgements are the server's and write nothing.
    pub fn acknowledge(&mut self, ack: &Ack<'_>, out: &mut impl FrameSink) {
        let (packet, packet_id, reason) = match *ack {
            Ack::PubAck { packet_id, reason } => (PacketType::PubAck, packet_id, reason),
            Ack::PubRec {
                packet_id, reason, ..
            } => (PacketType::PubRec, packet_id, reason),
            Ack::PubRel { packet_id, reason } => (PacketType::PubRel, packet_id, reason),
            Ack::PubComp { packet_id, reason } => (PacketType::PubComp, packet_id, reason),
            Ack::SubAck { .. } | Ack::UnsubAck { .. } => return,
        };
        self.ledger.acknowledged(packet, packet_id, reason);
        acks::encode(
            packet,
            packet_id,
            reason,
            self.version,
            self.granted.maximum_packet_size,
            out,
        );
    }

    /// Reason and session expiry go out with MQTT 5 only.
    pub fn disconnect(
        &mut self,
        reason: ReasonCode,
        session_expiry_interval: Option<u32>,
        out: &mut impl FrameSink,
    ) {
        self.state = State::Left;
        Disconnect {
            reason,
            session_expiry_interval,
        }
        .encode(self.version, self.granted.maximum_packet_size, out);
    }

    /// Takes at most one packet from the front of `input`. `Ok(None)`: more bytes are needed.
    pub fn handle_bytes<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<ClientEvent<'s>>, Violation> {
        let Some(frame) = take_frame(input, self.version, self.asked.maximum_packet_size)? else {
            return Ok(None);
        };
        match (self.state, frame.packet_type) {
            (State::Connected | State::Left, _) => self.handle_packet(&frame).map(Some),
            (State::AwaitConnAck, PacketType::ConnAck) => self.handle_connack(frame.body).map(Some),
            (State::AwaitConnAck, PacketType::Auth) => self.handle_auth(frame.body).map(Some),
            (State::AwaitConnAck, _) => {
                Err(protocol_error("MQTT-3.2.0-1", "packet before CONNACK"))
            }
            (State::Idle, _) => Err(protocol_error("MQTT-3.1.0-1", "packet before CONNECT")),
            (State::Closed, _) => Err(protocol_error(
                "MQTT-3.14.4-1",
                "packet on a connection that is over",
            )),
        }
    }

    fn handle_connack(&mut self, body: &[u8]) -> Result<ClientEvent<'static>, Violation> {
        let connack = ConnAck::decode(body, self.version)?;
        if connack.reason != ReasonCode::Success {
            self.state = State::Closed; // [MQTT-3.2.2-7], [3.1.1 MQTT-3.2.2-5]
            return Ok(ClientEvent::ConnAck(Box::new(connack)));
        }
        if connack.session_present && self.asked.clean_start {
            let rule = "MQTT-3.2.2-2, 3.1.1 MQTT-3.2.2-1";
            return Err(protocol_error(rule, "session present after a clean start"));
        }
        if self.version.is_v5() {
            self.check_connack(&connack)?;
        }
        self.state = State::Connected;
        // MQTT 3.1 has no words for it: whoever asked for the old session may have got it.
        let untold = self.version == ProtocolVersion::V3_1 && !self.asked.clean_start;
        let session_present = connack.session_present || untold;
        self.ledger.resumed = session_present;
        self.granted = Granted {
            session_present,
            maximum_packet_size: connack.maximum_packet_size.unwrap_or(u32::MAX),
            receive_maximum: connack.receive_maximum,
        };
        Ok(ClientEvent::ConnAck(Box::new(connack)))
    }

    fn check_connack(&self, connack: &ConnAck) -> Result<(), Violation> {
        if self.asked.empty_client_id && connack.assigned_client_id.is_none() {
            return Err(protocol_error("MQTT-3.2.2-16", "no client id assigned"));
        }
        if self.asked.authentication != connack.authentication_method.is_some() {
            let rule = "MQTT-4.12.0-5, MQTT-4.12.0-6";
            return Err(protocol_error(
                rule,
                "authentication method other than asked",
            ));
        }
        if connack.response_information.is_some() && !self.asked.response_information {
            return Err(protocol_error(
                "MQTT-3.1.2-28",
                "response information that nobody asked for",
            ));
        }
        Ok(())
    }

    fn handle_auth(&self, body: &[u8]) -> Result<ClientEvent<'static>, Violation> {
        if !self.asked.authentication {
            return Err(protocol_error(
                "MQTT-4.12.0-6",
                "AUTH that nobody asked for",
            ));
        }
        Ok(ClientEvent::Auth(Box::new(Auth::decode(
            body,
            Side::Server,
        )?)))
    }

    fn handle_packet<'s>(&'s mut self, frame: &Frame<'s>) -> Result<ClientEvent<'s>, Violation> {
        let (body, version) = (frame.body, self.version);
        let ack = || acks::decode(frame.packet_type, body, version, Side::Server);
        match frame.packet_type {
            PacketType::Publish => self.handle_publish(frame).map(ClientEvent::Publish),
            PacketType::PubAck => {
                let (packet_id, reason) = ack()?;
                self.ledger.answered(packet_id, Owed::PubAck, None)?;
                Ok(ClientEvent::PubAck { packet_id, reason })
            }
            PacketType::PubRec => {
                let (packet_id, reason) = ack()?;
                let next = (!reason.is_error()).then_some(Owed::Nothing);
                self.ledger.answered(packet_id, Owed::PubRec, next)?;
                Ok(ClientEvent::PubRec { packet_id, reason })
            }
            PacketType::PubRel => {
                let (packet_id, reason) = ack()?;
                self.ledger.released(packet_id)?;
                Ok(ClientEvent::PubRel { packet_id, reason })
            }
            PacketType::PubComp => {
                let (packet_id, reason) = ack()?;
                self.ledger.answered(packet_id, Owed::PubComp, None)?;
                Ok(ClientEvent::PubComp { packet_id, reason })
            }
            PacketType::SubAck => self.handle_suback(body),
            PacketType::UnsubAck => self.handle_unsuback(body),
            PacketType::PingResp => {
                ping::decode(body)?;
                let rest = self.pings.checked_sub(1);
                self.pings =
                    rest.ok_or(protocol_error("MQTT-3.12.4-1", "PINGRESP to no PINGREQ"))?;
                Ok(ClientEvent::Pong)
            }
            PacketType::Disconnect if version.is_v5() => {
                self.state = State::Closed;
                let reason = Disconnect::decode(body, version, Side::Server)?.reason;
                Ok(ClientEvent::Disconnect { reason })
            }
            PacketType::Auth => self.handle_auth(body),
            PacketType::ConnAck => Err(protocol_error("MQTT-3.2.0-2", "second CONNACK")),
            PacketType::Connect
            | PacketType::Subscribe
            | PacketType::Unsubscribe
            | PacketType::PingReq
            | PacketType::Disconnect => Err(protocol_error(
                "MQTT 5 2.1.2",
                "packet that only clients send",
            )),
        }
    }

    fn handle_publish<'s>(&'s mut self, frame: &Frame<'s>) -> Result<PublishView<'s>, Violation> {
        let mut view = PublishView::decode(frame.flags, frame.body, self.version)?;
        if memchr::memchr2(b'+', b'#', view.topic.as_bytes()).is_some() {
            let rule = "MQTT-3.3.2-2";
            return Err(protocol_error(rule, "wildcard in a topic name"));
        }
        if view.qos != Qos::AtMostOnce {
            self.note_received(&view)?;
        }
        match view.topic_alias {
            Some(alias) => {
                InboundAliases::check(alias, self.asked.topic_alias_maximum)?; // [MQTT-3.3.2-11]
                if view.topic.is_empty() {
                    view.topic = self.aliases.resolve(alias)?;
                } else {
                    self.aliases.assign(alias, view.topic);
                }
            }
            None if view.topic.is_empty() => {
                return Err(protocol_error(
                    "MQTT-4.7.3-1",
                    "PUBLISH without topic name and alias",
                ));
            }
            None => {}
        }
        Ok(view)
    }

    fn note_received(&mut self, view: &PublishView<'_>) -> Result<(), Violation> {
        if view.dup && !self.granted.session_present {
            let rule = "MQTT-3.3.1-3";
            return Err(protocol_error(
                rule,
                "DUP on a message that cannot have been sent before",
            ));
        }
        // Before MQTT 5 servers may repeat on the same connection, and know no Receive Maximum.
        let (may_repeat, maximum) = match self.version {
            ProtocolVersion::V5 => (false, usize::from(self.asked.receive_maximum)),
            _ => (view.dup, usize::MAX),
        };
        self.ledger
            .received(view.packet_id, view.qos, may_repeat, maximum)
    }

    fn handle_suback(&mut self, body: &[u8]) -> Result<ClientEvent<'static>, Violation> {
        let SubAck { packet_id, reasons } = SubAck::decode(body, self.version)?;
        let asked = self
            .ledger
            .forget(packet_id, |owed| matches!(owed, Owed::SubAck { .. }));
        match asked {
            Some(Owed::SubAck { filters }) if filters == reasons.len() => {
                Ok(ClientEvent::SubAck { packet_id, reasons })
            }
            Some(_) => {
                let rule = "MQTT-3.8.4-6, 3.1.1 MQTT-3.8.4-5";
                Err(protocol_error(
                    rule,
                    "SUBACK without a reason for each filter",
                ))
            }
            None => Err(NO_REQUEST),
        }
    }

    fn handle_unsuback(&mut self, body: &[u8]) -> Result<ClientEvent<'static>, Violation> {
        let UnsubAck { packet_id, reasons } = UnsubAck::decode(body, self.version)?;
        let asked = self
            .ledger
            .forget(packet_id, |owed| matches!(owed, Owed::UnsubAck { .. }));
        match asked {
            Some(Owed::UnsubAck { filters })
                if filters == reasons.len() || !self.version.is_v5() =>
            {
                Ok(ClientEvent::UnsubAck { packet_id, reasons })
            }
            Some(_) => Err(protocol_error(
                "MQTT-3.11.3-1",
                "UNSUBACK without a reason for each filter",
            )),
            None => Err(NO_REQUEST),
        }
    }
}
