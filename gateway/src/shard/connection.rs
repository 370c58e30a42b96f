//! [`Connection`]: what a shard keeps of one connection, and the [`Slab`] they live in.
//!
//! Owned by the shard whose thread made it. A connection holds no buffer while idle: its out-queue and its
//! remainder come from the shard's pools and go back when they are empty.

use tidegate_codec::mqtt::connection::ServerConnection;
use tidegate_shard_router::{ConnectionId, SessionId};

use super::out_queue::OutQueue;
use super::remainder::Remainder;
use super::timers::Tick;

/// Where a connection stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Reads one-shot until CONNECT is decoded.
    AwaitConnect,
    /// Has a session of this shard.
    Connected,
    /// Takes no more packets; its last bytes are on their way. Bounded by a deadline.
    Flushing,
    /// All is sent and the peer knows; waits until it closes, so that unread input does not turn our last bytes
    /// into a reset. Bounded by the same deadline.
    Lingering,
    /// The driver is closing it.
    Closing,
}

/// The marks of a connection, one bit each.
pub(crate) mod mark {
    /// On the shard's list of connections to settle at the end of the turn.
    pub(crate) const DIRTY: u16 = 1 << 0;
    /// On the shard's list of connections whose remainder is to be decoded.
    pub(crate) const RESUMED: u16 = 1 << 1;
    /// The router wants no more packets for now.
    pub(crate) const PAUSED_BY_ROUTER: u16 = 1 << 2;
    /// Answers pile up faster than the peer takes them.
    pub(crate) const PAUSED_BY_OUTPUT: u16 = 1 << 3;
    /// The driver was told to receive continuously.
    pub(crate) const RECEIVING: u16 = 1 << 4;
    /// The router was told `Full` and waits for `writable`.
    pub(crate) const WANTS_WRITABLE: u16 = 1 << 5;
    /// The peer has closed its half; acted on once the remainder is decoded.
    pub(crate) const ENDED: u16 = 1 << 6;
    /// Close at once when flushed, without lingering.
    pub(crate) const ABRUPT: u16 = 1 << 7;
    /// So much undecoded input waits that no more is received for now.
    pub(crate) const BACKLOG: u16 = 1 << 9;
    /// The driver holds a send of this connection.
    pub(crate) const SENDING: u16 = 1 << 8;
}

/// One connection. 40 bytes beside the codec's part.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) codec: ServerConnection,
    /// What waits to be sent; `None` while nothing does.
    pub(crate) out: Option<Box<OutQueue>>,
    /// Received and not decoded: a split packet, or what came while paused.
    pub(crate) remainder: Option<Box<Remainder>>,
    /// Meaningful while [`State::Connected`].
    pub(crate) session: SessionId,
    pub(crate) generation: u32,
    /// Bytes of the send under way.
    pub(crate) in_flight: u32,
    /// The tick of the valid wheel entry; 0 without one.
    pub(crate) wheel_due: Tick,
    marks: u16,
    pub(crate) state: State,
    pub(crate) listener: u8,
}

/// The hot part of an idle connection stays below two cache lines; 40 bytes of it are ours.
const _: () = assert!(size_of::<Connection>() <= 40 + size_of::<ServerConnection>());
const _: () = assert!(size_of::<Connection>() <= 104);
const _: () = assert!(size_of::<Slot>() == size_of::<Connection>());

impl Connection {
    pub(crate) fn new(codec: ServerConnection, listener: u8) -> Connection {
        Connection {
            codec,
            out: None,
            remainder: None,
            session: SessionId {
                index: 0,
                generation: 0,
            },
            generation: 0,
            in_flight: 0,
            wheel_due: 0,
            marks: 0,
            state: State::AwaitConnect,
            listener,
        }
    }

    pub(crate) fn has(&self, marks: u16) -> bool {
        self.marks & marks != 0
    }

    pub(crate) fn set(&mut self, marks: u16) {
        self.marks |= marks;
    }

    pub(crate) fn clear(&mut self, marks: u16) {
        self.marks &= !marks;
    }

    /// Sets a mark and says whether it was clear before.
    pub(crate) fn set_once(&mut self, mark: u16) -> bool {
        let was_clear = !self.has(mark);
        self.set(mark);
        was_clear
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.has(mark::PAUSED_BY_ROUTER | mark::PAUSED_BY_OUTPUT)
    }

    /// Packets are still taken and sent.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::AwaitConnect | State::Connected)
    }

    /// Bytes that wait for the peer, those under way included.
    pub(crate) fn unsent(&self) -> usize {
        self.in_flight as usize + self.out.as_ref().map_or(0, |queue| queue.len())
    }
}

#[derive(Debug)]
enum Slot {
    Used(Connection),
    Free { generation: u32 },
}

/// Slots a chunk: growth never copies the connections that are there.
const CHUNK: usize = 1_024;

/// The low bits of a generation travel with ring operations; the slab wraps where they do.
pub(crate) const GENERATION_BITS: u32 = 24;

/// All connections of a shard.
#[derive(Debug, Default)]
pub(crate) struct Slab {
    chunks: Vec<Box<[Slot]>>,
    free: Vec<u32>,
    len: usize,
}

impl Slab {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, mut connection: Connection) -> ConnectionId {
        if self.free.is_empty() {
            self.grow();
        }
        let index = self.free.pop().expect("growing makes free slots");
        let slot = &mut self.chunks[index as usize / CHUNK][index as usize % CHUNK];
        let Slot::Free { generation } = *slot else {
            unreachable!("a free slot holds nobody")
        };
        connection.generation = generation;
        *slot = Slot::Used(connection);
        self.len += 1;
        ConnectionId { index, generation }
    }

    fn grow(&mut self) {
        let first = (self.chunks.len() * CHUNK) as u32;
        self.chunks
            .push((0..CHUNK).map(|_| Slot::Free { generation: 1 }).collect());
        self.free.extend((first..first + CHUNK as u32).rev());
    }

    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let chunk = self.chunks.get_mut(id.index as usize / CHUNK)?;
        match &mut chunk[id.index as usize % CHUNK] {
            Slot::Used(connection) if connection.generation == id.generation => Some(connection),
            _ => None,
        }
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let chunk = self.chunks.get(id.index as usize / CHUNK)?;
        match &chunk[id.index as usize % CHUNK] {
            Slot::Used(connection) if connection.generation == id.generation => Some(connection),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get(id)?;
        let generation = (id.generation + 1) & ((1 << GENERATION_BITS) - 1);
        let slot = &mut self.chunks[id.index as usize / CHUNK][id.index as usize % CHUNK];
        let Slot::Used(connection) = std::mem::replace(slot, Slot::Free { generation }) else {
            unreachable!("`get` found somebody")
        };
        self.free.push(id.index);
        self.len -= 1;
        Some(connection)
    }

    /// Handles of all connections; for snapshots and draining.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.iter().map(|(id, _)| id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Connection)> {
        let slots = self
            .chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .zip(0u32..);
        slots.filter_map(|(slot, index)| match slot {
            Slot::Used(connection) => Some((
                ConnectionId {
                    index,
                    generation: connection.generation,
                },
                connection,
            )),
            Slot::Free { .. } => None,
        })
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.chunks.len() * CHUNK * size_of::<Slot>() + self.free.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use tidegate_codec::Millis;

    use super::*;

    fn connection() -> Connection {
        Connection::new(ServerConnection::new(Millis(0)), 0)
    }

    #[test]
    fn a_handle_that_outlived_its_connection_finds_nobody() {
        let mut slab = Slab::default();
        let first = slab.insert(connection());
        assert!(slab.remove(first).is_some());
        let second = slab.insert(connection());
        assert_eq!(first.index, second.index);
        assert!(slab.get_mut(first).is_none());
        assert!(slab.remove(first).is_none());
        assert!(slab.get_mut(second).is_some());
    }

    #[test]
    fn slots_are_used_again_and_counted() {
        let mut slab = Slab::default();
        let ids: Vec<_> = (0..3_000).map(|_| slab.insert(connection())).collect();
        assert_eq!((slab.len(), slab.ids().count()), (3_000, 3_000));
        let memory = slab.memory_bytes();
        for id in ids {
            slab.remove(id);
        }
        for _ in 0..3_000 {
            slab.insert(connection());
        }
        assert_eq!(slab.chunks.len(), 3);
        assert!(slab.memory_bytes() >= memory);
    }

    #[test]
    fn generations_wrap_where_the_rings_bits_do() {
        let mut slab = Slab::default();
        let id = slab.insert(connection());
        slab.get_mut(id).unwrap().generation = (1 << GENERATION_BITS) - 1;
        let last = ConnectionId {
            generation: (1 << GENERATION_BITS) - 1,
            ..id
        };
        slab.remove(last);
        assert_eq!(slab.insert(connection()).generation, 0);
    }
}
