//! What must outlive the process, as data: a shard says it, the driver's store carries it out.

use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::{Message, Qos};

use crate::key::{ClientKey, InstanceId};

/// One change to durable state; the store copies what it keeps. Operations of one shard are carried out in the order they were said.
#[derive(Debug, Clone, Copy)]
pub enum StoreOp<'a> {
    /// A durable session came to be or changed its expiry (seconds; `u32::MAX` never).
    PutSession {
        client: &'a ClientKey,
        expiry_seconds: u32,
    },
    /// The session and everything below it is gone.
    DropSession { client: &'a ClientKey },
    PutSubscription {
        client: &'a ClientKey,
        filter: &'a str,
        options: SubscriptionOptions,
        subscription_id: Option<u32>,
    },
    DropSubscription {
        client: &'a ClientKey,
        filter: &'a str,
    },
    /// A QoS 1 or 2 message for a durable session; `sequence` counts up within the session.
    Enqueue {
        client: &'a ClientKey,
        sequence: u64,
        qos: Qos,
        message: &'a Message,
    },
    /// The packet id under which a queued message leaves.
    AssignPacketId {
        client: &'a ClientKey,
        sequence: u64,
        packet_id: u16,
    },
    /// PUBREC came: only the packet id is kept until PUBCOMP.
    Release {
        client: &'a ClientKey,
        sequence: u64,
    },
    /// Acknowledged, dropped or expired.
    Dequeue {
        client: &'a ClientKey,
        sequence: u64,
    },
    /// A QoS 2 message of the client, and the packet id under which it must not be taken for a new one.
    PutIncoming {
        client: &'a ClientKey,
        packet_id: u16,
        message: &'a Message,
    },
    DropIncoming {
        client: &'a ClientKey,
        packet_id: u16,
    },
    PutRetained {
        instance: InstanceId,
        message: &'a Message,
    },
    DropRetained {
        instance: InstanceId,
        topic: &'a str,
    },
}

/// Whether an operation already holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// It holds; nothing waits.
    Done,
    /// It holds once the driver has called [`Shard::committed`](crate::Shard::committed) with this number or a
    /// higher one.
    Pending(CommitSequence),
}

/// Counts the operations of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommitSequence(pub u64);
