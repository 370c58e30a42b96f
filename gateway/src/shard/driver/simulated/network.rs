//! [`Network`]: in-memory connections between clients and simulated drivers, one clock and one source of chance.
//!
//! A connection is known to drivers by a descriptor like any other, so that the loop moves, hands over and drops
//! what it would in earnest. The descriptor is one end of a socket pair that carries no bytes; the other end tells
//! when the gateway has dropped it outside a driver.

use std::cell::{RefCell, RefMut};
use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;

use super::chance::Chance;

/// Number of a connection; never used twice.
pub(crate) type Line = usize;

/// Shared by all drivers and clients of a world. One thread.
#[derive(Clone, Debug)]
pub(crate) struct Network(Rc<RefCell<State>>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) now_us: u64,
    pub(super) chance: Chance,
    pub(super) lines: Vec<Wire>,
    by_descriptor: HashMap<RawFd, Line>,
    /// By shard: dialled and not accepted.
    pub(super) backlogs: Vec<VecDeque<Line>>,
    /// Bytes that may be under way towards a client, and towards the gateway.
    room: usize,
    window: usize,
}

/// Where the gateway's end is.
#[derive(Debug)]
enum Place {
    Backlog(OwnedFd),
    /// Accepted or handed over, and not yet with a driver.
    Limbo,
    Driver,
    Closed,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Wire {
    place: Place,
    /// The other end of the gateway's descriptor.
    witness: UnixStream,
    pub(super) to_gateway: Stream,
    /// The client has closed its half, or altogether.
    pub(super) client_finished: bool,
    pub(super) client_closed: bool,
    /// Nothing of this connection works any more.
    pub(super) reset: bool,
    to_client: Stream,
    pub(super) gateway_finished: bool,
}

/// Bytes in the order they were written.
#[derive(Debug, Default)]
pub(super) struct Stream {
    bytes: Vec<u8>,
    start: usize,
}

/// What a client finds when it reads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Bytes(Vec<u8>),
    Nothing,
    End,
    Reset,
}

impl Network {
    pub(crate) fn new(seed: u64, shards: usize, room: usize, window: usize) -> Network {
        Network(Rc::new(RefCell::new(State {
            now_us: 1_000_000,
            chance: Chance::new(seed),
            lines: Vec::new(),
            by_descriptor: HashMap::new(),
            backlogs: vec![VecDeque::new(); shards],
            room,
            window,
        })))
    }

    pub(super) fn state(&self) -> RefMut<'_, State> {
        self.0.borrow_mut()
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.state().now_us
    }

    pub(crate) fn pass_time(&self, us: u64) {
        self.state().now_us += us;
    }

    /// A connection that waits in a shard's backlog.
    pub(crate) fn dial(&self, shard: usize) -> Line {
        let (near, witness) = UnixStream::pair().expect("descriptors are left");
        witness
            .set_nonblocking(true)
            .expect("a socket can be made non-blocking");
        let socket = OwnedFd::from(near);
        let mut state = self.state();
        let line = state.lines.len();
        // The number may have belonged to a connection whose descriptor is closed by now.
        state.by_descriptor.insert(socket.as_raw_fd(), line);
        state.lines.push(Wire {
            place: Place::Backlog(socket),
            witness,
            to_gateway: Stream::default(),
            client_finished: false,
            client_closed: false,
            reset: false,
            to_client: Stream::default(),
            gateway_finished: false,
        });
        state.backlogs[shard].push_back(line);
        line
    }

    /// Takes as many bytes as the window has room for.
    pub(crate) fn write(&self, line: Line, bytes: &[u8]) -> usize {
        let mut state = self.state();
        let window = state.window;
        let wire = &mut state.lines[line];
        assert!(!wire.client_finished, "a client writes before it closes");
        if wire.reset || matches!(wire.place, Place::Closed) {
            return bytes.len();
        }
        let taken = bytes
            .len()
            .min(window.saturating_sub(wire.to_gateway.len()));
        wire.to_gateway.put(&bytes[..taken]);
        taken
    }

    pub(crate) fn read(&self, line: Line, max: usize) -> Found {
        let mut state = self.state();
        let wire = &mut state.lines[line];
        let taken = wire.to_client.len().min(max);
        if taken > 0 {
            return Found::Bytes(wire.to_client.take(taken).to_vec());
        }
        match () {
            () if wire.reset => Found::Reset,
            () if wire.gateway_finished => Found::End,
            () => Found::Nothing,
        }
    }

    /// The client says nothing more, and goes on listening.
    pub(crate) fn finish(&self, line: Line) {
        self.state().lines[line].client_finished = true;
    }

    /// The client goes: what it has not read is gone, what it wrote still arrives.
    pub(crate) fn hang_up(&self, line: Line) {
        let mut state = self.state();
        let wire = &mut state.lines[line];
        wire.client_finished = true;
        wire.client_closed = true;
        wire.to_client.clear();
    }

    /// The client's host drops the connection: nothing that is under way arrives.
    pub(crate) fn reset(&self, line: Line) {
        let mut state = self.state();
        let wire = &mut state.lines[line];
        wire.client_finished = true;
        wire.client_closed = true;
        wire.reset = true;
        wire.to_client.clear();
        wire.to_gateway.clear();
    }

    pub(crate) fn is_closed_by_gateway(&self, line: Line) -> bool {
        matches!(self.state().lines[line].place, Place::Closed)
    }

    /// Notices descriptors that the loop dropped without giving them to a driver.
    pub(crate) fn notice_dropped(&self) {
        let mut state = self.state();
        for wire in &mut state.lines {
            if matches!(wire.place, Place::Limbo) && wire.gateway_end_is_closed() {
                wire.gateway_closes();
            }
        }
    }

    /// Connections whose descriptor the gateway still holds.
    pub(crate) fn held_by_gateway(&self) -> usize {
        let state = self.state();
        let held = |wire: &&Wire| matches!(wire.place, Place::Limbo | Place::Driver);
        state.lines.iter().filter(held).count()
    }
}

impl State {
    /// The next connection of a shard's backlog, as a descriptor of its own.
    pub(super) fn accept(&mut self, shard: usize) -> Option<OwnedFd> {
        loop {
            let line = self.backlogs[shard].pop_front()?;
            let wire = &mut self.lines[line];
            // One that was reset in the backlog is never seen.
            let next = if wire.reset {
                Place::Closed
            } else {
                Place::Limbo
            };
            let Place::Backlog(socket) = std::mem::replace(&mut wire.place, next) else {
                unreachable!("what is in a backlog has not been accepted")
            };
            if !wire.reset {
                return Some(socket);
            }
        }
    }

    /// A listener closes: whoever waits is told so.
    pub(super) fn refuse_backlog(&mut self, shard: usize) {
        while let Some(line) = self.backlogs[shard].pop_front() {
            let wire = &mut self.lines[line];
            wire.place = Place::Closed;
            wire.reset = true;
        }
    }

    pub(super) fn adopted(&mut self, socket: &OwnedFd) -> Line {
        let line = self.by_descriptor[&socket.as_raw_fd()];
        let wire = &mut self.lines[line];
        assert!(
            matches!(wire.place, Place::Limbo),
            "a descriptor has one driver"
        );
        wire.place = Place::Driver;
        line
    }

    pub(super) fn released(&mut self, line: Line) {
        self.lines[line].place = Place::Limbo;
    }

    pub(super) fn room_to_client(&self, line: Line) -> usize {
        self.room.saturating_sub(self.lines[line].to_client.len())
    }
}

impl Wire {
    pub(super) fn put_to_client(&mut self, bytes: &[u8]) {
        if !self.client_closed {
            self.to_client.put(bytes);
        }
    }

    /// The gateway has closed its descriptor. Bytes nobody has read turn that into a reset, which overtakes what
    /// is under way.
    pub(super) fn gateway_closes(&mut self) {
        self.place = Place::Closed;
        self.gateway_finished = true;
        if !self.to_gateway.is_empty() {
            self.reset = true;
            self.to_gateway.clear();
            self.to_client.clear();
        }
    }

    fn gateway_end_is_closed(&mut self) -> bool {
        matches!(self.witness.read(&mut [0]), Ok(0))
    }
}

impl Stream {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.start * 2 >= self.bytes.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The first `len` bytes, which are no longer there afterwards.
    pub(super) fn take(&mut self, len: usize) -> &[u8] {
        let taken = &self.bytes[self.start..][..len];
        self.start += len;
        taken
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }
}
