//! One subscriber's ledger: for each publisher it listens to, which sequence numbers came, in which
//! order.
//!
//! A publisher numbers its messages 0, 1, 2 … The ledger keeps the next number it expects (4 bytes
//! a stream) and, only where something was skipped, the ranges that are missing. From that follow,
//! exactly: *lost* (never came), *duplicate* (came again), *out of order* (came after a later one).

use std::collections::HashMap;
use std::ops::Range;

/// What a sequence number turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next one, or one behind a gap that may still fill.
    New,
    /// New, but a later one came before it: an order violation.
    Late,
    /// Seen before.
    Duplicate,
    /// From a publisher this subscriber does not listen to.
    Unexpected,
}

/// One subscriber's view of all publishers it listens to.
#[derive(Debug)]
pub(crate) struct Ledger {
    first_publisher: u32,
    /// By publisher: the sequence number after the highest one seen.
    next: Box<[u32]>,
    /// By stream: what was skipped, ascending and disjoint. Empty in a run without faults.
    gaps: HashMap<u32, Vec<Range<u32>>>,
}

impl Ledger {
    pub(crate) fn new(publishers: Range<u32>) -> Ledger {
        Ledger {
            first_publisher: publishers.start,
            next: vec![0; publishers.len()].into_boxed_slice(),
            gaps: HashMap::new(),
        }
    }

    /// Enters one delivery.
    pub(crate) fn record(&mut self, publisher: u32, sequence: u32) -> Verdict {
        let stream = publisher.wrapping_sub(self.first_publisher);
        let Some(next) = self.next.get_mut(stream as usize) else {
            return Verdict::Unexpected;
        };
        if sequence == *next {
            *next += 1;
            return Verdict::New;
        }
        if sequence > *next {
            self.gaps.entry(stream).or_default().push(*next..sequence);
            *next = sequence + 1;
            return Verdict::New;
        }
        if self.fill(stream, sequence) {
            Verdict::Late
        } else {
            Verdict::Duplicate
        }
    }

    /// How many of the first `sent` messages of `publisher` never came.
    pub(crate) fn lost(&self, publisher: u32, sent: u32) -> u64 {
        let stream = publisher.wrapping_sub(self.first_publisher);
        let Some(&next) = self.next.get(stream as usize) else {
            return 0;
        };
        let skipped = self.gaps.get(&stream).map_or(0, |gaps| {
            gaps.iter()
                .map(|gap| u64::from(gap.end.min(sent).saturating_sub(gap.start)))
                .sum()
        });
        skipped + u64::from(sent.saturating_sub(next))
    }

    /// The first missing sequence number of `publisher` below `sent`, for the message that explains
    /// a loss.
    pub(crate) fn first_lost(&self, publisher: u32, sent: u32) -> Option<u32> {
        let stream = publisher.wrapping_sub(self.first_publisher);
        let next = *self.next.get(stream as usize)?;
        let gap = self
            .gaps
            .get(&stream)
            .and_then(|gaps| gaps.first())
            .map(|gap| gap.start);
        gap.or(Some(next)).filter(|&sequence| sequence < sent)
    }

    /// The publishers this subscriber listens to.
    pub(crate) fn publishers(&self) -> Range<u32> {
        self.first_publisher..self.first_publisher + self.next.len() as u32
    }

    /// Takes `sequence` out of the missing ones; false where it was not missing.
    fn fill(&mut self, stream: u32, sequence: u32) -> bool {
        let Some(gaps) = self.gaps.get_mut(&stream) else {
            return false;
        };
        let at = gaps.partition_point(|gap| gap.end <= sequence);
        let Some(gap) = gaps.get_mut(at).filter(|gap| gap.contains(&sequence)) else {
            return false;
        };
        let (before, after) = (gap.start..sequence, sequence + 1..gap.end);
        match (before.is_empty(), after.is_empty()) {
            (true, true) => drop(gaps.remove(at)),
            (true, false) => *gap = after,
            (false, true) => *gap = before,
            (false, false) => {
                *gap = before;
                gaps.insert(at + 1, after);
            }
        }
        if gaps.is_empty() {
            self.gaps.remove(&stream);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::*;
    use super::*;
    use std::collections::HashSet;

    fn check(sequences: &[u32], verdicts: &[Verdict], sent: u32, lost: u64) {
        let mut ledger = Ledger::new(5..6);
        let seen: Vec<_> = sequences
            .iter()
            .map(|&sequence| ledger.record(5, sequence))
            .collect();
        assert_eq!(seen, verdicts, "verdicts of {sequences:?}");
        assert_eq!(
            ledger.lost(5, sent),
            lost,
            "losses of {sequences:?} out of {sent}"
        );
    }

    #[test]
    fn verdicts_and_losses_follow_from_the_numbers() {
        check(&[0, 1, 2], &[New, New, New], 3, 0);
        check(&[0, 1, 2], &[New, New, New], 5, 2);
        check(&[], &[], 4, 4);
        check(&[0, 2], &[New, New], 3, 1);
        check(&[1, 0], &[New, Late], 2, 0);
        check(&[0, 0, 1], &[New, Duplicate, New], 2, 0);
        check(&[0, 1, 0, 1], &[New, New, Duplicate, Duplicate], 2, 0);
        check(
            &[2, 0, 0, 1, 1],
            &[New, Late, Duplicate, Late, Duplicate],
            3,
            0,
        );
        check(&[9, 4, 4, 0, 8], &[New, Late, Duplicate, Late, Late], 10, 6);
        check(&[3, 6, 5, 1], &[New, New, Late, Late], 7, 3);
    }

    #[test]
    fn a_stream_of_another_publisher_is_unexpected() {
        let mut ledger = Ledger::new(5..7);
        assert_eq!(ledger.record(4, 0), Unexpected);
        assert_eq!(ledger.record(7, 0), Unexpected);
        assert_eq!(ledger.record(6, 0), New);
        assert_eq!(ledger.publishers(), 5..7);
        assert_eq!((ledger.lost(5, 2), ledger.lost(6, 2)), (2, 1));
    }

    #[test]
    fn the_first_loss_is_named() {
        let mut ledger = Ledger::new(0..1);
        assert_eq!(ledger.first_lost(0, 0), None);
        assert_eq!(ledger.first_lost(0, 3), Some(0));
        ledger.record(0, 0);
        ledger.record(0, 3);
        assert_eq!(ledger.first_lost(0, 4), Some(1));
        ledger.record(0, 1);
        ledger.record(0, 2);
        assert_eq!(ledger.first_lost(0, 4), None);
        assert_eq!(ledger.first_lost(0, 6), Some(4));
    }

    /// A naive twin with a set of everything seen must agree on any sequence.
    #[test]
    fn the_ledger_agrees_with_a_naive_twin() {
        let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..500 {
            let mut ledger = Ledger::new(0..1);
            let mut seen = HashSet::new();
            let mut highest = None;
            for _ in 0..60 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let sequence = (seed >> 33) as u32 % 40;
                let expected = match (seen.insert(sequence), highest) {
                    (false, _) => Duplicate,
                    (true, Some(high)) if sequence < high => Late,
                    (true, _) => New,
                };
                highest = highest.max(Some(sequence));
                assert_eq!(ledger.record(0, sequence), expected);
            }
            assert_eq!(ledger.lost(0, 40), 40 - seen.len() as u64);
        }
    }
}
