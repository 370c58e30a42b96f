//! The small contract that every protocol's conversation shares: time in, bytes in, events and bytes out.
//!
//! A protocol's `connection.rs` offers `handle_bytes`, `handle_timeout`, `poll_timeout` and the verbs by which
//! the driver hands decisions back: `accept`, `refuse`, `acknowledge`, `deliver`, `disconnect`. Every verb that
//! puts bytes on the wire writes them into a [`FrameSink`], so a connection holds no output of its own.

use std::ops::{Add, Range};
use std::sync::Arc;

use crate::message::{Message, Qos};
use crate::mqtt::reason_code::ReasonCode;

/// Monotonic milliseconds since an arbitrary start. Always handed in, never read here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// Later than every deadline.
    pub const NEVER: Millis = Millis(u64::MAX);

    /// `seconds` from now; saturates at [`Millis::NEVER`].
    pub fn plus_seconds(self, seconds: u32) -> Millis {
        Millis(self.0.saturating_add(u64::from(seconds) * 1_000))
    }

    /// Milliseconds from `earlier` to `self`, 0 where `earlier` is not earlier.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Millis {
    type Output = Millis;

    /// Adds milliseconds; saturates at [`Millis::NEVER`].
    fn add(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }
}

/// Where a conversation writes what goes on the wire.
///
/// The driver's out-queue implements it; so does `Vec<u8>`, for tests and for small answers.
pub trait FrameSink {
    /// Appends bytes that belong to this connection alone.
    fn put(&mut self, bytes: &[u8]);

    /// Appends `block[range]`. The sink may copy the bytes or keep a reference to the block: short bodies are
    /// cheaper to copy, long ones to share.
    fn put_shared(&mut self, block: &Arc<[u8]>, range: Range<usize>);
}

impl FrameSink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn put_shared(&mut self, block: &Arc<[u8]>, range: Range<usize>) {
        self.extend_from_slice(&block[range]);
    }
}

/// One message on its way to one client.
#[derive(Debug, Clone, Copy)]
pub struct Delivery<'a> {
    /// The message; its own QoS and retain flag are the publisher's and are not what goes on the wire.
    pub message: &'a Message,
    /// The QoS of this delivery: the smaller of the publisher's and the subscription's.
    pub qos: Qos,
    /// The RETAIN flag as this subscriber sees it.
    pub retain: bool,
    /// Sent before on an earlier connection of the session (DUP).
    pub dup: bool,
    /// Non-zero for QoS 1 and 2, 0 for QoS 0.
    pub packet_id: u16,
    /// Subscription identifiers of all subscriptions that matched; empty before MQTT 5.
    pub subscription_ids: &'a [u32],
    /// Seconds of message expiry left, where the message has an expiry.
    pub expiry_seconds: Option<u32>,
}

/// What `deliver` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    /// The bytes are in the sink.
    Written,
    /// The packet exceeds the client's Maximum Packet Size and was not written; the server acts as if it had
    /// been delivered [MQTT-3.1.2-25].
    TooLarge,
}

/// An acknowledgement that leaves for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ack<'a> {
    PubAck {
        packet_id: u16,
        reason: ReasonCode,
    },
    /// `again` marks the answer to a repeated PUBLISH of a packet id that is still known, which gives no
    /// receive quota back a second time.
    PubRec {
        packet_id: u16,
        reason: ReasonCode,
        again: bool,
    },
    PubRel {
        packet_id: u16,
        reason: ReasonCode,
    },
    PubComp {
        packet_id: u16,
        reason: ReasonCode,
    },
    /// One reason code a filter, in the order of the SUBSCRIBE.
    SubAck {
        packet_id: u16,
        reasons: &'a [ReasonCode],
    },
    UnsubAck {
        packet_id: u16,
        reasons: &'a [ReasonCode],
    },
}

/// A rule the peer broke: what, which clause, and the reason code that goes on the wire where one can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What MQTT 5 calls it; also the label of the disconnect metric.
    pub reason: ReasonCode,
    /// Statement or clause, such as `MQTT-3.1.0-2`.
    pub rule: &'static str,
    /// One line for the log, without anything the peer sent.
    pub text: &'static str,
}

impl Violation {
    pub const fn new(reason: ReasonCode, rule: &'static str, text: &'static str) -> Self {
        Violation { reason, rule, text }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} [{}]", self.text, self.rule)
    }
}

impl std::error::Error for Violation {}
