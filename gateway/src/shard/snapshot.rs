//! A shard's numbers at one moment, copied out for the admin side.

use tidegate_shard_router::Counters;

/// Upper bounds of `delivery_seconds` and `shard_turn_seconds`, in microseconds; one more bucket has no bound.
pub const LATENCY_BUCKETS_US: [u64; 16] = [
    10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000,
    500_000, 1_000_000,
];

/// A histogram that its shard alone writes.
#[derive(Clone, Debug, Default)]
pub struct LatencyHistogram {
    pub counts: [u64; LATENCY_BUCKETS_US.len() + 1],
    pub sum_us: u64,
}

/// Totals since start unless the name says otherwise. Arrays by QoS have three places.
#[derive(Clone, Debug, Default)]
pub struct ShardSnapshot {
    pub shard: u16,
    /// Now: by protocol and transport, in label form.
    pub connections: Vec<(&'static str, &'static str, u64)>,
    /// By protocol and result: `accepted` or the reason code's name.
    pub connects_total: Vec<(&'static str, &'static str, u64)>,
    /// By protocol and reason.
    pub disconnects_total: Vec<(&'static str, &'static str, u64)>,
    pub messages_received_total: [u64; 3],
    pub messages_delivered_total: [u64; 3],
    pub bytes_received_total: u64,
    pub bytes_sent_total: u64,
    /// Authentication failures by authenticator kind and reason.
    pub auth_failures_total: Vec<(&'static str, &'static str, u64)>,
    /// Times accepting paused because no descriptor or no slot was left.
    pub accept_pauses_total: u64,
    pub hand_overs_total: u64,
    pub hand_overs_refused_total: u64,
    /// Now.
    pub mailbox_depth: u64,
    /// Microseconds the shard's loop was not waiting.
    pub busy_us_total: u64,
    pub turns_total: u64,
    pub turn_seconds: LatencyHistogram,
    pub delivery_seconds: LatencyHistogram,
    /// Now: user memory of connection slots and out-queues, in bytes.
    pub connection_memory_bytes: u64,
    /// System calls the driver made by kind, for proof of what the message path costs: label and count.
    pub driver_calls_total: Vec<(&'static str, u64)>,
    pub router: Counters,
}
