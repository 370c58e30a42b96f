//! What one shard's mind is configured with; the same for all shards of a process.

use tidegate_codec::TopicFilter;

/// Limits of sessions, slices and mailboxes. None is "unlimited".
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// PUBLISH packets of QoS 1 and 2 a connection may have unacknowledged towards us; the bound of its ack ring.
    pub receive_maximum: u16,
    /// Unacknowledged QoS 1 and 2 deliveries towards a client, below the client's own Receive Maximum.
    pub inflight_max: u16,
    /// Messages that wait for a session, offline or slow; the oldest is dropped when one more comes.
    pub queue_messages_max: u32,
    /// The same in bytes.
    pub queue_bytes_max: u64,
    pub subscriptions_max: u32,
    /// Filters with a wildcard in their first levels, which every shard must know, a client.
    pub replicated_filters_max: u32,
    /// Seconds.
    pub session_expiry_max: u32,
    /// QoS 1 and 2 messages a publisher's shard may have on their way through one other shard.
    pub publish_credits: u32,
    pub retained_messages_max: u64,
    pub retained_bytes_max: u64,
    /// Bytes of queued payload this shard may hold for all its sessions.
    pub memory_bytes_max: u64,
    /// Topics nobody may publish or subscribe to; a filter that overlaps one literally is refused.
    pub denied: Vec<TopicFilter>,
}

impl Default for ShardConfig {
    fn default() -> Self {
        ShardConfig {
            receive_maximum: 32,
            inflight_max: 256,
            queue_messages_max: 10_000,
            queue_bytes_max: 16 << 20,
            subscriptions_max: 1_000,
            replicated_filters_max: 1_000,
            session_expiry_max: 30 * 24 * 3_600,
            publish_credits: 1_024,
            retained_messages_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            memory_bytes_max: 1 << 30,
            denied: Vec::new(),
        }
    }
}
