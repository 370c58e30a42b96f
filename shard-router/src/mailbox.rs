//! Bounded mailboxes from shard to shard: one channel a receiver, with slots of its own for each sender.
//!
//! A sender never finds the channel itself full: it may have `slots` items under way, and the channel holds all
//! senders' slots. So one busy sender cannot take another's place. Posting never blocks; a full mailbox gives the
//! item back.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::doorbell::Doorbell;
use crate::key::ShardId;
use crate::planted::{is_planted, Defect};
use crate::sync::{bounded, AtomicU64, Ordering, Receiver, Sender};

/// Items each sender may have under way to one receiver. 8,192 in all, so that the channels of 64 shards stay
/// below 64 MB, but never so few that a batch does not fit.
pub fn slots_per_sender(shards: usize) -> usize {
    (8_192 / shards.max(1)).clamp(128, 2_048)
}

/// One column of the mesh a receiver: how many items it has taken from each sender, ever.
type Taken = Arc<[CachePadded<AtomicU64>]>;

/// The receiving end, owned by one shard.
#[derive(Debug)]
pub struct Inbox<T> {
    receiver: Receiver<(ShardId, T)>,
    taken: Taken,
}

/// The sending end of one shard towards one other.
#[derive(Debug)]
pub struct Outbox<T> {
    from: ShardId,
    sender: Sender<(ShardId, T)>,
    taken: Taken,
    sent: u64,
    slots: u64,
    doorbell: Arc<Doorbell>,
    /// Something was posted since the bell was last rung.
    unrung: bool,
}

/// One shard's ends of a mesh. The outbox towards itself exists and is never used.
#[derive(Debug)]
pub struct Mailboxes<T> {
    pub inbox: Inbox<T>,
    /// By receiving shard.
    pub outboxes: Vec<Outbox<T>>,
}

/// Mailboxes for as many shards as there are doorbells.
pub fn mesh<T>(doorbells: &[Arc<Doorbell>], slots: usize) -> Vec<Mailboxes<T>> {
    let shards = doorbells.len();
    let mut inboxes = Vec::new();
    let mut senders = Vec::new();
    for _ in 0..shards {
        let (sender, receiver) = bounded(slots * shards);
        let taken: Taken = (0..shards)
            .map(|_| CachePadded::new(AtomicU64::new(0)))
            .collect();
        inboxes.push(Inbox {
            receiver,
            taken: taken.clone(),
        });
        senders.push((sender, taken));
    }
    let outboxes_of = |from: usize| -> Vec<Outbox<T>> {
        let ends = senders.iter().zip(doorbells);
        ends.map(|((sender, taken), doorbell)| Outbox {
            from: ShardId(from as u16),
            sender: sender.clone(),
            taken: taken.clone(),
            sent: 0,
            slots: slots as u64,
            doorbell: doorbell.clone(),
            unrung: false,
        })
        .collect()
    };
    let with_outboxes = inboxes.into_iter().enumerate();
    with_outboxes
        .map(|(i, inbox)| Mailboxes {
            inbox,
            outboxes: outboxes_of(i),
        })
        .collect()
}

impl<T> Inbox<T> {
    /// The oldest item and who sent it. Its slot is free again.
    pub fn take(&self) -> Option<(ShardId, T)> {
        let (from, item) = self.receiver.try_recv().ok()?;
        // Only this shard writes the column, so a load and a store are enough; Release hands the slot back.
        let taken = &self.taken[from.index()];
        taken.store(taken.load(Ordering::Relaxed) + 1, Ordering::Release);
        Some((from, item))
    }

    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Items that wait.
    pub fn depth(&self) -> usize {
        self.receiver.len()
    }
}

impl<T> Outbox<T> {
    /// Posts without ringing; `Err` gives the item back when all slots of this pair are taken.
    pub fn post(&mut self, item: T) -> Result<(), T> {
        if self.free_slots() == 0 {
            return Err(item);
        }
        // The channel has room for all slots of all senders; it can only refuse when the receiver is gone, which
        // happens while the process ends.
        if self.sender.try_send((self.from, item)).is_ok() {
            self.sent += 1;
            self.unrung = true;
        }
        Ok(())
    }

    pub fn free_slots(&self) -> u64 {
        let under_way = self.sent - self.taken[self.from.index()].load(Ordering::Acquire);
        self.slots - under_way
    }

    /// Wakes the receiver if it sleeps and something was posted since the last call: once a turn.
    pub fn ring(&mut self) {
        let lost = is_planted(Defect::LostWakeUp) && self.sent.is_multiple_of(2);
        if std::mem::take(&mut self.unrung) && !lost {
            self.doorbell.ring();
        }
    }
}

// Loom drives this file too, and its atomics live in a model only.
#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::doorbell::Wake;

    struct Silent;

    impl Wake for Silent {
        fn wake(&self) {}
    }

    fn two_shards(slots: usize) -> Vec<Mailboxes<u32>> {
        let bell = || Arc::new(Doorbell::new(Box::new(Silent)));
        mesh(&[bell(), bell()], slots)
    }

    #[test]
    fn a_full_mailbox_gives_the_item_back_until_one_is_taken() {
        let mut shards = two_shards(2);
        let inbox = shards.pop().unwrap().inbox;
        let outbox = &mut shards[0].outboxes[1];
        assert_eq!(
            (outbox.post(1), outbox.post(2), outbox.post(3)),
            (Ok(()), Ok(()), Err(3))
        );
        assert_eq!(inbox.take(), Some((ShardId(0), 1)));
        assert_eq!(outbox.post(3), Ok(()));
        assert_eq!(inbox.depth(), 2);
    }

    #[test]
    fn one_sender_cannot_take_the_slots_of_another() {
        let mut shards = two_shards(1);
        assert_eq!(shards[0].outboxes[1].post(1), Ok(()));
        assert_eq!(shards[0].outboxes[1].post(2), Err(2));
        assert_eq!(shards[1].outboxes[1].post(3), Ok(()));
    }
}
