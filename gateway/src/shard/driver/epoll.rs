//! [`EpollDriver`]: readiness by epoll, one call a receive and a send. For kernels before 6.1, for hosts that
//! forbid io_uring, and as the reference the ring is compared with. No `unsafe`.
//!
//! Connections are registered once, edge triggered for both directions; the table remembers what the edges said.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::Timespec;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketFlags};
use tidegate_shard_router::ConnectionId;

use super::{Driver, Event, Receive, Received, SendOrder, Wait, EVENTS_MAX};
use crate::shard::bell::EventFd;
use crate::shard::clock::Clock;
use crate::shard::out_queue::{OutQueue, SLICES_MAX};

/// Accepts of one listener in one turn.
pub(super) const ACCEPTS_MAX: usize = 64;

/// Larger than a ring's buffers, because every fill costs a call.
const BUFFER_BYTES: usize = 16 << 10;

const BELL: u64 = 1 << 56;
const LISTENER: u64 = 2 << 56;
const SOCKET: u64 = 3 << 56;

#[derive(Debug, Default)]
struct Socket {
    fd: Option<OwnedFd>,
    generation: u32,
    wanted: Option<Receive>,
    /// An edge said so, and no receive has found it empty since.
    readable: bool,
    /// The peer has closed its half: receiving goes on until it says so.
    hung_up: bool,
    /// On the list of those to receive from.
    listed: bool,
    /// The send that waits for room, and how many of its bytes have left since it was ordered.
    flight: Option<Box<OutQueue>>,
    flight_sent: usize,
}

#[derive(Debug, Default)]
struct Calls {
    wait: u64,
    control: u64,
    accept: u64,
    receive: u64,
    send: u64,
    send_gathered: u64,
    close: u64,
}

/// See the module.
pub(crate) struct EpollDriver {
    epoll: OwnedFd,
    clock: Clock,
    _bell: Arc<EventFd>,
    sockets: Vec<Socket>,
    listeners: Vec<OwnedFd>,
    accepting: bool,
    /// What the last wait brought.
    events: Vec<epoll::Event>,
    events_next: usize,
    /// Readable connections that are to be received from; each stands here once.
    readable: VecDeque<ConnectionId>,
    /// Receives this turn may still make.
    receives_left: usize,
    ready: VecDeque<Event>,
    batch_len: usize,
    under_way: usize,
    buffer: Box<[u8]>,
    calls: Calls,
}

impl std::fmt::Debug for EpollDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EpollDriver")
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

impl EpollDriver {
    pub(crate) fn new(clock: Clock, bell: Arc<EventFd>) -> io::Result<EpollDriver> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &bell,
            EventData::new_u64(BELL),
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(EpollDriver {
            epoll,
            clock,
            _bell: bell,
            sockets: Vec::new(),
            listeners: Vec::new(),
            accepting: true,
            events: Vec::with_capacity(EVENTS_MAX),
            events_next: 0,
            readable: VecDeque::new(),
            receives_left: 0,
            ready: VecDeque::new(),
            batch_len: 0,
            under_way: 0,
            buffer: vec![0; BUFFER_BYTES].into(),
            calls: Calls::default(),
        })
    }

    fn socket(&mut self, id: ConnectionId) -> &mut Socket {
        let socket = &mut self.sockets[id.index as usize];
        assert!(
            socket.fd.is_some() && socket.generation == id.generation,
            "the loop knows its slots"
        );
        socket
    }

    /// The socket, unless its slot has been freed or given to another since.
    fn known(&mut self, id: ConnectionId) -> Option<&mut Socket> {
        let socket = self.sockets.get_mut(id.index as usize)?;
        (socket.fd.is_some() && socket.generation == id.generation).then_some(socket)
    }

    fn list_if_readable(&mut self, id: ConnectionId) {
        let socket = self.socket(id);
        if socket.readable && socket.wanted.is_some() && !socket.listed {
            socket.listed = true;
            self.readable.push_back(id);
        }
    }

    fn ready_event(&mut self, event: epoll::Event) {
        let (data, flags) = (event.data.u64(), event.flags);
        match data >> 56 << 56 {
            LISTENER => self.accept_some((data & 0xff) as usize),
            SOCKET => {
                let generation = (data >> 32) as u32 & 0xff_ffff;
                self.socket_ready(
                    ConnectionId {
                        index: data as u32,
                        generation,
                    },
                    flags,
                );
            }
            _ => {}
        }
    }

    fn accept_some(&mut self, index: usize) {
        for _ in 0..ACCEPTS_MAX {
            let Some(listener) = self.listeners.get(index) else {
                return;
            };
            if !self.accepting {
                return;
            }
            self.calls.accept += 1;
            match rustix::net::accept_with(listener, SocketFlags::CLOEXEC) {
                Ok(socket) => self.ready.push_back(Event::Accepted {
                    listener: index,
                    socket,
                }),
                Err(Errno::AGAIN) => return,
                Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                    self.ready.push_back(Event::AcceptStalled {
                        error: errno.into(),
                    });
                    return;
                }
                // Of a connection that died in the backlog.
                Err(_) => {}
            }
        }
    }

    fn socket_ready(&mut self, id: ConnectionId, flags: EventFlags) {
        let Some(socket) = self.known(id) else { return };
        let gone = EventFlags::HUP | EventFlags::ERR;
        if flags.intersects(EventFlags::IN | EventFlags::RDHUP | gone) {
            socket.readable = true;
            socket.hung_up |= flags.intersects(EventFlags::RDHUP | gone);
            self.list_if_readable(id);
        }
        let Some(socket) = self.known(id) else { return };
        if flags.intersects(EventFlags::OUT | gone) && socket.flight.is_some() {
            self.fly_on(id);
        }
    }

    /// A send that waited for room goes on.
    fn fly_on(&mut self, id: ConnectionId) {
        let socket = self.socket(id);
        let Some(mut queue) = socket.flight.take() else {
            return;
        };
        let result = self.send_some(id, &mut queue);
        let socket = self.socket(id);
        match result {
            Ok(0) => socket.flight = Some(queue),
            Ok(sent) => {
                let bytes = sent + std::mem::take(&mut socket.flight_sent);
                self.under_way -= 1;
                self.ready.push_back(Event::Sent { id, bytes, queue });
            }
            Err(error) => {
                self.under_way -= 1;
                self.ready.push_back(Event::SendFailed { id, error, queue });
            }
        }
    }

    /// Sends until all is gone or the kernel has no room; says how much.
    fn send_some(&mut self, id: ConnectionId, queue: &mut OutQueue) -> io::Result<usize> {
        let mut total = 0;
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        while !queue.is_empty() {
            let socket = &self.sockets[id.index as usize];
            let Some(fd) = &socket.fd else { break };
            let sent = match queue.as_single() {
                Some(bytes) => {
                    self.calls.send += 1;
                    rustix::net::send(fd, bytes, flags)
                }
                None => {
                    self.calls.send_gathered += 1;
                    let slices: Vec<_> =
                        queue.slices().take(SLICES_MAX).map(IoSlice::new).collect();
                    let mut control = SendAncillaryBuffer::default();
                    rustix::net::sendmsg(fd, &slices, &mut control, flags)
                }
            };
            match sent {
                Ok(sent) => {
                    queue.advance(sent);
                    total += sent;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        if total > 0 {
            queue.progress_at_us = self.clock.now_us();
        }
        Ok(total)
    }

    fn receive_from(&mut self, id: ConnectionId) -> Option<Event> {
        let socket = self.sockets.get_mut(id.index as usize)?;
        if socket.generation != id.generation {
            return None;
        }
        let fd = socket.fd.as_ref()?;
        socket.listed = false;
        let how = socket.wanted?;
        self.calls.receive += 1;
        let event = match rustix::net::recv(fd, &mut self.buffer[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) => {
                socket.wanted = None;
                Some(Event::Ended { id, error: None })
            }
            Ok((len, _)) => {
                // A short receive has emptied the socket; more bytes bring another edge.
                socket.readable = len == BUFFER_BYTES || socket.hung_up;
                if how == Receive::Once {
                    socket.wanted = None;
                }
                Some(Event::Received {
                    id,
                    received: Received {
                        buffer: 0,
                        len: len as u32,
                    },
                })
            }
            Err(Errno::AGAIN) => {
                socket.readable = false;
                None
            }
            Err(Errno::INTR) => None,
            Err(errno) => {
                socket.wanted = None;
                Some(Event::Ended {
                    id,
                    error: Some(errno.into()),
                })
            }
        };
        self.list_if_readable(id);
        event
    }

    fn watch_listeners(&mut self, flags: EventFlags) {
        for (index, listener) in self.listeners.iter().enumerate() {
            self.calls.control += 1;
            let data = EventData::new_u64(LISTENER | index as u64);
            // The listener was added when it came; changing its flags cannot fail.
            let _ = epoll::modify(&self.epoll, listener, data, flags);
        }
    }
}

impl Driver for EpollDriver {
    fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    fn listen(&mut self, socket: OwnedFd) {
        let data = EventData::new_u64(LISTENER | self.listeners.len() as u64);
        // Blocking accepts would stop the shard; a listener that cannot be watched would be silent.
        rustix::io::ioctl_fionbio(&socket, true).expect("a socket can be made non-blocking");
        epoll::add(&self.epoll, &socket, data, EventFlags::IN).expect("a listener can be watched");
        self.listeners.push(socket);
    }

    fn pause_accepting(&mut self) {
        self.accepting = false;
        self.watch_listeners(EventFlags::empty());
    }

    fn resume_accepting(&mut self) {
        self.accepting = true;
        self.watch_listeners(EventFlags::IN);
    }

    fn stop_accepting(&mut self) {
        self.accepting = false;
        self.listeners.clear();
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) {
        let index = id.index as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, Socket::default);
        }
        assert!(self.sockets[index].fd.is_none(), "a slot has one tenant");
        let data = SOCKET | u64::from(id.generation) << 32 | u64::from(id.index);
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        self.calls.control += 1;
        let added = epoll::add(&self.epoll, &socket, EventData::new_u64(data), flags);
        self.sockets[index] = Socket {
            fd: Some(socket),
            generation: id.generation,
            ..Socket::default()
        };
        if let Err(errno) = added {
            // The host's limit of watches: this connection would never be heard.
            self.ready.push_back(Event::Ended {
                id,
                error: Some(errno.into()),
            });
        }
    }

    fn release(&mut self, id: ConnectionId) -> OwnedFd {
        let socket = self.socket(id);
        assert!(socket.flight.is_none(), "nothing is under way");
        let fd = std::mem::take(socket)
            .fd
            .expect("a known socket has a descriptor");
        self.calls.control += 1;
        // Its next home registers it anew; one that was never added needs no removing.
        let _ = epoll::delete(&self.epoll, &fd);
        fd
    }

    fn receive(&mut self, id: ConnectionId, how: Receive) {
        self.socket(id).wanted = Some(how);
        self.list_if_readable(id);
    }

    fn stop_receiving(&mut self, id: ConnectionId) {
        self.socket(id).wanted = None;
    }

    fn send(&mut self, id: ConnectionId, mut queue: Box<OutQueue>) -> SendOrder {
        assert!(
            self.socket(id).flight.is_none(),
            "one send a connection is under way"
        );
        match self.send_some(id, &mut queue) {
            Err(error) => SendOrder::Failed(error, queue),
            Ok(_) if queue.is_empty() => SendOrder::Done(queue),
            Ok(sent) => {
                let socket = self.socket(id);
                socket.flight = Some(queue);
                socket.flight_sent = sent;
                self.under_way += 1;
                SendOrder::UnderWay
            }
        }
    }

    fn finish_sending(&mut self, id: ConnectionId) {
        if let Some(fd) = &self.socket(id).fd {
            // A peer that is gone already needs no telling.
            let _ = rustix::net::shutdown(fd, Shutdown::Write);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        let socket = std::mem::take(self.socket(id));
        if let Some(queue) = socket.flight {
            self.under_way -= 1;
            let error = Errno::CANCELED.into();
            self.ready.push_back(Event::SendFailed { id, error, queue });
        }
        drop(socket.fd);
        self.calls.close += 1;
        self.ready.push_back(Event::Closed { id });
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
        self.events.clear();
        self.events_next = 0;
        self.receives_left = EVENTS_MAX;
        let waiting = !self.ready.is_empty() || !self.readable.is_empty();
        let timeout = if waiting {
            Duration::ZERO
        } else {
            wait.timeout
        };
        // epoll counts milliseconds: rounded up, or the last one would be spent spinning.
        let timeout = Duration::from_millis(timeout.as_micros().div_ceil(1_000) as u64);
        let timespec = Timespec::try_from(timeout).expect("a sleep is short");
        self.calls.wait += 1;
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&timespec)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.batch_len = self.events.len();
        Ok(())
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if let Some(&event) = self.events.get(self.events_next) {
                self.events_next += 1;
                self.ready_event(event);
                continue;
            }
            if self.receives_left == 0 {
                return None;
            }
            let id = self.readable.pop_front()?;
            self.receives_left -= 1;
            if let Some(event) = self.receive_from(id) {
                return Some(event);
            }
        }
    }

    fn batch_len(&self) -> usize {
        self.batch_len
    }

    fn has_more(&self) -> bool {
        !self.ready.is_empty() || !self.readable.is_empty()
    }

    fn bytes(&self, received: &Received) -> &[u8] {
        &self.buffer[..received.len as usize]
    }

    fn recycle(&mut self, _received: Received) {}

    fn stuck_sends(&self, before_us: u64) -> Vec<ConnectionId> {
        let mut stuck = Vec::new();
        for (socket, index) in self.sockets.iter().zip(0u32..) {
            if socket
                .flight
                .as_ref()
                .is_some_and(|queue| queue.progress_at_us < before_us)
            {
                stuck.push(ConnectionId {
                    index,
                    generation: socket.generation,
                });
            }
        }
        stuck
    }

    fn sends_under_way(&self) -> usize {
        self.under_way
    }

    fn memory_bytes(&self) -> u64 {
        let queues = self
            .sockets
            .iter()
            .filter_map(|socket| socket.flight.as_ref());
        let queues: usize = queues.map(|queue| queue.memory_bytes()).sum();
        (self.sockets.capacity() * size_of::<Socket>() + queues + self.buffer.len()) as u64
    }

    fn calls(&self) -> Vec<(&'static str, u64)> {
        let calls = &self.calls;
        vec![
            ("epoll_wait", calls.wait),
            ("epoll_ctl", calls.control),
            ("accept", calls.accept),
            ("recv", calls.receive),
            ("send", calls.send),
            ("sendmsg", calls.send_gathered),
            ("close", calls.close),
        ]
    }
}
