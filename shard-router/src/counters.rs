//! What one shard counts about sessions and messages. Plain numbers: only their shard writes them.

/// Why a message did not reach someone it was meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    /// Its message expiry interval passed.
    Expired,
    /// The session's queue was at its bound; the oldest message went.
    QueueFull,
    /// QoS 0 for a connection whose write queue is above its high water.
    SlowSubscriber,
    /// QoS 0 for a shard whose mailbox was full.
    MailboxFull,
    /// Larger than the client's Maximum Packet Size.
    PacketTooLarge,
    /// Published by a client to a topic it has no right to.
    NotAuthorized,
    /// Published by a client to a `$` topic that is not routed.
    DollarTopic,
    /// The shard's memory budget was used up.
    MemoryBudget,
    /// A retained message beyond the bounds of the retained store; it was delivered, but not kept.
    RetainedFull,
    /// A shared subscription without a member that could take it.
    NoSharedMember,
}

impl DropReason {
    pub const ALL: [DropReason; 10] = [
        DropReason::Expired,
        DropReason::QueueFull,
        DropReason::SlowSubscriber,
        DropReason::MailboxFull,
        DropReason::PacketTooLarge,
        DropReason::NotAuthorized,
        DropReason::DollarTopic,
        DropReason::MemoryBudget,
        DropReason::RetainedFull,
        DropReason::NoSharedMember,
    ];

    /// The value of the `reason` label.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::Expired => "expired",
            DropReason::QueueFull => "queue_full",
            DropReason::SlowSubscriber => "slow_subscriber",
            DropReason::MailboxFull => "mailbox_full",
            DropReason::PacketTooLarge => "packet_too_large",
            DropReason::NotAuthorized => "not_authorized",
            DropReason::DollarTopic => "dollar_topic",
            DropReason::MemoryBudget => "memory_budget",
            DropReason::RetainedFull => "retained_full",
            DropReason::NoSharedMember => "no_shared_member",
        }
    }
}

/// Totals since start unless the name says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Now: sessions with a connection.
    pub sessions_online: u64,
    /// Now: sessions that wait for their client.
    pub sessions_offline: u64,
    /// Now: subscriptions of sessions that live here.
    pub subscriptions: u64,
    /// Now: retained messages of topics this shard owns.
    pub retained_messages: u64,
    pub retained_bytes: u64,
    /// Now: messages queued for sessions that live here, and their bytes.
    pub queued_messages: u64,
    pub queued_bytes: u64,
    /// Now: connections whose reading waits for credits, a full ack ring or an owner's answer.
    pub parked_connections: u64,
    pub parked_total: u64,
    pub takeovers_total: u64,
    pub sessions_expired_total: u64,
    pub wills_published_total: u64,
    pub shared_redistributed_total: u64,
    /// By [`DropReason`].
    pub dropped: [u64; DropReason::ALL.len()],
    /// Envelopes posted, by the receiving shard.
    pub posted: Vec<u64>,
    /// Now: envelopes that wait in front of a full mailbox, all receivers together.
    pub overflow: u64,
}

impl Counters {
    pub fn drop_one(&mut self, reason: DropReason) {
        self.dropped[reason as usize] += 1;
    }
}
