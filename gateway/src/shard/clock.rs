//! The clock of a process: microseconds since a common origin, so that a deadline means the same on every shard.

use std::time::Instant;

use tidegate_codec::Millis;

/// Cheap to copy; read once a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: Instant,
}

/// The clock starts here and not at 0, so that "some seconds ago" is always a time.
const START_US: u64 = 1_000_000;

impl Clock {
    pub(crate) fn start() -> Clock {
        Clock {
            origin: Instant::now(),
        }
    }

    pub(crate) fn now_us(&self) -> u64 {
        START_US + self.origin.elapsed().as_micros() as u64
    }
}

pub(crate) fn millis(us: u64) -> Millis {
    Millis(us / 1_000)
}
