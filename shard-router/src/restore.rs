//! What the store kept of durable state, as it comes back after a restart.
//!
//! Before its first connection a driver hands every stored session to every shard: the home shard takes all of it,
//! slice owners take its filters. So it does not matter how many shards there were before. Retained messages go to
//! every shard in the same way. Then [`Shard::restored`](crate::Shard::restored), once on each.

use tidegate_codec::mqtt::connect::Will;
use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::{Message, Millis, Qos, TopicFilter};

use crate::envelope::GroupName;
use crate::key::ClientKey;
use crate::store_op::ExchangeId;

/// One durable session.
#[derive(Clone, Debug)]
pub struct RestoredSession {
    pub client: ClientKey,
    /// Seconds; `u32::MAX` never.
    pub expiry_seconds: u32,
    /// When it ends if its client does not return: what was left of its time when it lost its connection, all of
    /// it where the process ended before its connection did.
    pub expires_at: Millis,
    /// A will that was not published, and when it is.
    pub will: Option<(Will, Millis)>,
    pub subscriptions: Vec<RestoredSubscription>,
    /// In order of their sequence.
    pub deliveries: Vec<RestoredDelivery>,
    pub incoming: Vec<RestoredIncoming>,
    /// Messages of exchanges that are not settled which were enqueued here, dequeued or not.
    pub taken: Vec<Taken>,
}

/// A message a session had, and the way by which it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub exchange: ExchangeId,
    /// `None` where it came by the session's own subscriptions.
    pub group: Option<GroupName>,
}

#[derive(Clone, Debug)]
pub struct RestoredSubscription {
    pub filter: TopicFilter,
    pub options: SubscriptionOptions,
    pub subscription_id: Option<u32>,
}

/// A message the session's client has not acknowledged.
#[derive(Clone, Debug)]
pub struct RestoredDelivery {
    pub sequence: u64,
    /// `None` once it was released: then only the packet id matters.
    pub message: Option<Message>,
    pub qos: Qos,
    pub retain: bool,
    pub subscription_ids: Vec<u32>,
    pub group: Option<GroupName>,
    /// Set once it has left, or was about to.
    pub packet_id: Option<u16>,
}

/// A QoS 2 packet id of the client that is not released.
#[derive(Clone, Debug)]
pub struct RestoredIncoming {
    pub packet_id: u16,
    pub exchange: ExchangeId,
    /// `None` once it was settled.
    pub message: Option<Message>,
}
