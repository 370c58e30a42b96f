//! Spreads events evenly over time: publishes, new connections, pings. The clock is passed in.

/// Releases events at a steady rate. Event `n` is due at `start + n / rate`, whatever happened
/// before: a stall is made up for afterwards, so the average holds and nothing that was due is
/// silently dropped.
#[derive(Debug, Clone)]
pub(crate) struct Pacer {
    start_ns: u64,
    nanoseconds_per_event: f64,
    released: u64,
}

impl Pacer {
    /// `rate` in events a second, above 0. The first event is due at `start_ns`.
    pub(crate) fn new(rate: f64, start_ns: u64) -> Pacer {
        assert!(rate > 0.0, "a pacer without a rate never fires");
        Pacer {
            start_ns,
            nanoseconds_per_event: 1e9 / rate,
            released: 0,
        }
    }

    /// How many events have become due since the last call, at most `limit`; those are taken.
    pub(crate) fn take_due(&mut self, now_ns: u64, limit: u64) -> u64 {
        let Some(elapsed) = now_ns.checked_sub(self.start_ns) else {
            return 0;
        };
        let mut due_in_all = (elapsed as f64 / self.nanoseconds_per_event) as u64;
        // The division may round either way; `due_ns` is what counts, so that waiting for it is
        // enough.
        while self.due_ns(due_in_all) <= now_ns {
            due_in_all += 1;
        }
        let due = due_in_all.saturating_sub(self.released).min(limit);
        self.released += due;
        due
    }

    /// How many events were taken so far.
    pub(crate) fn released(&self) -> u64 {
        self.released
    }

    /// When the next event is due; in the past where events are overdue.
    pub(crate) fn next_due_ns(&self) -> u64 {
        self.due_ns(self.released)
    }

    /// When event `n` was or will be due.
    pub(crate) fn due_ns(&self, n: u64) -> u64 {
        self.start_ns + (n as f64 * self.nanoseconds_per_event).ceil() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn events_are_spread_over_the_second() {
        let mut pacer = Pacer::new(10.0, SECOND);
        assert_eq!(pacer.take_due(SECOND - 1, u64::MAX), 0);
        assert_eq!(pacer.take_due(SECOND, u64::MAX), 1);
        assert_eq!(pacer.take_due(SECOND, u64::MAX), 0);
        assert_eq!(pacer.next_due_ns(), SECOND + SECOND / 10);
        assert_eq!(pacer.take_due(SECOND + SECOND / 10 - 1, u64::MAX), 0);
        assert_eq!(pacer.take_due(SECOND + SECOND / 10, u64::MAX), 1);
        assert_eq!(pacer.take_due(2 * SECOND - 1, u64::MAX), 8);
    }

    #[test]
    fn a_stall_is_made_up_for_and_the_average_holds() {
        let mut pacer = Pacer::new(20_000.0, 0);
        let mut taken = 0;
        let mut now = 0;
        while now < 10 * SECOND {
            taken += pacer.take_due(now, u64::MAX);
            now += if taken == 100_000 { SECOND } else { 123_457 };
        }
        assert!(
            (199_990..=200_001).contains(&taken),
            "{taken} events in ten seconds at 20,000 a second"
        );
    }

    #[test]
    fn what_is_not_taken_stays_due() {
        let mut pacer = Pacer::new(1_000.0, 0);
        assert_eq!(pacer.take_due(SECOND, 300), 300);
        assert!(pacer.next_due_ns() < SECOND);
        assert_eq!(pacer.take_due(SECOND, u64::MAX), 701);
        assert!(pacer.next_due_ns() > SECOND);
    }

    #[test]
    fn waiting_until_the_next_event_makes_it_due() {
        for rate in [0.3, 7.0, 3_333.0, 1e6] {
            let mut pacer = Pacer::new(rate, 5);
            for _ in 0..1_000 {
                let next = pacer.next_due_ns();
                assert_eq!(pacer.take_due(next, u64::MAX), 1, "rate {rate}");
            }
        }
    }
}
