//! The server's side of an MQTT conversation: which packet may come now, and what goes back.
//!
//! Owns framing, topic aliases, size and receive-maximum counts and keep-alive. Packet ids, inflight windows,
//! QoS 2 ids and the order of acknowledgements belong to the session in shard-router.

use super::connack::ConnAck;
use super::connect::{self, Connect};
use super::connected::Connected;
use super::disconnect::Disconnect;
use super::frame::{check_connect_header, take_frame, PacketType};
use super::subscribe::{Subscribe, Unsubscribe};
use super::{protocol_error, ProtocolVersion};
use crate::conversation::{Ack, Delivered, Delivery, FrameSink, Millis, Violation};
use crate::cursor::{variable_integer, VariableInteger};
use crate::message::Message;
use crate::mqtt::reason_code::ReasonCode;
use crate::topic::TopicLimits;

/// What a peer may do, the same for all connections of a listener.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Whole packets; announced as Maximum Packet Size.
    pub packet_bytes_max: u32,
    /// A CONNECT above this is refused before anything is reserved for it.
    pub connect_bytes_max: u32,
    pub client_id_bytes_max: u16,
    pub topic: TopicLimits,
    pub receive_maximum: u16,
    pub topic_alias_maximum: u16,
    /// Keep-alive is capped at this for MQTT 5 (Server Keep Alive); 3.1.1 clients keep theirs.
    pub keep_alive_max: u16,
    /// Seconds; session expiry is capped at this and the cap announced.
    pub session_expiry_max: u32,
    pub connect_timeout_ms: u32,
}

impl Limits {
    /// The limits of a gateway that nobody configured.
    pub const DEFAULT: Limits = Limits {
        packet_bytes_max: 1 << 20,
        connect_bytes_max: 256 << 10,
        client_id_bytes_max: 256,
        topic: TopicLimits {
            bytes_max: 1_024,
            levels_max: 32,
        },
        receive_maximum: 32,
        topic_alias_maximum: 16,
        keep_alive_max: 3_600,
        session_expiry_max: 30 * 24 * 3_600,
        connect_timeout_ms: 10_000,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Limits::DEFAULT
    }
}

/// What a client said. Answers to PINGREQ are already written when [`Event::Ping`] is returned.
#[derive(Debug)]
pub enum Event {
    /// The driver answers with [`ServerConnection::accept`] or [`ServerConnection::refuse`]; bytes behind the
    /// CONNECT are not looked at before.
    Connect(Box<Connect>),
    Publish(Publish),
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
    Subscribe(Box<Subscribe>),
    Unsubscribe(Box<Unsubscribe>),
    Ping,
    /// `reason` is [`ReasonCode::DisconnectWithWill`] where the will is wanted all the same; the session expiry
    /// interval is the one of the DISCONNECT, where it carries one, capped by [`Limits::session_expiry_max`].
    Disconnect {
        reason: ReasonCode,
        session_expiry_interval: Option<u32>,
    },
}

/// A PUBLISH with its alias resolved.
#[derive(Debug, Clone)]
pub struct Publish {
    pub message: Message,
    /// 0 for QoS 0.
    pub packet_id: u16,
    pub dup: bool,
}

/// What the server grants with its CONNACK.
#[derive(Debug, Clone, Default)]
pub struct Accepted {
    pub session_present: bool,
    /// Set where the server chose the client id.
    pub assigned_client_id: Option<String>,
    /// Seconds, as granted; announced where it differs from what was asked.
    pub session_expiry_interval: u32,
}

/// One connection's conversation. Holds no buffers while idle.
#[derive(Debug)]
pub struct ServerConnection {
    version: ProtocolVersion,
    state: State,
}

// A million idle connections hold one each.
const _: () = assert!(size_of::<ServerConnection>() <= 64);

#[derive(Debug)]
enum State {
    /// Nothing but a CONNECT may come, until `deadline`.
    AwaitConnect {
        deadline: Millis,
    },
    /// CONNECT was decoded; the driver has not decided yet.
    Authenticating {
        /// The client's; `u32::MAX` where it has none.
        maximum_packet_size: u32,
    },
    Connected(Connected),
    /// Nothing is read any more.
    Closing {
        farewell: Farewell,
    },
}

/// What may still be said to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// CONNACK with an error [MQTT-3.14.0-1], in at most this many bytes.
    ConnAck {
        maximum_packet_size: u32,
    },
    /// DISCONNECT, of MQTT 5 only, in at most this many bytes.
    Disconnect {
        maximum_packet_size: u32,
    },
    Nothing,
}

/// Everything has been said.
const CLOSED: State = State::Closing {
    farewell: Farewell::Nothing,
};

const CONNECT_FIRST: Violation =
    protocol_error("MQTT-3.1.0-1", "the first packet is not a CONNECT");
const CONNECT_TIMEOUT: Violation = Violation::new(
    ReasonCode::KeepAliveTimeout,
    "MQTT 5 3.1",
    "no CONNECT in time",
);
const KEEP_ALIVE_TIMEOUT: Violation = Violation::new(
    ReasonCode::KeepAliveTimeout,
    "MQTT-3.1.2-22, 3.1.1 MQTT-3.1.2-24",
    "nothing came for one and a half keep-alive times",
);

impl ServerConnection {
    /// The clock of the CONNECT timeout, of ten seconds, starts at `now`.
    pub fn new(now: Millis) -> Self {
        Self::with_connect_timeout(now, Limits::DEFAULT.connect_timeout_ms)
    }

    /// As [`ServerConnection::new`], with the timeout of [`Limits::connect_timeout_ms`].
    pub fn with_connect_timeout(now: Millis, timeout_ms: u32) -> Self {
        let deadline = now + u64::from(timeout_ms);
        ServerConnection {
            version: ProtocolVersion::default(),
            state: State::AwaitConnect { deadline },
        }
    }

    /// The version of the CONNECT; 3.1.1 before one came.
    pub fn version(&self) -> ProtocolVersion {
        self.version
    }

    /// Accepted, and neither side said goodbye.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected(_))
    }

    /// Nothing is read any more: the driver writes what is in the sink and closes.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. })
    }

    /// Takes at most one packet from the front of `input`. `Ok(None)`: more bytes are needed (nothing was taken),
    /// the driver's answer to CONNECT is awaited, or the connection is closing.
    ///
    /// After an error the connection only waits to be closed; [`ServerConnection::fail`] writes the farewell.
    pub fn handle_bytes(
        &mut self,
        now: Millis,
        input: &mut &[u8],
        limits: &Limits,
        out: &mut impl FrameSink,
    ) -> Result<Option<Event>, Violation> {
        let result = match &mut self.state {
            State::Connected(connected) => {
                match take_frame(input, self.version, limits.packet_bytes_max) {
                    Ok(Some(frame)) => {
                        connected.last_seen = now;
                        connected.handle_packet(now, &frame, self.version, limits, out)
                    }
                    Ok(None) => return Ok(None),
                    Err(violation) => Err(violation),
                }
            }
            State::AwaitConnect { .. } => self.handle_connect(input, limits),
            // [MQTT-3.1.4-6], [3.1.1 MQTT-3.1.4-5], [MQTT-3.14.4-1]
            State::Authenticating { .. } | State::Closing { .. } => return Ok(None),
        };
        // Looked at and not taken apart: an event is moved no more often than it must be.
        match &result {
            Err(_) => {
                self.state = State::Closing {
                    farewell: self.farewell(),
                }
            }
            Ok(Some(Event::Disconnect { .. })) => {
                self.state = CLOSED;
            }
            Ok(_) => {}
        }
        result
    }

    /// The only packet that may come first [MQTT-3.1.0-1].
    fn handle_connect(
        &mut self,
        input: &mut &[u8],
        limits: &Limits,
    ) -> Result<Option<Event>, Violation> {
        let Some(&first) = input.first() else {
            return Ok(None);
        };
        if PacketType::from_first_byte(first) != Some(PacketType::Connect) {
            return Err(CONNECT_FIRST);
        }
        let frame = match take_frame(input, ProtocolVersion::V3_1, limits.connect_bytes_max) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ok(None),
            Err(violation) if violation.reason == ReasonCode::PacketTooLarge => {
                // A few bytes more tell in which form the refusal is understood.
                let Some(version) = connect_body(input).and_then(connect::peek_version) else {
                    return Ok(None);
                };
                self.version = version;
                return Err(violation);
            }
            Err(violation) => return Err(violation),
        };
        let connect = Connect::decode(frame.body, limits, &mut self.version)?;
        check_connect_header(&frame, self.version)?;
        self.state = State::Authenticating {
            maximum_packet_size: connect.maximum_packet_size.unwrap_or(u32::MAX),
        };
        Ok(Some(Event::Connect(Box::new(connect))))
    }

    fn farewell(&self) -> Farewell {
        match &self.state {
            State::AwaitConnect { .. } => Farewell::ConnAck {
                maximum_packet_size: u32::MAX,
            },
            State::Authenticating {
                maximum_packet_size,
            } => Farewell::ConnAck {
                maximum_packet_size: *maximum_packet_size,
            },
            State::Connected(Connected {
                maximum_packet_size,
                ..
            }) if self.version.is_v5() => Farewell::Disconnect {
                maximum_packet_size: *maximum_packet_size,
            },
            State::Connected(_) => Farewell::Nothing, // 3.1.1 closes without a word.
            State::Closing { farewell } => *farewell,
        }
    }

    /// Answers CONNECT with success. Where not even the indispensable properties of the CONNACK fit into the
    /// client's maximum packet size, the connection [is closing](Self::is_closing) afterwards.
    pub fn accept(
        &mut self,
        now: Millis,
        connect: &Connect,
        accepted: &Accepted,
        limits: &Limits,
        out: &mut impl FrameSink,
    ) {
        self.version = connect.version;
        let maximum_packet_size = connect.maximum_packet_size.unwrap_or(u32::MAX);
        let keep_alive = granted_keep_alive(connect, limits);
        let announced = announcement(connect, accepted, keep_alive, limits);
        let Some(announced) = write_fitting(announced, self.version, maximum_packet_size, out)
        else {
            self.state = CLOSED;
            return;
        };
        self.state = State::Connected(Connected::new(now, connect, &announced, keep_alive));
    }

    /// Answers CONNECT with an error; the driver closes. Works on another shard than the one that decoded the
    /// CONNECT, because the connection travels with it. A reason 3.1.1 has no return code for closes without a word,
    /// and so does a client that takes no packet as long as a CONNACK [MQTT-3.1.2-24].
    pub fn refuse(&mut self, reason: ReasonCode, out: &mut impl FrameSink) {
        if let Farewell::ConnAck {
            maximum_packet_size,
        } = self.farewell()
        {
            ConnAck::new(reason, false).encode(self.version, maximum_packet_size, out);
        }
        self.state = CLOSED; // [MQTT-3.2.2-7]
    }

    /// Writes an acknowledgement and gives back receive quota where the standard says so.
    pub fn acknowledge(&mut self, ack: &Ack<'_>, out: &mut impl FrameSink) {
        if let State::Connected(connected) = &mut self.state {
            connected.acknowledge(ack, self.version, out);
        }
    }

    /// Writes a PUBLISH. What was written must reach the client or the connection must end: a topic alias may
    /// have been introduced with it, so a driver drops deliveries before this call and never after it.
    ///
    /// On a connection that is closing nothing is written; the answer is [`Delivered::Written`] all the same, so
    /// that the session keeps the message until it is acknowledged on another connection.
    pub fn deliver(&mut self, delivery: &Delivery<'_>, out: &mut impl FrameSink) -> Delivered {
        match &mut self.state {
            State::Connected(connected) => connected.deliver(delivery, self.version, out),
            _ => Delivered::Written,
        }
    }

    /// Says goodbye where the version has words for it (MQTT 5 DISCONNECT, CONNACK before one was sent); the
    /// driver closes.
    pub fn disconnect(&mut self, reason: ReasonCode, out: &mut impl FrameSink) {
        match self.farewell() {
            Farewell::ConnAck { .. } => return self.refuse(reason, out),
            Farewell::Disconnect {
                maximum_packet_size,
            } => {
                Disconnect::new(reason.fitted_to(PacketType::Disconnect)).encode(
                    self.version,
                    maximum_packet_size,
                    out,
                );
            }
            Farewell::Nothing => {}
        }
        self.state = CLOSED;
    }

    /// Writes what the standard wants said after a violation: CONNACK with a code, DISCONNECT, or nothing
    /// [MQTT-4.13.1-1].
    pub fn fail(&mut self, violation: &Violation, out: &mut impl FrameSink) {
        self.disconnect(violation.reason, out);
    }

    /// When [`ServerConnection::handle_timeout`] wants to be called; [`Millis::NEVER`] without keep-alive and
    /// while the driver decides about a CONNECT.
    pub fn poll_timeout(&self) -> Millis {
        match &self.state {
            State::AwaitConnect { deadline } => *deadline,
            State::Connected(connected) => connected.deadline(),
            State::Authenticating { .. } | State::Closing { .. } => Millis::NEVER,
        }
    }

    /// CONNECT did not come in time, or nothing came for one and a half keep-alive times [MQTT-3.1.2-22].
    pub fn handle_timeout(&mut self, now: Millis) -> Result<(), Violation> {
        if now < self.poll_timeout() {
            return Ok(());
        }
        match self.state {
            State::AwaitConnect { .. } => {
                self.state = CLOSED;
                Err(CONNECT_TIMEOUT)
            }
            State::Connected(_) => {
                self.state = State::Closing {
                    farewell: self.farewell(),
                };
                Err(KEEP_ALIVE_TIMEOUT)
            }
            State::Authenticating { .. } | State::Closing { .. } => Ok(()),
        }
    }

    /// Starts the keep-alive anew. For a driver that stopped reading by itself: silence was not the client's.
    pub fn restart_keep_alive(&mut self, now: Millis) {
        if let State::Connected(connected) = &mut self.state {
            connected.last_seen = now;
        }
    }

    /// When the last packet came; `None` before CONNECT was accepted.
    pub fn last_seen(&self) -> Option<Millis> {
        match &self.state {
            State::Connected(connected) => Some(connected.last_seen),
            _ => None,
        }
    }
}

/// The body of a CONNECT, as far as it is there.
fn connect_body(input: &[u8]) -> Option<&[u8]> {
    match variable_integer(input.get(1..)?) {
        VariableInteger::Value { len, .. } => input.get(1 + len..),
        _ => None,
    }
}

/// The keep-alive that holds: MQTT 5 clients are told our cap, also where they asked for none.
fn granted_keep_alive(connect: &Connect, limits: &Limits) -> u16 {
    match connect.keep_alive {
        asked if !connect.version.is_v5() || limits.keep_alive_max == 0 => asked,
        0 => limits.keep_alive_max,
        asked => asked.min(limits.keep_alive_max),
    }
}

/// The CONNACK that says what differs from the standard's defaults and from what the client asked.
fn announcement(
    connect: &Connect,
    accepted: &Accepted,
    keep_alive: u16,
    limits: &Limits,
) -> ConnAck {
    let session_expiry = accepted
        .session_expiry_interval
        .min(limits.session_expiry_max);
    ConnAck {
        session_expiry_interval: (session_expiry != connect.session_expiry_interval)
            .then_some(session_expiry),
        receive_maximum: limits.receive_maximum.max(1), // 0 may not be said
        maximum_packet_size: Some(limits.packet_bytes_max),
        assigned_client_id: accepted.assigned_client_id.clone(), // [MQTT-3.2.2-16]
        topic_alias_maximum: limits.topic_alias_maximum,
        server_keep_alive: (keep_alive != connect.keep_alive).then_some(keep_alive), // [MQTT-3.2.2-21]
        ..ConnAck::new(ReasonCode::Success, accepted.session_present)
    }
}

/// Writes the CONNACK. Into a small Maximum Packet Size it fits without what a client can do without, in this
/// order: aliases, our packet size, our receive maximum. What was announced comes back.
fn write_fitting(
    mut connack: ConnAck,
    version: ProtocolVersion,
    max: u32,
    out: &mut impl FrameSink,
) -> Option<ConnAck> {
    let leave_out: [fn(&mut ConnAck); 3] = [
        |connack| connack.topic_alias_maximum = 0,
        |connack| connack.maximum_packet_size = None,
        |connack| connack.receive_maximum = u16::MAX,
    ];
    let mut leave_out = leave_out.iter();
    while connack.encode(version, max, out) == Delivered::TooLarge {
        leave_out.next()?(&mut connack);
    }
    Some(connack)
}
