//! [`RingDriver`]: io_uring. Multishot accept and receive, one provided-buffer ring, sends as ring entries but for
//! turns with only a few.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`setup`] | what this kernel can do, and a ring made accordingly |
//! | [`entries`] | orders: one ring entry each |
//! | [`completions`] | answers: from completions to events |
//! | [`buffers`] | where received bytes land |
//! | [`flights`] | sends under way, and what the kernel reads for them |
//!
//! These files contain `unsafe`: ring entries name descriptors and memory that must stay valid until their last
//! completion. Three rules make them so: a descriptor is closed only when nothing is armed or under way on it, a
//! send's queue stays in [`Flights`] until it lands, and `drop` takes every operation back before memory goes.

mod buffers;
mod completions;
mod entries;
mod flights;
mod setup;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{cqueue, IoUring};
use rustix::io::Errno;
use rustix::net::SendFlags;
use tidegate_shard_router::ConnectionId;

use self::buffers::{BufferRing, BUFFERS};
use self::entries::{operation, user_data};
use self::flights::{Flights, NONE};
use self::setup::build_ring;
pub use self::setup::RingFeatures;
use super::{Driver, Event, Pace, Receive, Received, SendOrder, Wait, EVENTS_MAX, NAP};
use crate::shard::bell::EventFd;
use crate::shard::clock::Clock;
use crate::shard::out_queue::OutQueue;

/// What a busy shard waits for, and how long: a larger batch costs fewer calls a message.
const BATCH_WANTED: usize = 64;
const BATCH_WAIT: Duration = Duration::from_micros(20);

/// Turns with so few sends make them by a call each. A send by entry completes while it is submitted, and the wait
/// that submits it returns for that alone: a second enter and a turn for nothing. Measured, CPU time of a turn a
/// message: one send 3.0 us instead of 3.9, four 2.5 instead of 2.7, sixteen the same.
const DIRECT_SENDS_MAX: usize = 8;

/// A connection's descriptor and what is under way on it. 16 bytes.
#[derive(Debug)]
struct Socket {
    fd: Option<OwnedFd>,
    generation: u32,
    /// Its send under way, or [`NONE`].
    flight: u32,
    armed: Option<Receive>,
    wanted: Option<Receive>,
    /// A cancel of the armed receive is on its way.
    cancelling: bool,
    closing: bool,
}

const _: () = assert!(size_of::<Socket>() == 16);

const VACANT: Socket = Socket {
    fd: None,
    generation: 0,
    flight: NONE,
    armed: None,
    wanted: None,
    cancelling: false,
    closing: false,
};

#[derive(Debug)]
struct Listener {
    fd: Option<OwnedFd>,
    armed: bool,
    cancelling: bool,
}

/// Totals by kind of ring entry or call.
#[derive(Debug, Default)]
struct Calls {
    enter: u64,
    accept: u64,
    receive: u64,
    send: u64,
    send_gathered: u64,
    send_direct: u64,
    cancel: u64,
    close: u64,
    buffers_short: u64,
}

/// See the module.
pub(crate) struct RingDriver {
    ring: IoUring,
    /// `None` only while dropping.
    buffers: Option<BufferRing>,
    features: RingFeatures,
    clock: Clock,
    bell: Arc<EventFd>,
    sockets: Vec<Socket>,
    flights: Flights,
    listeners: Vec<Listener>,
    accepting: bool,
    /// Completions of the last wait, at most [`EVENTS_MAX`].
    batch: Vec<cqueue::Entry>,
    batch_next: usize,
    /// Events without a completion of their own: at most one a connection.
    ready: VecDeque<Event>,
    /// Entries whose last completion has not come.
    outstanding: usize,
    /// Sends ordered since the last wait, and before it since the one before.
    sends_ordered: usize,
    sends_last_turn: usize,
    calls: Calls,
}

impl std::fmt::Debug for RingDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingDriver")
            .field("features", &self.features)
            .finish_non_exhaustive()
    }
}

impl RingDriver {
    /// Made on the thread that uses it: the kernel takes entries from no other.
    pub(crate) fn new(
        clock: Clock,
        bell: Arc<EventFd>,
        allow: RingFeatures,
    ) -> io::Result<RingDriver> {
        RingDriver::with_buffers(clock, bell, allow, BUFFERS)
    }

    /// With so many buffers to receive into; a power of two.
    pub(crate) fn with_buffers(
        clock: Clock,
        bell: Arc<EventFd>,
        allow: RingFeatures,
        buffers: u16,
    ) -> io::Result<RingDriver> {
        let (ring, defer_taskrun) = build_ring(allow.defer_taskrun)?;
        let buffers = BufferRing::register(&ring, buffers)?;
        let min_wait = allow.min_wait && ring.params().is_feature_min_timeout();
        let mut driver = RingDriver {
            ring,
            buffers: Some(buffers),
            features: RingFeatures {
                defer_taskrun,
                multishot_receive: allow.multishot_receive,
                min_wait,
            },
            clock,
            bell,
            sockets: Vec::new(),
            flights: Flights::default(),
            listeners: Vec::new(),
            accepting: true,
            batch: Vec::with_capacity(EVENTS_MAX),
            batch_next: 0,
            ready: VecDeque::new(),
            outstanding: 0,
            sends_ordered: 0,
            sends_last_turn: 0,
            calls: Calls::default(),
        };
        if allow.multishot_receive {
            driver.features.multishot_receive = driver.try_multishot_receive()?;
        }
        driver.arm_bell();
        Ok(driver)
    }

    pub(crate) fn features(&self) -> RingFeatures {
        self.features
    }

    fn socket(&mut self, id: ConnectionId) -> &mut Socket {
        let socket = &mut self.sockets[id.index as usize];
        assert!(
            socket.fd.is_some() && socket.generation == id.generation,
            "the loop knows its slots"
        );
        socket
    }

    /// Closes a descriptor on which nothing is under way any more.
    fn close_if_idle(&mut self, id: ConnectionId) {
        let socket = self.socket(id);
        if !socket.closing || socket.armed.is_some() || socket.flight != NONE {
            return;
        }
        *socket = VACANT;
        self.calls.close += 1;
        self.ready.push_back(Event::Closed { id });
    }

    /// Sends what the kernel has room for, and says how much; what is gathered from several places is not sent.
    fn send_directly(&mut self, id: ConnectionId, queue: &mut OutQueue) -> io::Result<usize> {
        let socket = &self.sockets[id.index as usize];
        let (Some(fd), Some(bytes)) = (&socket.fd, queue.as_single()) else {
            return Ok(0);
        };
        self.calls.send_direct += 1;
        match rustix::net::send(fd, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(sent) => {
                queue.advance(sent);
                Ok(sent)
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    fn buffers(&self) -> &BufferRing {
        self.buffers
            .as_ref()
            .expect("the buffers are there until the driver is dropped")
    }
}

impl Driver for RingDriver {
    fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    fn listen(&mut self, socket: OwnedFd) {
        self.listeners.push(Listener {
            fd: Some(socket),
            armed: false,
            cancelling: false,
        });
        if self.accepting {
            self.arm_accept(self.listeners.len() - 1);
        }
    }

    fn pause_accepting(&mut self) {
        self.accepting = false;
        for index in 0..self.listeners.len() {
            let listener = &mut self.listeners[index];
            if listener.armed && !listener.cancelling {
                listener.cancelling = true;
                let id = ConnectionId {
                    index: index as u32,
                    generation: 0,
                };
                self.cancel(user_data(operation::ACCEPT, id));
            }
        }
    }

    fn resume_accepting(&mut self) {
        self.accepting = true;
        for index in 0..self.listeners.len() {
            // One whose cancel is on its way is armed again when it has ended.
            self.arm_accept(index);
        }
    }

    fn stop_accepting(&mut self) {
        self.pause_accepting();
        // The kernel holds a reference for the entry that is being cancelled; ours may go. Shutting down first
        // makes clients see a refusal at once instead of a connection nobody serves.
        for listener in &mut self.listeners {
            if let Some(fd) = listener.fd.take() {
                let _ = rustix::net::shutdown(&fd, rustix::net::Shutdown::Both);
            }
        }
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) {
        let index = id.index as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || VACANT);
        }
        assert!(self.sockets[index].fd.is_none(), "a slot has one tenant");
        self.sockets[index] = Socket {
            fd: Some(socket),
            generation: id.generation,
            ..VACANT
        };
    }

    fn release(&mut self, id: ConnectionId) -> OwnedFd {
        let socket = self.socket(id);
        assert!(
            socket.armed.is_none() && socket.flight == NONE,
            "nothing is under way"
        );
        std::mem::replace(socket, VACANT)
            .fd
            .expect("a known socket has a descriptor")
    }

    fn receive(&mut self, id: ConnectionId, how: Receive) {
        self.socket(id).wanted = Some(how);
        self.arm_receive(id);
    }

    fn stop_receiving(&mut self, id: ConnectionId) {
        self.socket(id).wanted = None;
        self.cancel_receive(id);
    }

    fn send(&mut self, id: ConnectionId, mut queue: Box<OutQueue>) -> SendOrder {
        assert!(
            self.socket(id).flight == NONE,
            "one send a connection is under way"
        );
        self.sends_ordered += 1;
        let mut sent = 0;
        if self.sends_ordered.max(self.sends_last_turn) <= DIRECT_SENDS_MAX {
            match self.send_directly(id, &mut queue) {
                Err(error) => return SendOrder::Failed(error, queue),
                Ok(_) if queue.is_empty() => return SendOrder::Done(queue),
                Ok(some) => sent = some,
            }
        }
        let flight = self.flights.start(id, queue, sent);
        self.socket(id).flight = flight;
        self.push_send(id);
        SendOrder::UnderWay
    }

    fn finish_sending(&mut self, id: ConnectionId) {
        if let Some(fd) = &self.socket(id).fd {
            // A peer that is gone already needs no telling.
            let _ = rustix::net::shutdown(fd, rustix::net::Shutdown::Write);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        let socket = self.socket(id);
        socket.closing = true;
        socket.wanted = None;
        let sending = socket.flight != NONE;
        self.cancel_receive(id);
        if sending {
            self.cancel(user_data(operation::SEND, id));
        }
        self.close_if_idle(id);
    }

    fn peer_addr(&self, id: ConnectionId) -> Option<SocketAddr> {
        let socket = self.sockets.get(id.index as usize)?;
        let fd = socket
            .fd
            .as_ref()
            .filter(|_| socket.generation == id.generation)?;
        rustix::net::getpeername(fd).ok()??.try_into().ok()
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        self.sends_last_turn = std::mem::take(&mut self.sends_ordered);
        self.batch.clear();
        self.batch_next = 0;
        let waiting = self.has_more();
        let timeout = if waiting {
            Duration::ZERO
        } else {
            wait.timeout
        };
        let gather = match wait.pace {
            _ if timeout.is_zero() || !self.features.min_wait => None,
            Pace::Prompt => None,
            Pace::Batch => Some(BATCH_WAIT),
            Pace::Nap => Some(NAP.min(timeout)),
        };
        let timespec = Timespec::from(timeout);
        let mut args = SubmitArgs::new().timespec(&timespec);
        if let Some(gather) = gather {
            args = args.min_wait_usec(gather.as_micros() as u32);
        }
        // Never a wait for 0: a ring with deferred work would then deliver nothing.
        let want = if gather.is_some() { BATCH_WANTED } else { 1 };
        self.calls.enter += 1;
        if let Err(error) = self.ring.submitter().submit_with_args(want, &args) {
            let code = error.raw_os_error().unwrap_or(0);
            // Time is up, a signal came, or completions must be taken first.
            if !matches!(code, libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) {
                return Err(error);
            }
        }
        let mut completions = self.ring.completion();
        self.batch.extend(completions.by_ref().take(EVENTS_MAX));
        Ok(())
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let entry = self.batch.get(self.batch_next)?.clone();
            self.batch_next += 1;
            if let Some(event) = self.completed(&entry) {
                return Some(event);
            }
        }
    }

    fn batch_len(&self) -> usize {
        self.batch.len()
    }

    fn has_more(&self) -> bool {
        // SAFETY: this thread alone uses the ring, and no other queue object of it is alive.
        !self.ready.is_empty() || !unsafe { self.ring.completion_shared() }.is_empty()
    }

    fn bytes(&self, received: &Received) -> &[u8] {
        self.buffers().bytes(received)
    }

    fn recycle(&mut self, received: Received) {
        self.buffers
            .as_mut()
            .expect("the buffers are there")
            .recycle(received);
    }

    fn stuck_sends(&self, before_us: u64) -> Vec<ConnectionId> {
        let stuck = self
            .flights
            .iter()
            .filter(|flight| flight.queue.progress_at_us < before_us);
        stuck.map(|flight| flight.id).collect()
    }

    fn sends_under_way(&self) -> usize {
        self.flights.len()
    }

    fn memory_bytes(&self) -> u64 {
        let sockets = self.sockets.capacity() * size_of::<Socket>();
        (sockets + self.flights.memory_bytes() + self.buffers().memory_bytes()) as u64
    }

    fn calls(&self) -> Vec<(&'static str, u64)> {
        let calls = &self.calls;
        vec![
            ("io_uring_enter", calls.enter),
            ("entry_accept", calls.accept),
            ("entry_receive", calls.receive),
            ("entry_send", calls.send),
            ("entry_send_gathered", calls.send_gathered),
            ("send", calls.send_direct),
            ("entry_cancel", calls.cancel),
            ("close", calls.close),
            ("receive_without_buffer", calls.buffers_short),
        ]
    }
}

impl Drop for RingDriver {
    /// Takes back what is under way, because the kernel may still read queues and write buffers. Where it does
    /// not give everything back in time, that memory is left to it.
    fn drop(&mut self) {
        let cancelled = self
            .ring
            .submitter()
            .register_sync_cancel(None, CancelBuilder::any());
        let mut patience = 50;
        while self.outstanding > 0 && patience > 0 && cancelled.is_ok() {
            patience -= 1;
            if self
                .wait(Wait {
                    timeout: Duration::from_millis(10),
                    pace: Pace::Prompt,
                })
                .is_err()
            {
                break;
            }
            while let Some(entry) = self.batch.get(self.batch_next).cloned() {
                self.batch_next += 1;
                if !cqueue::more(entry.flags()) {
                    self.outstanding -= 1;
                }
            }
        }
        if self.outstanding > 0 {
            std::mem::forget(self.buffers.take());
            std::mem::forget(std::mem::take(&mut self.flights));
        }
    }
}
