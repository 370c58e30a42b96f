//! Models of what `src/sync.rs` names. Each promises no more than what it stands for: a proof with less order holds
//! with more.

use std::cell::Cell;
use std::sync::Arc;

pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};

/// A flag that several threads write. All writes of one atomic have one order, and a read-modify-write stands right
/// behind what it read; loom knows the order of two plain writes only where one happens before the other, and lets
/// a swap be forgotten by its own thread. A store that is a swap too has its place in that order, and orders nothing
/// else.
#[derive(Debug)]
pub(crate) struct AtomicBool(loom::sync::atomic::AtomicBool);

impl AtomicBool {
    pub(crate) fn new(value: bool) -> AtomicBool {
        AtomicBool(loom::sync::atomic::AtomicBool::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> bool {
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: bool, order: Ordering) {
        self.0.swap(value, order);
    }

    pub(crate) fn swap(&self, value: bool, order: Ordering) -> bool {
        self.0.swap(value, order)
    }
}

/// Whose full fence is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum WithoutFence {
    Nobody,
    Sleeper,
    Senders,
}

thread_local! {
    // All threads of a model are run by the one thread of its test.
    static WITHOUT: Cell<WithoutFence> = const { Cell::new(WithoutFence::Nobody) };
}

/// Leaves a fence out, for all models of this test.
pub(crate) fn leave_out(fence: WithoutFence) {
    WITHOUT.set(fence);
}

/// Senders are the threads with a name.
pub(crate) fn fence(order: Ordering) {
    let me = match loom::thread::current().name() {
        Some(_) => WithoutFence::Senders,
        None => WithoutFence::Sleeper,
    };
    if WITHOUT.get() != me {
        loom::sync::atomic::fence(order);
    }
}

/// A channel whose items are seen through a count alone, written and read without any order. The real one orders
/// more, and is not what is proved.
pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let (sender, items) = crossbeam_channel::bounded(capacity);
    let sent = Arc::new(AtomicU64::new(0));
    let receiver = Receiver {
        items,
        sent: sent.clone(),
        received: Cell::new(0),
    };
    (
        Sender {
            items: sender,
            sent,
        },
        receiver,
    )
}

#[derive(Debug)]
pub(crate) struct Sender<T> {
    items: crossbeam_channel::Sender<T>,
    sent: Arc<AtomicU64>,
}

// Derived, it would ask for items that can be cloned.
impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender {
            items: self.items.clone(),
            sent: self.sent.clone(),
        }
    }
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, item: T) -> Result<(), T> {
        self.sent.fetch_add(1, Ordering::Relaxed);
        // No other thread of the model runs in between.
        let sent = self.items.try_send(item);
        assert!(
            !matches!(sent, Err(crossbeam_channel::TrySendError::Full(_))),
            "slots were counted wrong"
        );
        sent.map_err(crossbeam_channel::TrySendError::into_inner)
    }
}

#[derive(Debug)]
pub(crate) struct Receiver<T> {
    items: crossbeam_channel::Receiver<T>,
    sent: Arc<AtomicU64>,
    received: Cell<u64>,
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, ()> {
        if self.is_empty() {
            return Err(());
        }
        self.received.set(self.received.get() + 1);
        Ok(self.items.try_recv().expect("what is counted is there"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        (self.sent.load(Ordering::Relaxed) - self.received.get()) as usize
    }
}
