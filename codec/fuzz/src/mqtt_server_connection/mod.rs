//! A whole server conversation: packets right, almost right and raw, cut anywhere, mixed with the driver's verbs and
//! with time. The other end is the strict `ClientConnection`, told of every packet the server understood, so
//! that it objects to any answer that answers nothing.
//!
//! What must hold: no panic; one event a packet and none after a violation; the Receive Maximum is exceeded never and
//! a violation says so exactly then; every byte written makes whole packets that the client accepts; nothing is
//! written after the farewell; what a packet costs in memory is bounded by its bytes; keep-alive ends to the
//! millisecond.
//!
//! Fed: settings, then operations, see [`Conversation::step`]. Every number is read from the front, one byte mostly,
//! so that seeds can be written by hand.

mod client;
mod packets;
mod verbs;

use arbitrary::{Result, Unstructured};
use tidegate_codec::mqtt::connect::Connect;
use tidegate_codec::mqtt::connection::{Event, Limits, Publish, ServerConnection};
use tidegate_codec::mqtt::frame::{frame_len, FrameLen};
use tidegate_codec::topic::{self, TopicLimits};
use tidegate_codec::{Millis, Qos, ReasonCode, Violation};

use super::meter;
use client::Shadow;

/// Limits worth meeting: the usual ones, narrow ones, and the ends of the ranges.
pub fn limits(profile: u8) -> Limits {
    let narrow = Limits {
        packet_bytes_max: 128,
        connect_bytes_max: 64,
        client_id_bytes_max: 8,
        topic: TopicLimits {
            bytes_max: 12,
            levels_max: 3,
        },
        receive_maximum: 2,
        topic_alias_maximum: 2,
        keep_alive_max: 5,
        session_expiry_max: 10,
        connect_timeout_ms: 100,
    };
    match profile % 4 {
        0 => Limits::DEFAULT,
        1 => narrow,
        2 => Limits {
            receive_maximum: 0,
            topic_alias_maximum: 0,
            keep_alive_max: 0,
            ..Limits::DEFAULT
        },
        _ => Limits {
            receive_maximum: u16::MAX,
            topic_alias_maximum: u16::MAX,
            packet_bytes_max: u32::MAX,
            connect_bytes_max: u32::MAX,
            ..Limits::DEFAULT
        },
    }
}

pub fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(profile) = input.arbitrary() else {
        return;
    };
    let mut conversation = Conversation::new(limits(profile));
    // The end of the input is the end of the conversation.
    while !input.is_empty() && conversation.step(&mut input).is_ok() {}
}

/// A server's connection, its driver, and the wire towards it.
struct Conversation {
    now: Millis,
    limits: Limits,
    server: ServerConnection,
    /// Sent and not yet arrived.
    wire: Vec<u8>,
    /// Arrived and not yet read.
    arrived: Vec<u8>,
    written: Vec<u8>,
    /// A CONNECT the driver has not answered.
    waiting: Option<Box<Connect>>,
    client: Shadow,
    /// Unacknowledged messages of the client, as section 4.9 counts them.
    received: u16,
    /// When the last packet came.
    last_seen: Millis,
    violation: Option<Violation>,
    /// Nothing may be written any more.
    farewell_said: bool,
}

impl Conversation {
    fn new(limits: Limits) -> Conversation {
        let now = Millis(1_000);
        Conversation {
            now,
            server: ServerConnection::with_connect_timeout(now, limits.connect_timeout_ms),
            limits,
            wire: Vec::new(),
            arrived: Vec::new(),
            written: Vec::with_capacity(64),
            waiting: None,
            client: Shadow::default(),
            received: 0,
            last_seen: now,
            violation: None,
            farewell_said: false,
        }
    }

    /// One operation: 0 to 4 sends something, 5 lets bytes arrive, the others are the driver's.
    fn step(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.arbitrary::<u8>()? % 16 {
            0 => packets::raw(input, &mut self.wire)?,
            1 => packets::connect(input, &mut self.wire)?,
            2 => packets::publish(input, self.server.version(), &mut self.wire)?,
            3 => packets::other(input, self.server.version(), &mut self.wire)?,
            4 => packets::damage(input, &mut self.wire)?,
            5..=7 => {
                let len = match input.arbitrary::<u8>()? {
                    u8::MAX => usize::MAX,
                    len => usize::from(len),
                };
                self.arrived
                    .extend(self.wire.drain(..len.min(self.wire.len())));
                self.read();
            }
            8 => self.decide(input)?,
            9 | 10 => self.acknowledge(input)?,
            11 | 12 => self.deliver(input)?,
            13 => self.pass_time(input)?,
            14 => {
                self.server.restart_keep_alive(self.now);
                self.last_seen = self.now;
            }
            _ => {
                let reason = packets::error(input)?;
                self.server.disconnect(reason, &mut self.written);
                self.said_farewell();
            }
        }
        self.check();
        Ok(())
    }

    /// Reads what has arrived, packet by packet.
    fn read(&mut self) {
        loop {
            let mut input = &self.arrived[..];
            let (server, out) = (&mut self.server, &mut self.written);
            let foretold = frame_len(input, u32::MAX);
            let read = || server.handle_bytes(self.now, &mut input, &self.limits, out);
            let (result, allocated) = meter::allocated(read);
            let taken = self.arrived.len() - input.len();
            let aliases =
                usize::from(self.limits.topic_alias_maximum) * size_of::<Option<Box<str>>>();
            assert!(
                allocated <= 1_024 + 64 * taken + if taken == 0 { 0 } else { 2 * aliases },
                "{allocated} bytes for a packet of {taken}"
            );
            let event = match result {
                Ok(Some(event)) => event,
                Ok(None) => return assert_eq!((taken, allocated), (0, 0)),
                Err(violation) => return self.break_off(violation),
            };
            assert!(self.violation.is_none() && !self.farewell_said, "{event:?}");
            assert_eq!(foretold, FrameLen::Complete(taken));
            self.arrived.drain(..taken);
            self.last_seen = self.now;
            self.act(event);
            self.check();
        }
    }

    fn act(&mut self, event: Event) {
        match event {
            Event::Connect(connect) => {
                assert!(connect.client_id.len() <= self.limits.client_id_bytes_max.into());
                self.client.connect(&connect);
                self.waiting = Some(connect);
                return;
            }
            Event::Publish(ref publish) => self.check_publish(publish),
            Event::Subscribe(ref subscribe) => assert!(!subscribe.subscriptions.is_empty()),
            Event::Unsubscribe(ref unsubscribe) => assert!(!unsubscribe.filters.is_empty()),
            Event::Disconnect {
                session_expiry_interval: seconds,
                ..
            } => {
                assert!(seconds.is_none_or(|seconds| seconds <= self.limits.session_expiry_max));
                self.said_farewell();
            }
            _ => {}
        }
        self.client.said(&event);
    }

    fn check_publish(&mut self, publish: &Publish) {
        let (message, id) = (&publish.message, publish.packet_id);
        assert_eq!(
            topic::validate_name(message.topic(), self.limits.topic),
            Ok(())
        );
        assert_eq!(id == 0, message.qos() == Qos::AtMostOnce);
        if id != 0 && self.server.version().is_v5() {
            self.received += 1;
            assert!(
                self.received <= self.client.receive_maximum(),
                "[MQTT-3.3.4-7]"
            );
        }
    }

    /// A rule was broken: the driver says so to the client, and nothing is read any more.
    fn break_off(&mut self, violation: Violation) {
        assert!(self.server.is_closing() && !self.farewell_said);
        if violation.reason == ReasonCode::ReceiveMaximumExceeded {
            assert_eq!(self.received, self.client.receive_maximum());
        }
        let rest = &mut &self.arrived[..];
        let again = self
            .server
            .handle_bytes(self.now, rest, &self.limits, &mut self.written);
        assert!(matches!(again, Ok(None)), "an event after a violation");
        self.server.fail(&violation, &mut self.written);
        self.violation = Some(violation);
        self.said_farewell();
    }

    /// What was written is the last that may be. Before a CONNECT was understood a refusal is in the form the server
    /// takes the client for.
    fn said_farewell(&mut self) {
        if !self.client.has_connected() {
            let version = self.server.version();
            self.client.connect(&Connect {
                version,
                ..Connect::default()
            });
        }
        self.check();
        self.farewell_said = true;
        self.waiting = None;
        assert!(self.server.is_closing());
    }

    /// The client reads what was written, and both sides agree about the time.
    fn check(&mut self) {
        assert!(
            !self.farewell_said || self.written.is_empty(),
            "more than a farewell"
        );
        self.client.read(&self.written);
        self.written.clear();
        if self.server.is_connected() {
            let deadline = match self.client.keep_alive() {
                0 => Millis::NEVER,
                seconds => self.last_seen + u64::from(seconds) * 1_500,
            };
            assert_eq!(self.server.poll_timeout(), deadline, "[MQTT-3.1.2-22]");
        }
    }
}
