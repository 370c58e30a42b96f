//! Tickets: who waits for whose `held`. An acknowledgement leaves when every place a message went to has
//! answered that it is responsible for it.

use tidegate_codec::ReasonCode;

use crate::key::{SessionId, ShardId};

/// Travels with a QoS 1 or 2 message; names the place that waits on the publisher's shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub shard: ShardId,
    slot: u32,
    generation: u32,
}

/// What to do when a ticket is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) session: SessionId,
    /// Which attachment of the session published; a later one does not get this acknowledgement.
    pub(crate) attachment: u32,
    pub(crate) packet_id: u16,
    pub(crate) exactly_once: bool,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    waiter: Option<Waiter>,
    /// Known once the owner has answered.
    expected: Option<u16>,
    /// Answers may overtake the owner's.
    held: u16,
}

/// The tickets of one shard's publishers. Bounded by its publish credits, which each open ticket holds one of or
/// has held, and by the ack rings of its connections.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

/// A complete ticket: its waiter, and what the publisher is told.
pub(crate) type Completed = (Waiter, ReasonCode);

impl Tickets {
    pub(crate) fn issue(&mut self, shard: ShardId, waiter: Waiter) -> Ticket {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        place.waiter = Some(waiter);
        Ticket {
            shard,
            slot,
            generation: place.generation,
        }
    }

    /// The owner says to how many places the message went.
    pub(crate) fn routed(&mut self, ticket: Ticket, places: u16) -> Option<Completed> {
        let slot = self.open(ticket)?;
        assert!(slot.expected.is_none(), "an owner answers a ticket once");
        slot.expected = Some(places);
        self.complete(ticket)
    }

    /// One place took responsibility.
    pub(crate) fn held(&mut self, ticket: Ticket) -> Option<Completed> {
        self.open(ticket)?.held += 1;
        self.complete(ticket)
    }

    fn open(&mut self, ticket: Ticket) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(ticket.slot as usize)?;
        (slot.generation == ticket.generation && slot.waiter.is_some()).then_some(slot)
    }

    fn complete(&mut self, ticket: Ticket) -> Option<Completed> {
        let slot = &mut self.slots[ticket.slot as usize];
        let expected = slot.expected?;
        if slot.held < expected {
            return None;
        }
        assert_eq!(
            slot.held, expected,
            "more places answered than the owner named"
        );
        let waiter = slot.waiter.take()?;
        *slot = Slot {
            generation: slot.generation.wrapping_add(1),
            ..Slot::default()
        };
        self.free.push(ticket.slot);
        let reason = if expected == 0 {
            ReasonCode::NoMatchingSubscribers
        } else {
            ReasonCode::Success
        };
        Some((waiter, reason))
    }

    /// Tickets that wait.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiter() -> Waiter {
        let session = SessionId {
            index: 1,
            generation: 0,
        };
        Waiter {
            session,
            attachment: 3,
            packet_id: 7,
            exactly_once: false,
        }
    }

    #[test]
    fn a_ticket_completes_when_all_places_answered_in_any_order() {
        let mut tickets = Tickets::default();
        let ticket = tickets.issue(ShardId(0), waiter());
        assert_eq!(tickets.held(ticket), None);
        assert_eq!(tickets.routed(ticket, 2), None);
        assert_eq!(tickets.held(ticket), Some((waiter(), ReasonCode::Success)));
        assert_eq!(tickets.len(), 0);
    }

    #[test]
    fn nobody_to_deliver_to_is_said() {
        let mut tickets = Tickets::default();
        let ticket = tickets.issue(ShardId(0), waiter());
        assert_eq!(
            tickets.routed(ticket, 0),
            Some((waiter(), ReasonCode::NoMatchingSubscribers))
        );
    }

    #[test]
    fn an_answer_to_a_ticket_of_the_past_does_nothing() {
        let mut tickets = Tickets::default();
        let old = tickets.issue(ShardId(0), waiter());
        assert!(tickets.routed(old, 0).is_some());
        let new = tickets.issue(ShardId(0), waiter());
        assert_eq!((tickets.held(old), tickets.routed(old, 0)), (None, None));
        assert!(tickets.routed(new, 0).is_some());
    }
}
