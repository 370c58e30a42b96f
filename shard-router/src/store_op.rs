//! What must outlive the process, as data: a shard says it, the driver's store carries it out.

use tidegate_codec::mqtt::connect::Will;
use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::{Message, Qos};

use crate::envelope::GroupName;
use crate::key::{ClientKey, InstanceId, ShardId};

/// One change to durable state; the store copies what it keeps. Operations of one shard are carried out in the order they were said.
#[derive(Debug, Clone, Copy)]
pub enum StoreOp<'a> {
    /// What a durable session is, said whenever one of these changes. The store stamps the moment: where `online`
    /// is false, expiry (seconds; `u32::MAX` never) and will delay count from it.
    PutSession {
        client: &'a ClientKey,
        expiry_seconds: u32,
        online: bool,
        /// Not published yet.
        will: Option<&'a Will>,
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
    /// A QoS 1 or 2 message for a durable session.
    Enqueue {
        client: &'a ClientKey,
        /// Counts up within the session while anything is queued.
        sequence: u64,
        delivery: StoredDelivery<'a>,
        /// The QoS 2 exchange with a publisher the message came by. Until it is settled the store remembers which
        /// sessions have taken the message, also when they have dequeued it: after a restart it is sent on again.
        exchange: Option<ExchangeId>,
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
        exchange: ExchangeId,
        message: &'a Message,
    },
    /// Everybody it is for has it: the message may be forgotten, the packet id not yet.
    SettleIncoming {
        client: &'a ClientKey,
        packet_id: u16,
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

/// A message as one session gets it.
#[derive(Clone, Copy, Debug)]
pub struct StoredDelivery<'a> {
    pub message: &'a Message,
    pub qos: Qos,
    pub retain: bool,
    pub subscription_ids: &'a [u32],
    /// Set where it came through a share group.
    pub group: Option<&'a GroupName>,
}

/// One QoS 2 exchange with a publisher whose session is durable. No other has the same, in any run of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExchangeId {
    pub run: u32,
    pub shard: ShardId,
    pub number: u64,
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
