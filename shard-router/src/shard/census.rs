//! What a shard holds at one moment, counted the slow way: for tests of bounds and of memory that comes back.

use super::Shard;
use crate::session::Session;

/// How much of everything is there. All zero but for `credits_free` once nobody has anything to do with a shard.
#[doc(hidden)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub sessions: usize,
    pub home_filters: usize,
    pub slice_filters: usize,
    pub share_group_filters: usize,
    pub retained: usize,
    pub timers: usize,
    pub replaying: usize,
    pub awaiting_commit: usize,
    pub tickets: usize,
    pub parked: usize,
    /// Of these, messages of clients that wait for an acknowledgement.
    pub parked_publishers: usize,
    pub releases: usize,
    /// Envelopes in front of full mailboxes, and how many of them stand in the longest of these queues.
    pub overflow: usize,
    pub overflow_longest: usize,
    /// Credits this shard has given out of its own hand, over all destinations; and whether one has none left.
    pub credits_out: u64,
    pub credits_exhausted: bool,
    /// The longest of each kind over all sessions.
    pub queue_longest: usize,
    pub window_longest: usize,
    pub ack_ring_longest: usize,
    pub incoming_longest: usize,
}

impl Shard {
    /// Counts everything.
    #[doc(hidden)]
    pub fn census(&self) -> Census {
        let longest = |of: fn(&Session) -> usize| self.sessions.iter().map(of).max().unwrap_or(0);
        Census {
            sessions: self.sessions.iter().count(),
            home_filters: self.home.len(),
            slice_filters: self.slice.len(),
            share_group_filters: self.groups.len(),
            retained: self.retained.len(),
            timers: self.timers.len(),
            replaying: self.replaying.len(),
            awaiting_commit: self.awaiting_commit.len() + self.commits.len(),
            tickets: self.tickets.len(),
            parked: self.parked.iter().map(|queue| queue.len()).sum(),
            parked_publishers: self
                .parked
                .iter()
                .flatten()
                .filter(|parked| parked.waiter.is_some() && !parked.stored)
                .count(),
            releases: self.lanes.releases(),
            overflow: self.lanes.overflow(),
            overflow_longest: self.lanes.overflow_longest(),
            credits_out: self.credits.out(),
            credits_exhausted: self.credits.is_exhausted(),
            queue_longest: longest(|session| {
                session.outgoing.as_ref().map_or(0, |o| o.queue.len())
            }),
            window_longest: longest(|session| {
                session.outgoing.as_ref().map_or(0, |o| o.inflight.len())
            }),
            ack_ring_longest: longest(|session| session.owed.as_ref().map_or(0, |ring| ring.len())),
            incoming_longest: longest(|session| {
                session.incoming.as_ref().map_or(0, |ids| ids.len())
            }),
        }
    }
}
