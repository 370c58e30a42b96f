//! What the threads of a run share: the phase, the counters, the windows and the wake-ups.
//!
//! Each thread owns its connections. On the way of a message nothing is locked, except where
//! publisher and last receiver live on different threads: then the freed publisher goes through a
//! [`Mailbox`].

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use rustix::event::{eventfd, EventfdFlags};
use rustix::fd::OwnedFd;
use rustix::io;

use super::window::Window;
use crate::failure::Failure;
use crate::outcome::nanosecond_histogram;

/// What the run is doing; set by the main thread only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Connections are opened and subscribed.
    Connect,
    /// All are ready; only pings flow.
    Hold,
    /// Publishers publish.
    Publish,
    /// No more publishes; stragglers arrive.
    Drain,
    /// Everybody says goodbye.
    Close,
}

/// Errors shown in full; the rest is only counted.
const ERRORS_KEPT: usize = 5;

/// One run's common ground.
#[derive(Debug)]
pub(crate) struct Shared {
    phase: AtomicU8,
    /// Messages sent from here on and until `measure_end_ns` count for the latency.
    pub(crate) measure_start_ns: AtomicU64,
    pub(crate) measure_end_ns: AtomicU64,
    /// By publisher number.
    pub(crate) windows: Vec<Window>,
    /// By publisher number: where it lives.
    pub(crate) places: Vec<Place>,
    pub(crate) desks: Vec<Desk>,
    faults: Mutex<Faults>,
}

/// One thread's place to be reached at and looked at.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Desk {
    pub(crate) counters: [AtomicU64; Counter::COUNT],
    pub(crate) mailbox: Mailbox,
    /// Latencies since the main thread last looked, handed over a few times a second.
    pub(crate) latency: Mutex<Histogram<u64>>,
}

/// Where a publisher lives: the thread, and its index there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) thread: u32,
    pub(crate) index: u32,
}

/// What each thread counts.
#[derive(Debug, Clone, Copy)]
#[repr(usize)]
pub(crate) enum Counter {
    Ready,
    Failed,
    Published,
    /// Deliveries that must follow from what was published.
    Expected,
    Acknowledged,
    Received,
    /// QoS 2 deliveries answered with PUBREC, and how many of them saw their PUBREL.
    Recorded,
    Released,
    Duplicates,
    OutOfOrder,
    Corrupt,
    Unexpected,
    Foreign,
    WrittenOff,
    PingsSent,
    PingsAnswered,
    Closed,
}

impl Counter {
    pub(crate) const COUNT: usize = Counter::Closed as usize + 1;
}

/// The counters of one thread, or the sum over all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    counts: [u64; Counter::COUNT],
}

impl Tally {
    pub(crate) fn add(&mut self, counter: Counter, count: u64) {
        self.counts[counter as usize] += count;
    }

    pub(crate) fn get(&self, counter: Counter) -> u64 {
        self.counts[counter as usize]
    }
}

#[derive(Debug, Default)]
struct Faults {
    closed: BTreeMap<String, u64>,
    errors: Vec<String>,
}

impl Shared {
    pub(crate) fn new(
        windows: Vec<Window>,
        places: Vec<Place>,
        threads: u32,
    ) -> Result<Shared, Failure> {
        let desks = (0..threads)
            .map(|_| Desk::new())
            .collect::<Result<_, _>>()?;
        Ok(Shared {
            phase: AtomicU8::new(Phase::Connect as u8),
            measure_start_ns: AtomicU64::new(u64::MAX),
            measure_end_ns: AtomicU64::new(u64::MAX),
            windows,
            places,
            desks,
            faults: Mutex::default(),
        })
    }

    pub(crate) fn phase(&self) -> Phase {
        const PHASES: [Phase; 5] = [
            Phase::Connect,
            Phase::Hold,
            Phase::Publish,
            Phase::Drain,
            Phase::Close,
        ];
        PHASES[usize::from(self.phase.load(Ordering::Acquire))]
    }

    /// Moves on and wakes every thread.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        self.desks.iter().for_each(|desk| desk.mailbox.wake());
    }

    /// The counters of all threads, as of each thread's last wake-up.
    pub(crate) fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for desk in &self.desks {
            for (total, count) in sum.counts.iter_mut().zip(&desk.counters) {
                *total += count.load(Ordering::Relaxed);
            }
        }
        sum
    }

    /// Moves what the threads measured since the last call into `total` and gives it back.
    pub(crate) fn take_latencies(&self, total: &mut Histogram<u64>) -> Histogram<u64> {
        let mut interval = nanosecond_histogram();
        for desk in &self.desks {
            let mut latency = lock(&desk.latency);
            interval
                .add(&*latency)
                .expect("all histograms have the same bounds");
            latency.reset();
        }
        total
            .add(&interval)
            .expect("all histograms have the same bounds");
        interval
    }

    /// Counts a connection that ended by `reason`; `detail` is kept for the first few.
    pub(crate) fn report_fault(&self, reason: &str, detail: impl FnOnce() -> String) {
        let mut faults = lock(&self.faults);
        if let Some(count) = faults.closed.get_mut(reason) {
            *count += 1;
        } else {
            faults.closed.insert(reason.to_owned(), 1);
        }
        if faults.errors.len() < ERRORS_KEPT {
            faults.errors.push(detail());
        }
    }

    /// Counts by reason, and the first few errors in full.
    pub(crate) fn faults(&self) -> (BTreeMap<String, u64>, Vec<String>) {
        let faults = lock(&self.faults);
        (faults.closed.clone(), faults.errors.clone())
    }
}

impl Desk {
    fn new() -> Result<Desk, Failure> {
        Ok(Desk {
            counters: [const { AtomicU64::new(0) }; Counter::COUNT],
            mailbox: Mailbox::new()
                .map_err(|error| Failure::system("cannot make an eventfd", error))?,
            latency: Mutex::new(nanosecond_histogram()),
        })
    }

    /// Shows the thread's counters to the others.
    pub(crate) fn show(&self, tally: &Tally) {
        for (shown, count) in self.counters.iter().zip(&tally.counts) {
            shown.store(*count, Ordering::Relaxed);
        }
    }

    /// Hands over what was measured since the last call.
    pub(crate) fn hand_over(&self, latency: &mut Histogram<u64>) {
        if !latency.is_empty() {
            lock(&self.latency)
                .add(&*latency)
                .expect("all histograms have the same bounds");
            latency.reset();
        }
    }
}

/// Publishers of one thread whose windows others have freed. Bounded by the number of publishers of
/// the thread times their windows, since a slot is freed once.
#[derive(Debug)]
pub(crate) struct Mailbox {
    freed: Mutex<Vec<u32>>,
    bell: OwnedFd,
}

impl Mailbox {
    fn new() -> io::Result<Mailbox> {
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Mailbox {
            freed: Mutex::default(),
            bell,
        })
    }

    /// Becomes readable when there is something to look at.
    pub(crate) fn bell(&self) -> &OwnedFd {
        &self.bell
    }

    /// Puts in all of `publishers` and rings only where the mailbox was empty.
    pub(crate) fn post(&self, publishers: &mut Vec<u32>) {
        let mut freed = lock(&self.freed);
        let was_empty = freed.is_empty();
        freed.append(publishers);
        drop(freed);
        if was_empty {
            self.wake();
        }
    }

    /// Moves everything into `into` and silences the bell.
    pub(crate) fn take(&self, into: &mut Vec<u32>) {
        // Silence first: what is posted afterwards rings again. Nothing to read is fine.
        let _ = io::read(&self.bell, &mut [0_u8; 8]);
        into.append(&mut lock(&self.freed));
    }

    fn wake(&self) {
        // Only a full counter refuses, and then the bell rings already.
        let _ = io::write(&self.bell, &1_u64.to_ne_bytes());
    }
}

/// A thread that panicked while holding a lock ends the run anyway; its data is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
