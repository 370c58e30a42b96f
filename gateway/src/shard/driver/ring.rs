//! [`RingDriver`]: io_uring. Multishot accept and receive, one provided-buffer ring, sends as ring entries.
//!
//! This file contains `unsafe`: ring entries name descriptors and memory that must stay valid until their last
//! completion. Three rules make them so: a descriptor is closed only when nothing is armed or under way on it, a
//! send's queue stays in [`Flights`] until it lands, and `drop` takes every operation back before memory goes.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, SubmitArgs, Timespec};
use io_uring::{cqueue, opcode, squeue, IoUring};
use tidegate_shard_router::ConnectionId;

use super::flights::{Flights, Payload, NONE};
use super::ring_buffers::{BufferRing, GROUP};
use super::{Driver, Event, Receive, Received, SendOrder, Wait, EVENTS_MAX, RECEIVE_BYTES};
use crate::shard::bell::EventFd;
use crate::shard::clock::Clock;
use crate::shard::connection::GENERATION_BITS;
use crate::shard::out_queue::OutQueue;

const SUBMISSIONS: u32 = 4_096;

/// Eight times the submissions: a multishot entry completes many times.
const COMPLETIONS: u32 = 32_768;

/// What a busy shard waits for, and how long: a larger batch costs fewer calls a message.
const BATCH_WANTED: usize = 64;
const BATCH_WAIT_US: u32 = 20;

/// What this kernel's io_uring can do; each is dropped singly where it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingFeatures {
    /// Linux 6.1: completions are worked on when the shard asks for them, not when they happen.
    pub defer_taskrun: bool,
    /// Linux 6.0: one entry receives until it is cancelled.
    pub multishot_receive: bool,
    /// Linux 6.12: a wait for many completions that settles for one.
    pub min_wait: bool,
}

impl RingFeatures {
    /// Everything; what a kernel has not is found out when the ring is made.
    pub(crate) const ALL: RingFeatures =
        RingFeatures { defer_taskrun: true, multishot_receive: true, min_wait: true };
}

/// What an entry does; the top byte of its user data.
mod operation {
    pub(super) const ACCEPT: u64 = 1;
    pub(super) const RECEIVE: u64 = 2;
    pub(super) const SEND: u64 = 3;
    pub(super) const CANCEL: u64 = 4;
    pub(super) const BELL: u64 = 5;
}

/// Operation in 8 bits, generation in 24, index in 32.
fn user_data(operation: u64, id: ConnectionId) -> u64 {
    debug_assert!(id.generation < 1 << GENERATION_BITS);
    operation << 56 | u64::from(id.generation) << 32 | u64::from(id.index)
}

fn id_of(user_data: u64) -> ConnectionId {
    let generation = (user_data >> 32) as u32 & ((1 << GENERATION_BITS) - 1);
    ConnectionId { index: user_data as u32, generation }
}

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
    calls: Calls,
}

impl std::fmt::Debug for RingDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RingDriver").field("features", &self.features).finish_non_exhaustive()
    }
}

impl RingDriver {
    /// Made on the thread that uses it: the kernel takes entries from no other.
    pub(crate) fn new(clock: Clock, bell: Arc<EventFd>, allow: RingFeatures) -> io::Result<RingDriver> {
        let (ring, defer_taskrun) = build_ring(allow.defer_taskrun)?;
        let buffers = BufferRing::register(&ring)?;
        let min_wait = allow.min_wait && ring.params().is_feature_min_timeout();
        let mut driver = RingDriver {
            ring,
            buffers: Some(buffers),
            features: RingFeatures { defer_taskrun, multishot_receive: allow.multishot_receive, min_wait },
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

    /// Whether a multishot receive on a pair of sockets goes on after its first bytes.
    fn try_multishot_receive(&mut self) -> io::Result<bool> {
        use std::io::Write;
        let (mut near, far) = std::os::unix::net::UnixStream::pair()?;
        near.write_all(b"?")?;
        let id = ConnectionId { index: 0, generation: 0 };
        self.adopt(id, far.into());
        self.receive(id, Receive::Continuous);
        let mut supported = None;
        let mut near = Some(near);
        loop {
            self.wait(Wait { timeout: Duration::from_secs(1), batch: false })?;
            if self.batch.is_empty() && self.ready.is_empty() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "io_uring does not answer"));
            }
            while let Some(event) = self.next() {
                match event {
                    Event::Received { received, .. } => {
                        supported = Some(self.sockets[0].armed.is_some());
                        self.recycle(received);
                        near = None;
                        self.close(id);
                    }
                    Event::Ended { .. } => {
                        near = None;
                        self.close(id);
                    }
                    Event::Closed { .. } => {
                        drop(near);
                        self.sockets.clear();
                        return Ok(supported.unwrap_or(false));
                    }
                    _ => {}
                }
            }
        }
    }

    fn socket(&mut self, id: ConnectionId) -> &mut Socket {
        let socket = &mut self.sockets[id.index as usize];
        assert!(socket.fd.is_some() && socket.generation == id.generation, "the loop knows its slots");
        socket
    }

    /// Queues an entry; a full queue is handed to the kernel first.
    fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: whatever the entry names stays valid until its last completion: see the module.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_ok() {
                return;
            }
            self.calls.enter += 1;
            // A failure to submit shows again, and for good, in the next wait.
            if self.ring.submit().is_err() {
                std::thread::yield_now();
            }
        }
    }

    fn arm_bell(&mut self) {
        let data = user_data(operation::BELL, ConnectionId { index: 0, generation: 0 });
        let entry = opcode::PollAdd::new(Fd(self.bell.as_raw_fd()), libc::POLLIN as u32)
            .multi(true)
            .build();
        self.outstanding += 1;
        self.push(entry.user_data(data));
    }

    fn arm_accept(&mut self, index: usize) {
        let listener = &mut self.listeners[index];
        let (Some(fd), false) = (&listener.fd, listener.armed) else { return };
        let entry = opcode::AcceptMulti::new(Fd(fd.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
        listener.armed = true;
        self.outstanding += 1;
        self.calls.accept += 1;
        let id = ConnectionId { index: index as u32, generation: 0 };
        self.push(entry.user_data(user_data(operation::ACCEPT, id)));
    }

    fn arm_receive(&mut self, id: ConnectionId) {
        let multishot = self.features.multishot_receive;
        let socket = self.socket(id);
        let (Some(fd), Some(how), None) = (&socket.fd, socket.wanted, socket.armed) else { return };
        let fd = Fd(fd.as_raw_fd());
        socket.armed = Some(how);
        let entry = match how {
            Receive::Continuous if multishot => opcode::RecvMulti::new(fd, GROUP).build(),
            _ => opcode::Recv::new(fd, std::ptr::null_mut(), RECEIVE_BYTES as u32)
                .buf_group(GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
        };
        self.outstanding += 1;
        self.calls.receive += 1;
        self.push(entry.user_data(user_data(operation::RECEIVE, id)));
    }

    fn cancel(&mut self, target: u64) {
        self.outstanding += 1;
        self.calls.cancel += 1;
        let data = user_data(operation::CANCEL, ConnectionId { index: 0, generation: 0 });
        self.push(opcode::AsyncCancel::new(target).build().user_data(data));
    }

    fn cancel_receive(&mut self, id: ConnectionId) {
        let socket = self.socket(id);
        if socket.armed.is_some() && !socket.cancelling {
            socket.cancelling = true;
            self.cancel(user_data(operation::RECEIVE, id));
        }
    }

    fn push_send(&mut self, id: ConnectionId) {
        let socket = self.socket(id);
        let (Some(fd), flight) = (&socket.fd, socket.flight) else { return };
        let fd = Fd(fd.as_raw_fd());
        let entry = match self.flights.payload(flight) {
            Payload::Single { bytes, len } => {
                self.calls.send += 1;
                opcode::Send::new(fd, bytes, len).flags(libc::MSG_NOSIGNAL).build()
            }
            Payload::Gathered(message) => {
                self.calls.send_gathered += 1;
                opcode::SendMsg::new(fd, message).flags(libc::MSG_NOSIGNAL as u32).build()
            }
        };
        self.outstanding += 1;
        self.push(entry.user_data(user_data(operation::SEND, id)));
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

    fn completed(&mut self, entry: &cqueue::Entry) -> Option<Event> {
        let id = id_of(entry.user_data());
        if !cqueue::more(entry.flags()) {
            self.outstanding -= 1;
        }
        match entry.user_data() >> 56 {
            operation::ACCEPT => self.accept_completed(id.index as usize, entry),
            operation::RECEIVE => self.receive_completed(id, entry),
            operation::SEND => self.send_completed(id, entry),
            operation::BELL => {
                if !cqueue::more(entry.flags()) {
                    self.arm_bell();
                }
                None
            }
            // A cancel says nothing that the cancelled entry does not say itself.
            _ => None,
        }
    }

    fn accept_completed(&mut self, index: usize, entry: &cqueue::Entry) -> Option<Event> {
        let more = cqueue::more(entry.flags());
        let listener = &mut self.listeners[index];
        if !more {
            listener.armed = false;
            listener.cancelling = false;
        }
        let result = entry.result();
        let mut event = None;
        if result >= 0 {
            // SAFETY: the kernel just made this descriptor for us; nobody else knows it.
            let socket = unsafe { std::os::fd::FromRawFd::from_raw_fd(result) };
            event = Some(Event::Accepted { listener: index, socket });
        } else if matches!(-result, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) {
            return Some(Event::AcceptStalled { error: io::Error::from_raw_os_error(-result) });
        }
        // Other errors are of connections that died in the backlog.
        if !more && self.accepting {
            self.arm_accept(index);
        }
        event
    }

    fn receive_completed(&mut self, id: ConnectionId, entry: &cqueue::Entry) -> Option<Event> {
        let (result, flags) = (entry.result(), entry.flags());
        let received = cqueue::buffer_select(flags)
            .map(|buffer| Received { buffer, len: result.max(0) as u32 });
        let socket = &mut self.sockets[id.index as usize];
        let known = socket.fd.is_some() && socket.generation == id.generation;
        debug_assert!(known, "a slot is freed after its last completion");
        if !known {
            received.into_iter().for_each(|received| self.recycle(received));
            return None;
        }
        let more = cqueue::more(flags);
        if !more {
            socket.armed = None;
            socket.cancelling = false;
        }
        let event = match (result, received) {
            (1.., Some(received)) if !socket.closing => {
                if socket.wanted == Some(Receive::Once) {
                    socket.wanted = None;
                }
                Some(Event::Received { id, received })
            }
            (result, received) => {
                // Taken by the kernel but of no use: closing, or an end that came with a buffer.
                received.into_iter().for_each(|received| self.recycle(received));
                self.receive_ended(id, result)
            }
        };
        if !more {
            self.arm_receive(id);
            self.close_if_idle(id);
        }
        event
    }

    /// The peer's end of file, an error, or merely an end of this entry.
    fn receive_ended(&mut self, id: ConnectionId, result: i32) -> Option<Event> {
        let error = match -result {
            libc::ENOBUFS => {
                self.calls.buffers_short += 1;
                return None;
            }
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => return None,
            0 => None,
            code if code > 0 => Some(io::Error::from_raw_os_error(code)),
            _ => return None,
        };
        let socket = self.socket(id);
        socket.wanted = None;
        (!socket.closing).then_some(Event::Ended { id, error })
    }

    fn send_completed(&mut self, id: ConnectionId, entry: &cqueue::Entry) -> Option<Event> {
        let result = entry.result();
        let closing = self.socket(id).closing;
        if matches!(-result, libc::EINTR | libc::EAGAIN) && !closing {
            self.push_send(id);
            return None;
        }
        let slot = std::mem::replace(&mut self.socket(id).flight, NONE);
        let mut queue = self.flights.land(slot).queue;
        self.close_if_idle(id);
        if result < 0 {
            let error = io::Error::from_raw_os_error(-result);
            return Some(Event::SendFailed { id, error, queue });
        }
        queue.advance(result as usize);
        Some(Event::Sent { id, bytes: result as usize, queue })
    }

    fn buffers(&self) -> &BufferRing {
        self.buffers.as_ref().expect("the buffers are there until the driver is dropped")
    }
}

impl Driver for RingDriver {
    fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    fn listen(&mut self, socket: OwnedFd) {
        self.listeners.push(Listener { fd: Some(socket), armed: false, cancelling: false });
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
                let id = ConnectionId { index: index as u32, generation: 0 };
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
        self.sockets[index] = Socket { fd: Some(socket), generation: id.generation, ..VACANT };
    }

    fn release(&mut self, id: ConnectionId) -> OwnedFd {
        let socket = self.socket(id);
        assert!(socket.armed.is_none() && socket.flight == NONE, "nothing is under way");
        std::mem::replace(socket, VACANT).fd.expect("a known socket has a descriptor")
    }

    fn receive(&mut self, id: ConnectionId, how: Receive) {
        self.socket(id).wanted = Some(how);
        self.arm_receive(id);
    }

    fn stop_receiving(&mut self, id: ConnectionId) {
        self.socket(id).wanted = None;
        self.cancel_receive(id);
    }

    fn send(&mut self, id: ConnectionId, queue: Box<OutQueue>) -> SendOrder {
        assert!(self.socket(id).flight == NONE, "one send a connection is under way");
        let flight = self.flights.start(id, queue);
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
        let fd = socket.fd.as_ref().filter(|_| socket.generation == id.generation)?;
        rustix::net::getpeername(fd).ok()??.try_into().ok()
    }

    fn wait(&mut self, wait: Wait) -> io::Result<()> {
        self.batch.clear();
        self.batch_next = 0;
        let waiting = !self.ready.is_empty() || !self.ring.completion().is_empty();
        let timeout = if waiting { Duration::ZERO } else { wait.timeout };
        let batch = wait.batch && self.features.min_wait && !timeout.is_zero();
        let timespec = Timespec::from(timeout);
        let mut args = SubmitArgs::new().timespec(&timespec);
        if batch {
            args = args.min_wait_usec(BATCH_WAIT_US);
        }
        // Never a wait for 0: a ring with deferred work would then deliver nothing.
        let want = if batch { BATCH_WANTED } else { 1 };
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
        self.buffers.as_mut().expect("the buffers are there").recycle(received);
    }

    fn stuck_sends(&self, before_us: u64) -> Vec<ConnectionId> {
        let stuck = self.flights.iter().filter(|flight| flight.queue.progress_at_us < before_us);
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
        let cancelled = self.ring.submitter().register_sync_cancel(None, CancelBuilder::any());
        let mut patience = 50;
        while self.outstanding > 0 && patience > 0 && cancelled.is_ok() {
            patience -= 1;
            if self.wait(Wait { timeout: Duration::from_millis(10), batch: false }).is_err() {
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

/// The ring, and whether its work is deferred. Older kernels refuse flags they do not know.
fn build_ring(defer_taskrun: bool) -> io::Result<(IoUring, bool)> {
    if defer_taskrun {
        let built = IoUring::builder()
            .setup_cqsize(COMPLETIONS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(SUBMISSIONS);
        match built {
            Ok(ring) => return Ok((ring, true)),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    let ring = IoUring::builder().setup_cqsize(COMPLETIONS).build(SUBMISSIONS)?;
    Ok((ring, false))
}
