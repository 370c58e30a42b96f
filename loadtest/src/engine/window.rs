//! How many messages of one publisher are in flight, shared by the threads that publish and that
//! receive.
//!
//! A message is in flight from its PUBLISH until every receiver has it and, at QoS 1 and 2, until
//! the broker has acknowledged it. The window is a ring of slots, one 64-bit word each, so that
//! whichever thread sees the last delivery frees the slot without a lock:
//!
//! ```text
//! 63          32 31            30                 0
//! | sequence    | ack pending | deliveries pending |      lower half 0: free
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

const ACK: u64 = 1 << 31;
const PENDING: u64 = 0xFFFF_FFFF;

/// What an acknowledgement or a delivery did to its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// The message is still in flight.
    Pending,
    /// It was the last thing missing: the publisher may send again.
    Freed,
    /// The slot no longer knows this message (written off before, or never sent).
    Unknown,
}

/// One publisher's window.
#[derive(Debug)]
pub(crate) struct Window {
    slots: Box<[AtomicU64]>,
}

impl Window {
    pub(crate) fn new(inflight: u32) -> Window {
        Window {
            slots: (0..inflight).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Whether `sequence` is in flight.
    pub(crate) fn holds(&self, sequence: u32) -> bool {
        // Acquire pairs with the release of whoever saw the last delivery.
        let word = self.slot(sequence).load(Ordering::Acquire);
        word >> 32 == u64::from(sequence) && word & PENDING != 0
    }

    /// Takes the slot of `sequence` before its PUBLISH is written.
    pub(crate) fn open(&self, sequence: u32, deliveries: u32, ack: bool) {
        let ack = if ack { ACK } else { 0 };
        let word = u64::from(sequence) << 32 | ack | u64::from(deliveries);
        debug_assert!(
            u64::from(deliveries) < ACK,
            "more receivers than a slot counts"
        );
        self.slot(sequence).store(word, Ordering::Release);
    }

    /// One receiver has `sequence`.
    pub(crate) fn delivered(&self, sequence: u32) -> Release {
        self.release(sequence, |word| (word & (ACK - 1) != 0).then(|| word - 1))
    }

    /// The broker has acknowledged `sequence`: PUBACK or PUBCOMP.
    pub(crate) fn acknowledged(&self, sequence: u32) -> Release {
        self.release(sequence, |word| (word & ACK != 0).then_some(word & !ACK))
    }

    /// Stops waiting for the deliveries of `sequence`, but not for its acknowledgement. Says how
    /// many were missing; the ledgers judge whether they are lost.
    pub(crate) fn write_off(&self, sequence: u32) -> u32 {
        let before = self.slot(sequence).fetch_and(!(ACK - 1), Ordering::AcqRel);
        (before & (ACK - 1)) as u32
    }

    fn slot(&self, sequence: u32) -> &AtomicU64 {
        &self.slots[sequence as usize % self.slots.len()]
    }

    fn release(&self, sequence: u32, change: impl Fn(u64) -> Option<u64>) -> Release {
        let slot = self.slot(sequence);
        let update = |word: u64| {
            if word >> 32 == u64::from(sequence) {
                change(word)
            } else {
                None
            }
        };
        match slot.fetch_update(Ordering::AcqRel, Ordering::Acquire, update) {
            Err(_) => Release::Unknown,
            Ok(before) => match update(before) {
                Some(after) if after & PENDING == 0 => Release::Freed,
                _ => Release::Pending,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_after_every_delivery_and_the_acknowledgement() {
        let window = Window::new(4);
        window.open(5, 2, true);
        assert!(window.holds(5) && !window.holds(9) && !window.holds(6));
        assert_eq!(window.delivered(5), Release::Pending);
        assert_eq!(window.acknowledged(5), Release::Pending);
        assert_eq!(window.delivered(5), Release::Freed);
        assert!(!window.holds(5));
    }

    #[test]
    fn what_is_not_in_flight_changes_nothing() {
        let window = Window::new(4);
        window.open(5, 1, false);
        assert_eq!(window.acknowledged(5), Release::Unknown);
        assert_eq!(window.delivered(1), Release::Unknown);
        assert_eq!(window.delivered(9), Release::Unknown);
        assert_eq!(window.delivered(5), Release::Freed);
        assert_eq!(window.delivered(5), Release::Unknown);
    }

    #[test]
    fn a_write_off_frees_deliveries_but_not_the_acknowledgement() {
        let window = Window::new(1);
        window.open(0, 3, false);
        window.delivered(0);
        assert_eq!(window.write_off(0), 2);
        assert!(!window.holds(0));
        window.open(1, 3, true);
        assert_eq!(window.write_off(1), 3);
        assert!(window.holds(1));
        assert_eq!(window.delivered(1), Release::Unknown);
        assert_eq!(window.acknowledged(1), Release::Freed);
    }
}
