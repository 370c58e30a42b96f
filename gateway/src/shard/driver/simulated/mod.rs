//! [`SimulatedDriver`]: a driver over in-memory connections, with a virtual clock and seeded accidents. Tests only.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`network`] | the connections, and what a client does with its end |
//! | [`chance`] | the seeded source of what happens next |
//!
//! It does whatever the rules of [`super`] allow and the kernel may do, as often as [`Faults`] says: completions in
//! any order, bytes split anywhere, sends that are cut short or stand still, receives that rest because no buffer
//! is free or because their entry was lost, accepts that fail, orders that are answered at once or much later. It
//! also asserts what the loop promises: no order for a connection it does not know, one send at a time, nothing
//! under way when a descriptor is given away, one close a connection.

mod chance;
mod network;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use tidegate_shard_router::{ConnectionId, Wake};

pub(crate) use self::chance::Chance;
pub(crate) use self::network::{Found, Line, Network};
use super::{Driver, Event, Receive, Received, SendOrder, Wait, EVENTS_MAX, RECEIVE_BYTES};
use crate::shard::out_queue::OutQueue;

/// How often what may go wrong does, in percent, and how narrow things are.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    /// Something that could happen happens in this wait.
    pub(crate) prompt: u32,
    /// Bytes that were received are fewer than there are.
    pub(crate) split: u32,
    pub(crate) short_send: u32,
    /// A send is answered by the order itself, as epoll does.
    pub(crate) inline_send: u32,
    /// An accept finds no descriptor.
    pub(crate) accept_stall: u32,
    /// A connection is closed by the order itself, where nothing is under way.
    pub(crate) inline_close: u32,
    /// A receive that was stopped has bytes on its way already.
    pub(crate) late_bytes: u32,
    pub(crate) buffers: u16,
    /// Events a wait shows at once.
    pub(crate) events: usize,
    /// Completions come in the order of their slots, listeners last.
    pub(crate) in_order: bool,
}

impl Faults {
    /// Nothing goes wrong.
    pub(crate) const NONE: Faults = Faults {
        prompt: 100,
        split: 0,
        short_send: 0,
        inline_send: 0,
        accept_stall: 0,
        inline_close: 0,
        late_bytes: 0,
        buffers: 512,
        events: EVENTS_MAX,
        in_order: true,
    };

    pub(crate) fn seeded(chance: &mut Chance) -> Faults {
        Faults {
            prompt: *chance.pick(&[30, 70, 90, 100]),
            split: *chance.pick(&[0, 20, 80]),
            short_send: *chance.pick(&[0, 10, 60]),
            inline_send: *chance.pick(&[0, 0, 50, 100]),
            accept_stall: *chance.pick(&[0, 0, 10]),
            inline_close: *chance.pick(&[0, 50, 100]),
            late_bytes: *chance.pick(&[0, 50, 100]),
            buffers: *chance.pick(&[2, 3, 8, 64]),
            events: *chance.pick(&[1, 4, 16, EVENTS_MAX]),
            in_order: chance.percent(20),
        }
    }
}

/// What the accidents came to; a test that promises one looks here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Happened {
    pub(crate) split_receives: u64,
    pub(crate) rests_without_buffer: u64,
    pub(crate) late_bytes: u64,
    pub(crate) short_sends: u64,
    pub(crate) stalled_sends: u64,
    pub(crate) accept_stalls: u64,
    pub(crate) sends_cut_by_close: u64,
    pub(crate) events_of_closing: u64,
    pub(crate) closes: u64,
}

/// What rings a simulated shard.
#[derive(Debug, Default)]
pub(crate) struct SimulatedBell(AtomicBool);

impl Wake for SimulatedBell {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// [`SimulatedBell`] behind the box a doorbell wants.
#[derive(Debug)]
pub(crate) struct SharedBell(pub(crate) Arc<SimulatedBell>);

impl Wake for SharedBell {
    fn wake(&self) {
        self.0.wake();
    }
}

#[derive(Debug)]
struct Flight {
    queue: Box<OutQueue>,
    /// Bytes that left since the order, not yet told.
    sent: usize,
}

#[derive(Debug)]
struct Socket {
    fd: OwnedFd,
    generation: u32,
    line: Line,
    wanted: Option<Receive>,
    /// A receive was stopped and has not ended yet.
    stopping: bool,
    flight: Option<Flight>,
    closing: bool,
}

/// What a wait brought, before the loop took it.
#[derive(Debug)]
enum Completed {
    Accepted(OwnedFd),
    AcceptStalled,
    Received(ConnectionId, Received),
    Ended(ConnectionId, Option<i32>),
    Sent(ConnectionId, usize, Box<OutQueue>),
    SendFailed(ConnectionId, i32, Box<OutQueue>),
    Closed(ConnectionId),
}

/// What may happen in a wait.
#[derive(Clone, Copy, Debug)]
enum Chore {
    Accept,
    Receive(u32),
    Send(u32),
    Close(u32),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct SimulatedDriver {
    shard: usize,
    network: Network,
    chance: Chance,
    pub(crate) faults: Faults,
    pub(crate) happened: Happened,
    bell: Arc<SimulatedBell>,
    listening: bool,
    accepting: bool,
    /// An accept found no descriptor: nothing is accepted until the loop says so.
    starved: bool,
    sockets: Vec<Option<Socket>>,
    buffers: Vec<Vec<u8>>,
    buffers_free: Vec<u16>,
    ready: VecDeque<Completed>,
    /// Events the loop may still take this turn.
    events_left: usize,
    batch_len: usize,
    /// Counts orders and events: whether a turn did anything.
    pub(crate) activity: u64,
}

impl SimulatedDriver {
    /// Listens at once; the loop's listeners are descriptors, and a network has none.
    pub(crate) fn new(
        shard: usize,
        network: &Network,
        faults: Faults,
        bell: Arc<SimulatedBell>,
    ) -> SimulatedDriver {
        let chance = network.state().chance.fork();
        SimulatedDriver {
            shard,
            network: network.clone(),
            chance,
            happened: Happened::default(),
            bell,
            listening: true,
            accepting: true,
            starved: false,
            sockets: Vec::new(),
            buffers: vec![Vec::new(); usize::from(faults.buffers)],
            buffers_free: (0..faults.buffers).collect(),
            ready: VecDeque::new(),
            events_left: 0,
            batch_len: 0,
            activity: 0,
            faults,
        }
    }

    /// Whether a sleeper would be woken by now.
    pub(crate) fn would_wake(&self) -> bool {
        self.bell.0.load(Ordering::SeqCst) || !self.ready.is_empty() || !self.chores().is_empty()
    }

    /// Connections this driver holds, and buffers that were not given back.
    pub(crate) fn held(&self) -> (usize, usize) {
        let sockets = self.sockets.iter().flatten().count();
        (sockets, self.buffers.len() - self.buffers_free.len())
    }

    fn socket(&mut self, id: ConnectionId) -> &mut Socket {
        let socket = self.sockets[id.index as usize].as_mut();
        let socket = socket.expect("an order for a connection that is gone");
        assert_eq!(
            socket.generation, id.generation,
            "an order for an earlier tenant"
        );
        assert!(!socket.closing, "an order after close");
        self.activity += 1;
        socket
    }

    /// Whether an event still has somebody it belongs to.
    fn is_current(&self, id: ConnectionId) -> bool {
        let socket = self.sockets.get(id.index as usize).and_then(|s| s.as_ref());
        socket.is_some_and(|socket| socket.generation == id.generation && !socket.closing)
    }

    /// Everything that could happen now.
    fn chores(&self) -> Vec<Chore> {
        let state = self.network.state();
        let mut chores = Vec::new();
        for (socket, index) in self.sockets.iter().zip(0..) {
            let Some(socket) = socket else { continue };
            let wire = &state.lines[socket.line];
            let readable = !wire.to_gateway.is_empty() || wire.client_finished || wire.reset;
            if (socket.wanted.is_some() && readable) || socket.stopping {
                chores.push(Chore::Receive(index));
            }
            let broken = wire.reset || wire.client_closed;
            let room = state.room_to_client(socket.line) > 0;
            if socket.flight.is_some() && (broken || room || socket.closing) {
                chores.push(Chore::Send(index));
            }
            if socket.closing {
                chores.push(Chore::Close(index));
            }
        }
        let waiting = !state.backlogs[self.shard].is_empty();
        if waiting && self.listening && self.accepting && !self.starved {
            chores.push(Chore::Accept);
        }
        chores
    }

    fn carry_out(&mut self, chore: Chore) {
        match chore {
            Chore::Accept => self.accept_some(),
            Chore::Receive(index) => self.receive_some(index),
            Chore::Send(index) => self.send_on(index),
            Chore::Close(index) => self.close_if_idle(index),
        }
    }

    fn accept_some(&mut self) {
        for _ in 0..self.chance.within(1..8) {
            if self.chance.percent(self.faults.accept_stall) {
                self.happened.accept_stalls += 1;
                self.starved = true;
                self.ready.push_back(Completed::AcceptStalled);
                return;
            }
            let Some(socket) = self.network.state().accept(self.shard) else {
                return;
            };
            self.ready.push_back(Completed::Accepted(socket));
        }
    }

    fn receive_some(&mut self, index: u32) {
        let Some(socket) = self.sockets[index as usize].as_mut() else {
            return;
        };
        let id = id_of(index, socket);
        // A stopped receive that has ended may have one last completion behind it.
        let last = std::mem::take(&mut socket.stopping) && socket.wanted.is_none();
        if socket.closing {
            return;
        }
        if last && !self.chance.percent(self.faults.late_bytes) {
            return;
        }
        loop {
            let socket = self.sockets[index as usize]
                .as_mut()
                .expect("it was here a moment ago");
            if socket.wanted.is_none() && !last {
                return;
            }
            let once = socket.wanted == Some(Receive::Once);
            let mut state = self.network.state();
            let wire = &mut state.lines[socket.line];
            if wire.reset {
                socket.wanted = None;
                self.ready
                    .push_back(Completed::Ended(id, Some(libc::ECONNRESET)));
                return;
            }
            if wire.to_gateway.is_empty() {
                if wire.client_finished && !last {
                    socket.wanted = None;
                    self.ready.push_back(Completed::Ended(id, None));
                }
                return;
            }
            let Some(buffer) = self.buffers_free.pop() else {
                self.happened.rests_without_buffer += 1;
                return;
            };
            let there = wire.to_gateway.len().min(RECEIVE_BYTES);
            let taken = if self.chance.percent(self.faults.split) {
                self.happened.split_receives += 1;
                self.chance.within(1..there + 1)
            } else {
                there
            };
            let bytes = &mut self.buffers[usize::from(buffer)];
            bytes.clear();
            bytes.extend_from_slice(wire.to_gateway.take(taken));
            let len = taken as u32;
            if once {
                socket.wanted = None;
            }
            self.happened.late_bytes += u64::from(last);
            self.ready
                .push_back(Completed::Received(id, Received { buffer, len }));
            if once || last || !self.chance.percent(70) {
                // The entry was lost; armed again with the next wait.
                return;
            }
        }
    }

    /// Moves what a send can move. `Err`: the connection is broken.
    fn move_bytes(&mut self, line: Line, queue: &mut OutQueue) -> Result<usize, i32> {
        let mut state = self.network.state();
        let wire = &mut state.lines[line];
        if wire.reset {
            return Err(libc::ECONNRESET);
        }
        if wire.client_closed {
            // Its host answers with a reset, which the next operation meets.
            wire.reset = true;
            wire.to_gateway.clear();
            if self.chance.percent(50) {
                return Err(libc::EPIPE);
            }
            let all = queue.len();
            queue.advance(all);
            return Ok(all);
        }
        let mut len = queue.len().min(state.room_to_client(line));
        if len > 1 && self.chance.percent(self.faults.short_send) {
            len = self.chance.within(1..len);
        }
        let mut left = len;
        for slice in queue.slices() {
            let some = slice.len().min(left);
            state.lines[line].put_to_client(&slice[..some]);
            left -= some;
        }
        let now_us = state.now_us;
        queue.advance(len);
        if len > 0 {
            queue.progress_at_us = now_us;
        }
        if !queue.is_empty() {
            self.happened.short_sends += u64::from(len > 0);
            self.happened.stalled_sends += u64::from(len == 0);
        }
        Ok(len)
    }

    fn send_on(&mut self, index: u32) {
        let Some(socket) = self.sockets[index as usize].as_mut() else {
            return;
        };
        let (id, line, closing) = (id_of(index, socket), socket.line, socket.closing);
        let Some(Flight { mut queue, sent }) = socket.flight.take() else {
            return;
        };
        // A send that is being cancelled may still have done something.
        let result = if closing && self.chance.percent(70) {
            self.happened.sends_cut_by_close += 1;
            Err(libc::ECANCELED)
        } else {
            self.move_bytes(line, &mut queue)
        };
        match result {
            Ok(0) if closing => {
                self.ready
                    .push_back(Completed::SendFailed(id, libc::ECANCELED, queue));
            }
            Ok(0) => {
                let flight = Some(Flight { queue, sent });
                self.sockets[index as usize]
                    .as_mut()
                    .expect("it was here a moment ago")
                    .flight = flight;
            }
            Ok(moved) => self
                .ready
                .push_back(Completed::Sent(id, sent + moved, queue)),
            Err(code) => self.ready.push_back(Completed::SendFailed(id, code, queue)),
        }
    }

    fn close_if_idle(&mut self, index: u32) {
        let idle = self.sockets[index as usize]
            .as_ref()
            .is_some_and(|socket| socket.closing && socket.flight.is_none() && !socket.stopping);
        if !idle {
            return;
        }
        let Some(socket) = self.sockets[index as usize].take() else {
            return;
        };
        self.happened.closes += 1;
        let id = id_of(index, &socket);
        self.network.state().lines[socket.line].gateway_closes();
        drop(socket.fd);
        self.ready.push_back(Completed::Closed(id));
    }

    fn event_of(&mut self, completed: Completed) -> Option<Event> {
        Some(match completed {
            Completed::Accepted(socket) => Event::Accepted {
                listener: 0,
                socket,
            },
            Completed::AcceptStalled => Event::AcceptStalled {
                error: io::Error::from_raw_os_error(libc::EMFILE),
            },
            Completed::Received(id, received) if self.is_current(id) => {
                Event::Received { id, received }
            }
            Completed::Ended(id, code) if self.is_current(id) => Event::Ended {
                id,
                error: code.map(io::Error::from_raw_os_error),
            },
            // Taken before the loop closed: of an earlier tenant, and of no interest to the later one.
            Completed::Received(_, received) => {
                self.happened.events_of_closing += 1;
                self.recycle(received);
                return None;
            }
            Completed::Ended(..) => {
                self.happened.events_of_closing += 1;
                return None;
            }
            Completed::Sent(id, bytes, queue) => Event::Sent { id, bytes, queue },
            Completed::SendFailed(id, code, queue) => Event::SendFailed {
                id,
                error: io::Error::from_raw_os_error(code),
                queue,
            },
            Completed::Closed(id) => Event::Closed { id },
        })
    }
}

fn id_of(index: u32, socket: &Socket) -> ConnectionId {
    ConnectionId {
        index,
        generation: socket.generation,
    }
}

impl Driver for SimulatedDriver {
    fn now_us(&self) -> u64 {
        self.network.now_us()
    }

    fn listen(&mut self, _socket: OwnedFd) {
        unreachable!("a simulated driver listens from the start")
    }

    fn pause_accepting(&mut self) {
        self.activity += 1;
        self.accepting = false;
    }

    fn resume_accepting(&mut self) {
        self.activity += 1;
        self.accepting = true;
        self.starved = false;
    }

    fn stop_accepting(&mut self) {
        self.activity += 1;
        self.listening = false;
        self.network.state().refuse_backlog(self.shard);
    }

    fn adopt(&mut self, id: ConnectionId, socket: OwnedFd) {
        self.activity += 1;
        let index = id.index as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        assert!(self.sockets[index].is_none(), "a slot has one tenant");
        let line = self.network.state().adopted(&socket);
        self.sockets[index] = Some(Socket {
            fd: socket,
            generation: id.generation,
            line,
            wanted: None,
            stopping: false,
            flight: None,
            closing: false,
        });
    }

    fn release(&mut self, id: ConnectionId) -> OwnedFd {
        let socket = self.socket(id);
        let idle = socket.wanted.is_none() && !socket.stopping && socket.flight.is_none();
        assert!(idle, "something is under way on a descriptor given away");
        let told = self.ready.iter().all(|completed| match completed {
            Completed::Received(of, _)
            | Completed::Ended(of, _)
            | Completed::Sent(of, ..)
            | Completed::SendFailed(of, ..)
            | Completed::Closed(of) => *of != id,
            Completed::Accepted(_) | Completed::AcceptStalled => true,
        });
        assert!(told, "an event of a descriptor given away waits");
        let socket = self.sockets[id.index as usize]
            .take()
            .expect("it was here a moment ago");
        self.network.state().released(socket.line);
        socket.fd
    }

    fn receive(&mut self, id: ConnectionId, how: Receive) {
        self.socket(id).wanted = Some(how);
    }

    fn stop_receiving(&mut self, id: ConnectionId) {
        let socket = self.socket(id);
        assert!(
            socket.wanted != Some(Receive::Once),
            "only continuous receives are stopped"
        );
        socket.stopping |= socket.wanted.take().is_some();
    }

    fn send(&mut self, id: ConnectionId, mut queue: Box<OutQueue>) -> SendOrder {
        let inline = self.chance.percent(self.faults.inline_send);
        let socket = self.socket(id);
        assert!(
            socket.flight.is_none(),
            "one send a connection is under way"
        );
        assert!(!queue.is_empty(), "a send of nothing");
        let line = socket.line;
        assert!(
            !self.network.state().lines[line].gateway_finished,
            "a send after the last one"
        );
        let mut sent = 0;
        if inline {
            match self.move_bytes(line, &mut queue) {
                Err(code) => {
                    return SendOrder::Failed(io::Error::from_raw_os_error(code), queue);
                }
                Ok(_) if queue.is_empty() => return SendOrder::Done(queue),
                Ok(moved) => sent = moved,
            }
        }
        self.socket(id).flight = Some(Flight { queue, sent });
        SendOrder::UnderWay
    }

    fn finish_sending(&mut self, id: ConnectionId) {
        let socket = self.socket(id);
        assert!(socket.flight.is_none(), "the last send has left");
        let line = socket.line;
        self.network.state().lines[line].gateway_finished = true;
    }

    fn close(&mut self, id: ConnectionId) {
        let inline = self.chance.percent(self.faults.inline_close);
        let socket = self.socket(id);
        socket.closing = true;
        socket.stopping |= socket.wanted.take().is_some();
        if inline {
            socket.stopping = false;
            if let Some(Flight { queue, .. }) = socket.flight.take() {
                self.happened.sends_cut_by_close += 1;
                self.ready
                    .push_back(Completed::SendFailed(id, libc::ECANCELED, queue));
            }
            self.close_if_idle(id.index);
        }
    }

    fn peer_addr(&self, id: ConnectionId) -> Option<SocketAddr> {
        let socket = self.sockets.get(id.index as usize)?.as_ref()?;
        (socket.generation == id.generation).then(|| ([127, 0, 0, 1], 1_883).into())
    }

    /// Never sleeps: its world calls it when the sleep is over.
    fn wait(&mut self, _wait: Wait) -> io::Result<()> {
        self.bell.0.store(false, Ordering::SeqCst);
        let mut chores = self.chores();
        if !self.faults.in_order {
            self.chance.shuffle(&mut chores);
        }
        for chore in chores {
            if self.ready.len() < EVENTS_MAX && self.chance.percent(self.faults.prompt) {
                self.carry_out(chore);
            }
        }
        self.events_left = self.chance.within(1..self.faults.events.max(1) + 1);
        if self.faults.in_order {
            self.events_left = self.faults.events;
        }
        self.batch_len = self.ready.len().min(self.events_left);
        Ok(())
    }

    fn next(&mut self) -> Option<Event> {
        while self.events_left > 0 {
            let completed = self.ready.pop_front()?;
            self.events_left -= 1;
            self.activity += 1;
            if let Some(event) = self.event_of(completed) {
                return Some(event);
            }
        }
        None
    }

    fn batch_len(&self) -> usize {
        self.batch_len
    }

    fn has_more(&self) -> bool {
        !self.ready.is_empty()
    }

    fn bytes(&self, received: &Received) -> &[u8] {
        &self.buffers[usize::from(received.buffer)][..received.len as usize]
    }

    fn recycle(&mut self, received: Received) {
        assert!(
            !self.buffers_free.contains(&received.buffer),
            "a buffer is given back once"
        );
        self.buffers_free.push(received.buffer);
    }

    fn stuck_sends(&self, before_us: u64) -> Vec<ConnectionId> {
        let sockets = self.sockets.iter().zip(0..);
        let stuck = sockets.filter_map(|(socket, index)| {
            let socket = socket.as_ref()?;
            let flight = socket.flight.as_ref()?;
            (flight.queue.progress_at_us < before_us).then(|| id_of(index, socket))
        });
        stuck.collect()
    }

    fn sends_under_way(&self) -> usize {
        let sockets = self.sockets.iter().flatten();
        sockets.filter(|socket| socket.flight.is_some()).count()
    }

    fn memory_bytes(&self) -> u64 {
        0
    }

    fn calls(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }
}
