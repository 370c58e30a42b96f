//! The seam between a shard's loop and the system calls that move its bytes.
//!
//! A [`Driver`] owns every descriptor of its shard and knows nothing of protocols. The loop gives orders, waits,
//! and takes [`Event`]s one by one; no order blocks and none calls back. [`ring`] is io_uring, [`epoll`] the
//! reference, `simulated` is for tests: in memory, with a virtual clock, short sends and a seeded order.
//!
//! Rules every driver keeps:
//! - One send a connection is under way at most; its queue belongs to the driver until [`Event::Sent`] or
//!   [`Event::SendFailed`] gives it back.
//! - A descriptor is closed only when no operation on it is under way, and [`Event::Closed`] is the last event of
//!   a connection.
//! - After `stop_receiving` bytes that were already on their way may still arrive; nothing arrives unasked otherwise.
//! - Events of a connection that was adopted later under the same index carry another generation.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tidegate_shard_router::ConnectionId;

use super::out_queue::OutQueue;

pub(crate) mod epoll;
pub(crate) mod ring;
#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
mod tests;

/// Events one [`Driver::wait`] may bring at most: the bound of a turn's socket work. What is left stays with the
/// kernel and comes with the next turn.
pub(crate) const EVENTS_MAX: usize = 256;

/// Bytes one [`Event::Received`] may carry. Small packets dominate; a large one costs a copy into its
/// connection's remainder anyway.
pub(crate) const RECEIVE_BYTES: usize = 4_096;

/// How a connection is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receive {
    /// Once: afterwards nothing is armed, so the descriptor can change its shard.
    Once,
    /// Until told otherwise.
    Continuous,
}

/// How long a turn may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// Zero: look and go on.
    pub(crate) timeout: Duration,
    pub(crate) pace: Pace,
}

/// What ends a sleep before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Whatever comes first.
    Prompt,
    /// Many sockets are busy: waiting a few microseconds brings a larger batch.
    Batch,
    /// Many sockets are idle and nothing is in a hurry: what comes first waits up to [`NAP`] for company.
    Nap,
}

/// Far below what anyone takes for an absence, and long enough for several of 15,000 clients that ping once a minute.
pub(crate) const NAP: Duration = Duration::from_millis(20);

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    Accepted {
        listener: usize,
        socket: OwnedFd,
    },
    /// The listener stopped for want of descriptors or memory, until [`Driver::resume_accepting`].
    AcceptStalled {
        error: io::Error,
    },
    /// Bytes of a connection: [`Driver::bytes`] shows them, [`Driver::recycle`] gives the buffer back.
    Received {
        id: ConnectionId,
        received: Received,
    },
    /// The peer has closed its half, or reading failed. Nothing more arrives.
    Ended {
        id: ConnectionId,
        error: Option<io::Error>,
    },
    /// Part or all of the queue has left.
    Sent {
        id: ConnectionId,
        bytes: usize,
        queue: Box<OutQueue>,
    },
    SendFailed {
        id: ConnectionId,
        error: io::Error,
        queue: Box<OutQueue>,
    },
    /// The descriptor is closed, the slot is free.
    Closed {
        id: ConnectionId,
    },
}

/// A handle to received bytes; valid until it is recycled.
#[derive(Debug)]
#[must_use = "a buffer that is not recycled is lost to its shard"]
pub(crate) struct Received {
    pub(crate) buffer: u16,
    pub(crate) len: u32,
}

/// What became of a send order.
#[derive(Debug)]
pub(crate) enum SendOrder {
    /// An event follows.
    UnderWay,
    /// All of it is with the kernel already; no event follows.
    Done(Box<OutQueue>),
    /// The connection is broken; no event follows.
    Failed(io::Error, Box<OutQueue>),
}

/// See the module. An order for a connection the driver does not know is a defect of the loop.
pub(crate) trait Driver {
    /// Microseconds of a monotonic clock shared by all shards of the process.
    fn now_us(&self) -> u64;

    /// Starts accepting; the index counts in order of the calls.
    fn listen(&mut self, socket: OwnedFd);
    fn pause_accepting(&mut self);
    fn resume_accepting(&mut self);
    /// Closes the listeners.
    fn stop_accepting(&mut self);

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd);
    /// Gives a descriptor away, where nothing is under way on it.
    fn release(&mut self, id: ConnectionId) -> OwnedFd;
    fn receive(&mut self, id: ConnectionId, how: Receive);
    fn stop_receiving(&mut self, id: ConnectionId);
    /// Sends from the queue's front. At most one send a connection may be under way.
    fn send(&mut self, id: ConnectionId, queue: Box<OutQueue>) -> SendOrder;
    /// Tells the peer that nothing more will be sent.
    fn finish_sending(&mut self, id: ConnectionId);
    /// Gives up what is under way and closes.
    fn close(&mut self, id: ConnectionId);
    fn peer_addr(&self, id: ConnectionId) -> Option<std::net::SocketAddr>;

    /// Carries out what was ordered and waits for events.
    fn wait(&mut self, wait: Wait) -> io::Result<()>;
    fn next(&mut self) -> Option<Event>;
    /// How many events the last wait brought.
    fn batch_len(&self) -> usize;
    /// More events wait already; do not sleep.
    fn has_more(&self) -> bool;
    fn bytes(&self, received: &Received) -> &[u8];
    fn recycle(&mut self, received: Received);

    /// Sends under way that made no progress since `before_us`.
    fn stuck_sends(&self, before_us: u64) -> Vec<ConnectionId>;
    fn sends_under_way(&self) -> usize;

    fn memory_bytes(&self) -> u64;
    /// System calls and ring entries by kind.
    fn calls(&self) -> Vec<(&'static str, u64)>;
}
