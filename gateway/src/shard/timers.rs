//! [`Wheel`]: one lazy hashed timer wheel a shard.
//!
//! A connection has one valid entry. Packets do not touch it: they only move the deadline the connection answers
//! when asked, and the sweep that finds the entry files it again. So a timer costs 8 bytes, and 4 ns a sweep.
//! An earlier deadline is filed as a second entry; the owner remembers the tick of the valid one and the other
//! is dropped when it is met.

use tidegate_codec::Millis;

/// Milliseconds a tick. Keep-alive and its kin are counted in seconds; an eighth of one is early enough.
const TICK_MS: u64 = 128;

/// 131 s ahead, so that keep-alives up to 87 s are swept once; later deadlines pass by every 131 s.
const SLOTS: usize = 1_024;

/// Capacity a swept slot may keep.
const SLOT_KEEP: usize = 64;

/// Whose timer it is. The owner checks the generation: a slot's earlier tenant may still have an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// The tick an entry is filed under.
pub(crate) type Tick = u32;

#[derive(Debug)]
pub(crate) struct Wheel {
    slots: Vec<Vec<Entry>>,
    /// One bit a slot: something is filed.
    filled: [u64; SLOTS / 64],
    /// The next tick to sweep; everything before has been swept.
    next: u64,
    /// Of the slot under `next`: entries already handed out in a sweep that ran out of budget.
    swept: usize,
    len: usize,
}

impl Wheel {
    pub(crate) fn new(now: Millis) -> Wheel {
        let next = now.0 / TICK_MS;
        Wheel {
            slots: vec![Vec::new(); SLOTS],
            filled: [0; SLOTS / 64],
            next,
            swept: 0,
            len: 0,
        }
    }

    /// The tick at which a timer for `deadline` is swept: never before the deadline, unless that lies beyond
    /// the wheel's horizon. The current slot may be half swept, so nothing is filed there.
    pub(crate) fn tick_of(&self, deadline: Millis) -> Tick {
        let tick = deadline.0.div_ceil(TICK_MS);
        tick.clamp(self.next + 1, self.next + SLOTS as u64 - 1) as Tick
    }

    /// Files an entry; the returned tick is what the owner remembers as valid.
    pub(crate) fn file(&mut self, entry: Entry, deadline: Millis) -> Tick {
        let tick = self.tick_of(deadline);
        let slot = tick as usize % SLOTS;
        self.slots[slot].push(entry);
        self.filled[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
        tick
    }

    /// Hands out entries that are due by `now`, with their tick, at most `budget`. `true`: more are due.
    pub(crate) fn sweep(
        &mut self,
        now: Millis,
        budget: usize,
        due: &mut Vec<(Tick, Entry)>,
    ) -> bool {
        let current = now.0 / TICK_MS;
        if self.len == 0 {
            self.next = self.next.max(current);
            return false;
        }
        while self.next <= current {
            let slot = self.next as usize % SLOTS;
            let waiting = &mut self.slots[slot];
            let take = (waiting.len() - self.swept).min(budget - due.len());
            let tick = self.next as Tick;
            due.extend(
                waiting[self.swept..][..take]
                    .iter()
                    .map(|&entry| (tick, entry)),
            );
            self.swept += take;
            if self.swept < waiting.len() {
                return true;
            }
            self.len -= self.swept;
            self.swept = 0;
            waiting.clear();
            waiting.shrink_to(SLOT_KEEP);
            self.filled[slot / 64] &= !(1 << (slot % 64));
            if self.next == current {
                // The current slot stays under `next`, so that filing keeps clear of it until time moves on.
                return false;
            }
            self.next += 1;
        }
        false
    }

    /// When the next filled slot is due.
    pub(crate) fn poll_timeout(&self) -> Millis {
        if self.len == 0 {
            return Millis::NEVER;
        }
        let start = self.next as usize % SLOTS;
        let filled = |slot: usize| self.filled[slot / 64] & (1 << (slot % 64)) != 0;
        let ahead = (0..SLOTS).find(|ahead| filled((start + ahead) % SLOTS));
        ahead.map_or(Millis::NEVER, |ahead| {
            Millis((self.next + ahead as u64) * TICK_MS)
        })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        let entries: usize = self.slots.iter().map(Vec::capacity).sum();
        SLOTS * size_of::<Vec<Entry>>() + entries * size_of::<Entry>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u32) -> Entry {
        Entry {
            index,
            generation: 0,
        }
    }

    fn sweep(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        let mut due = Vec::new();
        assert!(!wheel.sweep(Millis(now), usize::MAX, &mut due));
        due.iter().map(|(_, entry)| entry.index).collect()
    }

    #[test]
    fn a_timer_is_swept_at_its_deadline_and_not_before() {
        let mut wheel = Wheel::new(Millis(1_000));
        wheel.file(entry(1), Millis(2_500));
        assert_eq!(sweep(&mut wheel, 2_499), []);
        assert!(wheel.poll_timeout() >= Millis(2_500));
        assert!(wheel.poll_timeout() < Millis(2_500 + TICK_MS));
        assert_eq!(sweep(&mut wheel, 2_500 + TICK_MS), [1]);
        assert_eq!(wheel.poll_timeout(), Millis::NEVER);
    }

    #[test]
    fn a_deadline_beyond_the_horizon_passes_by_and_is_filed_again() {
        let mut wheel = Wheel::new(Millis(0));
        let deadline = Millis(3 * SLOTS as u64 * TICK_MS);
        wheel.file(entry(1), deadline);
        let mut now = 0;
        let mut passes = 0;
        while now < deadline.0 {
            now += 1_000;
            for index in sweep(&mut wheel, now) {
                passes += 1;
                if now < deadline.0 {
                    wheel.file(entry(index), deadline);
                }
            }
        }
        assert!(passes >= 3, "{passes}");
    }

    #[test]
    fn a_wheel_that_stood_still_hands_out_all_that_is_due_in_pieces() {
        let mut wheel = Wheel::new(Millis(0));
        for index in 0..100 {
            wheel.file(entry(index), Millis(u64::from(index) * 50));
        }
        let mut due = Vec::new();
        let mut rounds = 0;
        loop {
            let before = due.len();
            let mut piece = Vec::new();
            let more = wheel.sweep(Millis(60_000), 7, &mut piece);
            assert!(piece.len() <= 7);
            due.append(&mut piece);
            rounds += 1;
            if !more {
                break;
            }
            assert!(due.len() > before);
        }
        due.sort_by_key(|(_, entry)| entry.index);
        assert_eq!(
            due.iter().map(|(_, e)| e.index).collect::<Vec<_>>(),
            (0..100).collect::<Vec<_>>()
        );
        assert!(rounds >= 100 / 7);
        assert_eq!(wheel.len, 0);
    }

    #[test]
    fn an_overdue_deadline_is_swept_with_the_next_tick() {
        let mut wheel = Wheel::new(Millis(10_000));
        wheel.file(entry(1), Millis(0));
        assert_eq!(sweep(&mut wheel, 10_000 + 2 * TICK_MS), [1]);
    }

    #[test]
    fn time_that_passes_without_timers_costs_nothing_and_loses_nothing() {
        let mut wheel = Wheel::new(Millis(0));
        assert_eq!(sweep(&mut wheel, 10_000_000), []);
        wheel.file(entry(1), Millis(10_001_000));
        assert_eq!(sweep(&mut wheel, 10_000_999), []);
        assert_eq!(sweep(&mut wheel, 10_001_128), [1]);
    }

    #[test]
    fn filing_while_a_slot_is_half_swept_neither_repeats_nor_loses() {
        let mut wheel = Wheel::new(Millis(0));
        for index in 0..10 {
            wheel.file(entry(index), Millis(100));
        }
        let mut due = Vec::new();
        assert!(wheel.sweep(Millis(128), 4, &mut due));
        wheel.file(entry(99), Millis(0));
        let mut rest = Vec::new();
        assert!(!wheel.sweep(Millis(128), 100, &mut rest));
        assert_eq!(rest.len(), 6);
        let mut last = Vec::new();
        wheel.sweep(Millis(128 + TICK_MS), 100, &mut last);
        assert_eq!(last.iter().map(|(_, e)| e.index).collect::<Vec<_>>(), [99]);
    }
}
