//! The sleep and wake protocol between shards.
//!
//! A shard that finds nothing to do says that it is about to sleep, looks at its mailboxes once more, and only
//! then sleeps. A sender posts first and looks at the flag second. With a full fence between the two steps on
//! both sides, either the sender sees the flag or the sleeper sees the envelope: no wake-up is lost.

use crate::sync::{fence, AtomicBool, Ordering};

/// How a sleeping shard is woken: an eventfd in the gateway, a flag in a simulated world.
pub trait Wake: Send + Sync {
    fn wake(&self);
}

/// One a shard, shared by everyone who posts to it.
pub struct Doorbell {
    sleeping: AtomicBool,
    wake: Box<dyn Wake>,
}

impl Doorbell {
    pub fn new(wake: Box<dyn Wake>) -> Self {
        Doorbell {
            sleeping: AtomicBool::new(false),
            wake,
        }
    }

    /// Called by a sender after it has posted. Wakes at most once a sleep.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel) {
            self.wake.wake();
        }
    }

    /// Called by the owner before it sleeps. `false`: something came, do not sleep.
    pub fn doze(&self, nothing_waits: impl FnOnce() -> bool) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if nothing_waits() {
            return true;
        }
        self.awake();
        false
    }

    /// Called by the owner after its sleep, whatever ended it.
    pub fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for Doorbell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Doorbell")
            .field("sleeping", &self.sleeping)
            .finish_non_exhaustive()
    }
}
