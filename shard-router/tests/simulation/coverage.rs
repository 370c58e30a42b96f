//! What a run must have met to count.

use tidegate_shard_router::{Census, Counters, DropReason};

#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    pub(crate) takeovers: u64,
    pub(crate) crossing_hand_overs: u64,
    pub(crate) full_mailboxes: u64,
    pub(crate) exhausted_credits: u64,
    pub(crate) parked_publishers: u64,
    pub(crate) redistributions: u64,
    pub(crate) expired_messages: u64,
    pub(crate) wills_fired: u64,
    pub(crate) wills_cancelled: u64,
    pub(crate) restarts: u64,
    pub(crate) kicked_hand_overs: u64,
    /// Of processes that ended.
    pub(crate) dropped: u64,
}

impl Coverage {
    pub(crate) fn observe(&mut self, census: &Census, _counters: &Counters) {
        self.full_mailboxes += u64::from(census.overflow > 0);
        self.exhausted_credits += u64::from(census.credits_exhausted);
        self.parked_publishers += u64::from(census.parked > 0);
    }

    /// Adds what a shard counted from its start to its end.
    pub(crate) fn absorb(&mut self, counters: &Counters) {
        self.takeovers += counters.takeovers_total;
        self.redistributions += counters.shared_redistributed_total;
        self.expired_messages += counters.dropped[DropReason::Expired as usize];
        self.wills_fired += counters.wills_published_total;
        self.dropped += dropped(counters);
    }

    pub(crate) fn rows(&self) -> [(&'static str, u64); 11] {
        [
            ("takeovers", self.takeovers),
            ("crossing hand-overs", self.crossing_hand_overs),
            ("full mailboxes", self.full_mailboxes),
            ("exhausted credits", self.exhausted_credits),
            ("parked publishers", self.parked_publishers),
            ("redistributions", self.redistributions),
            ("expired messages", self.expired_messages),
            ("wills fired", self.wills_fired),
            ("wills cancelled", self.wills_cancelled),
            ("restarts", self.restarts),
            ("kicked hand-overs", self.kicked_hand_overs),
        ]
    }
}

/// Acknowledged messages that were dropped at bounds.
pub(crate) fn dropped(counters: &Counters) -> u64 {
    crate::verdict::COUNTED
        .iter()
        .map(|&reason| counters.dropped[reason as usize])
        .sum()
}
