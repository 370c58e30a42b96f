//! The server's side after CONNECT was accepted: packets, quotas and aliases.

use super::alias::{InboundAliases, OutboundAliases};
use super::connack::ConnAck;
use super::connect::Connect;
use super::connection::{Event, Limits, Publish};
use super::disconnect::Disconnect;
use super::frame::{Frame, PacketType};
use super::publish::{self, PublishView};
use super::reason_code::{ReasonCode, Side};
use super::subscribe::{Subscribe, Unsubscribe};
use super::{acks, ping, protocol_error, suback, unsuback, ProtocolVersion};
use crate::conversation::{Ack, Delivered, Delivery, FrameSink, Millis, Violation};
use crate::message::Qos;
use crate::topic::{self, TopicError, TopicLimits};

/// What an accepted connection remembers.
#[derive(Debug)]
pub(super) struct Connected {
    /// When the last packet came.
    pub(super) last_seen: Millis,
    /// Aliases in use, boxed because few connections use any.
    aliases: Option<Box<Aliases>>,
    /// One and a half keep-alive times; 0 without keep-alive.
    keep_alive_ms: u32,
    /// The client's; `u32::MAX` where it has none.
    pub(super) maximum_packet_size: u32,
    /// How many more QoS 1 and 2 messages the client may send before we acknowledge one; MQTT 5 only.
    receive_quota: u16,
    /// What we announced, and the quota never exceeds.
    receive_maximum: u16,
    /// What we announced: the highest alias the client may use.
    inbound_alias_maximum: u16,
    /// What the client announced: the highest alias we may use.
    outbound_alias_maximum: u16,
    /// CONNECT asked for a session that ends with the connection.
    session_expiry_was_zero: bool,
}

#[derive(Debug, Default)]
struct Aliases {
    inbound: InboundAliases,
    outbound: OutboundAliases,
}

const SECOND_CONNECT: Violation = protocol_error("MQTT-3.1.0-2", "second CONNECT");
const SERVERS_PACKET: Violation = protocol_error("MQTT 5 2.1.2", "packet that only servers send");
impl Connected {
    /// As CONNECT asked and `announced` granted.
    pub(super) fn new(
        now: Millis,
        connect: &Connect,
        announced: &ConnAck,
        keep_alive: u16,
    ) -> Self {
        Connected {
            last_seen: now,
            aliases: None,
            keep_alive_ms: u32::from(keep_alive) * 1_500, // [MQTT-3.1.2-22]
            maximum_packet_size: connect.maximum_packet_size.unwrap_or(u32::MAX),
            receive_quota: announced.receive_maximum,
            receive_maximum: announced.receive_maximum,
            inbound_alias_maximum: announced.topic_alias_maximum,
            outbound_alias_maximum: connect.topic_alias_maximum,
            session_expiry_was_zero: connect.session_expiry_interval == 0,
        }
    }

    /// When silence has lasted too long.
    pub(super) fn deadline(&self) -> Millis {
        match self.keep_alive_ms {
            0 => Millis::NEVER,
            ms => self.last_seen + u64::from(ms),
        }
    }

    /// One packet of a client that was accepted.
    pub(super) fn handle_packet(
        &mut self,
        now: Millis,
        frame: &Frame<'_>,
        version: ProtocolVersion,
        limits: &Limits,
        out: &mut impl FrameSink,
    ) -> Result<Option<Event>, Violation> {
        let body = frame.body;
        let ack = || acks::decode(frame.packet_type, body, version, Side::Client);
        let event = match frame.packet_type {
            PacketType::Publish => {
                let mut view = PublishView::decode(frame.flags, body, version)?;
                return self.handle_publish(now, &mut view, version, limits);
            }
            PacketType::PubAck => {
                let (packet_id, reason) = ack()?;
                Event::PubAck { packet_id, reason }
            }
            PacketType::PubRec => {
                let (packet_id, reason) = ack()?;
                Event::PubRec { packet_id, reason }
            }
            PacketType::PubRel => {
                let (packet_id, reason) = ack()?;
                Event::PubRel { packet_id, reason }
            }
            PacketType::PubComp => {
                let (packet_id, reason) = ack()?;
                Event::PubComp { packet_id, reason }
            }
            PacketType::Subscribe => {
                Event::Subscribe(Box::new(Subscribe::decode(body, version, limits.topic)?))
            }
            PacketType::Unsubscribe => {
                Event::Unsubscribe(Box::new(Unsubscribe::decode(body, version, limits.topic)?))
            }
            PacketType::PingReq => {
                ping::decode(body)?;
                ping::encode_response(out); // [MQTT-3.12.4-1]
                Event::Ping
            }
            PacketType::Disconnect => self.handle_disconnect(body, version, limits)?,
            PacketType::Connect => return Err(SECOND_CONNECT),
            // CONNECTs with an authentication method are refused, so whoever is connected did without
            // [MQTT-4.12.0-7].
            PacketType::Auth => {
                return Err(protocol_error("MQTT-4.12.0-7", "AUTH without a method"))
            }
            PacketType::ConnAck
            | PacketType::SubAck
            | PacketType::UnsubAck
            | PacketType::PingResp => return Err(SERVERS_PACKET),
        };
        Ok(Some(event))
    }

    fn handle_publish<'a>(
        &'a mut self,
        now: Millis,
        view: &mut PublishView<'a>,
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Option<Event>, Violation> {
        if view.has_subscription_ids {
            let rule = "MQTT-3.3.4-6";
            return Err(protocol_error(
                rule,
                "subscription identifier from a client",
            ));
        }
        let alias = view.topic_alias;
        if let Some(alias) = alias {
            InboundAliases::check(alias, self.inbound_alias_maximum)?;
        }
        if !view.topic.is_empty() || alias.is_none() {
            check_topic(view.topic, limits.topic)?;
        }
        if view.qos != Qos::AtMostOnce && version.is_v5() {
            self.take_quota()?;
        }
        if let Some(alias) = alias {
            let aliases = self.aliases.get_or_insert_default();
            if view.topic.is_empty() {
                view.topic = aliases.inbound.resolve(alias)?;
            } else {
                aliases.inbound.assign(alias, view.topic);
            }
        }
        Ok(Some(Event::Publish(Publish {
            message: view.to_message(now),
            packet_id: view.packet_id,
            dup: view.dup,
        })))
    }

    fn handle_disconnect(
        &mut self,
        body: &[u8],
        version: ProtocolVersion,
        limits: &Limits,
    ) -> Result<Event, Violation> {
        let disconnect = Disconnect::decode(body, version, Side::Client)?;
        let asked = disconnect.session_expiry_interval;
        if self.session_expiry_was_zero && asked.is_some_and(|seconds| seconds != 0) {
            let rule = "MQTT 5 3.14.2.2.2";
            return Err(protocol_error(
                rule,
                "session expiry in DISCONNECT, none in CONNECT",
            ));
        }
        let session_expiry_interval = asked.map(|seconds| seconds.min(limits.session_expiry_max));
        Ok(Event::Disconnect {
            reason: disconnect.reason,
            session_expiry_interval,
        })
    }

    pub(super) fn acknowledge(
        &mut self,
        ack: &Ack<'_>,
        version: ProtocolVersion,
        out: &mut impl FrameSink,
    ) {
        let max = self.maximum_packet_size;
        let mut write = |packet: PacketType, packet_id, reason: ReasonCode| {
            acks::encode(
                packet,
                packet_id,
                reason.fitted_to(packet),
                version,
                max,
                out,
            );
        };
        match *ack {
            Ack::PubAck { packet_id, reason } => {
                write(PacketType::PubAck, packet_id, reason);
                self.give_back_quota();
            }
            Ack::PubRec {
                packet_id,
                reason,
                again,
            } => {
                write(PacketType::PubRec, packet_id, reason);
                // MQTT 5 section 4.9: PUBREC ends an exchange only by an error.
                if reason.is_error() && !again {
                    self.give_back_quota();
                }
            }
            Ack::PubRel { packet_id, reason } => write(PacketType::PubRel, packet_id, reason),
            Ack::PubComp { packet_id, reason } => {
                write(PacketType::PubComp, packet_id, reason);
                self.give_back_quota();
            }
            Ack::SubAck { packet_id, reasons } => {
                suback::encode(packet_id, reasons, version, max, out)
            }
            Ack::UnsubAck { packet_id, reasons } => {
                unsuback::encode(packet_id, reasons, version, max, out);
            }
        }
    }

    pub(super) fn deliver(
        &mut self,
        delivery: &Delivery<'_>,
        version: ProtocolVersion,
        out: &mut impl FrameSink,
    ) -> Delivered {
        let max = self.maximum_packet_size;
        if self.outbound_alias_maximum == 0 {
            return publish::encode_delivery(delivery, version, None, max, out); // [MQTT-3.1.2-27]
        }
        let topic = delivery.message.topic_bytes();
        let aliases = self.aliases.get_or_insert_default();
        let alias = aliases.outbound.propose(topic, self.outbound_alias_maximum);
        let delivered = publish::encode_delivery(delivery, version, alias, max, out);
        if delivered == Delivered::Written && alias.is_some_and(|alias| !alias.known) {
            aliases.outbound.introduce(topic);
        }
        delivered
    }

    /// MQTT 5 section 4.9; 3.1.1 knows no Receive Maximum.
    fn take_quota(&mut self) -> Result<(), Violation> {
        self.receive_quota = self.receive_quota.checked_sub(1).ok_or(Violation::new(
            ReasonCode::ReceiveMaximumExceeded,
            "MQTT-3.3.4-7",
            "more unacknowledged messages than our Receive Maximum",
        ))?;
        Ok(())
    }

    /// Never above the maximum: a PUBCOMP may end an exchange that began on an earlier connection.
    fn give_back_quota(&mut self) {
        self.receive_quota = self
            .receive_quota
            .saturating_add(1)
            .min(self.receive_maximum);
    }
}

fn check_topic(topic: &str, limits: TopicLimits) -> Result<(), Violation> {
    topic::validate_name(topic, limits).map_err(|error| {
        let invalid = |rule, text| Violation::new(ReasonCode::TopicNameInvalid, rule, text);
        match error {
            TopicError::Empty => {
                let rule = "MQTT 5 3.3.2.1, 3.1.1 MQTT-4.7.3-1";
                protocol_error(rule, "PUBLISH without topic name and alias")
            }
            TopicError::WildcardInName => invalid("MQTT-3.3.2-2", "wildcard in a topic name"),
            TopicError::TooLong => invalid("limit of topic bytes", "topic name is too long"),
            TopicError::TooManyLevels => {
                invalid("limit of topic levels", "topic name has too many levels")
            }
            TopicError::NullCharacter | TopicError::MisplacedWildcard | TopicError::BadShare => {
                invalid("MQTT-4.7.3-2", "topic name is none")
            }
        }
    })
}
