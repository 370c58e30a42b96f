//! [`Connections`]: all connections of a shard with their pools, and what the shard's mind may ask of them.
//!
//! Nothing here touches a socket: a request changes a connection and puts it on the list of those to be settled
//! at the end of the turn, where the driver gets one order for all that happened.

use std::collections::VecDeque;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::Arc;

use tidegate_codec::conversation::Delivered;
use tidegate_codec::mqtt::connection::{Limits, ServerConnection};
use tidegate_codec::{Ack, Delivery, Millis, ReasonCode};
use tidegate_shard_router::store_op::{Commit, StoreOp};
use tidegate_shard_router::{ConnectionId, DeliveryOutcome, Effects};

use super::connection::{mark, Connection, Slab, State};
use super::out_queue::{OutQueuePool, PooledSink};
use super::remainder::RemainderPool;
use super::tally::{Ending, Tally};
use super::timers::{Entry, Wheel};
use crate::node::ConnectionLimits;

/// How long a connection that is being closed may take for its last bytes.
pub(crate) const LINGER_MS: u64 = 1_000;

/// Something an operator should read; written when the driver can be asked for the peer's address.
#[derive(Debug)]
pub(crate) struct Notice {
    pub(crate) id: ConnectionId,
    pub(crate) ending: Ending,
    pub(crate) text: String,
}

/// One shard's connections. Owned by its thread.
#[derive(Debug)]
pub(crate) struct Connections {
    pub(crate) slab: Slab,
    pub(crate) out_pool: OutQueuePool,
    pub(crate) remainders: RemainderPool,
    pub(crate) wheel: Wheel,
    pub(crate) tally: Tally,
    pub(crate) limits: ConnectionLimits,
    pub(crate) mqtt: Arc<Limits>,
    pub(crate) now: Millis,
    pub(crate) now_us: u64,
    /// Packets decoded and deliveries made this turn.
    pub(crate) work: u32,
    /// To settle at the end of the turn; a connection stands in it once.
    pub(crate) dirty: Vec<ConnectionId>,
    /// The last time that a client did more than ping, or got something.
    pub(crate) lively_at_us: u64,
    /// Whose remainder is to be decoded; a connection stands in it once.
    pub(crate) resumed: VecDeque<ConnectionId>,
    /// To be given up as soon as the mind can be told.
    pub(crate) doomed: Vec<(ConnectionId, Ending)>,
    /// At most one a connection.
    pub(crate) notices: Vec<Notice>,
    /// Client ids for logs, by slot; beside the hot part because only closing looks at them.
    client_ids: Vec<Option<Box<str>>>,
    /// Bytes held for connections without an accepted CONNECT; bounded by `pre_auth_budget_bytes`.
    pub(crate) pre_auth_bytes: usize,
    /// How often answers piled up, for tests that want them to.
    #[cfg(test)]
    pub(crate) output_pauses: u64,
}

impl Connections {
    pub(crate) fn new(limits: ConnectionLimits, mqtt: Arc<Limits>, now_us: u64) -> Connections {
        let now = super::clock::millis(now_us);
        Connections {
            slab: Slab::default(),
            out_pool: OutQueuePool::default(),
            remainders: RemainderPool::default(),
            wheel: Wheel::new(now),
            tally: Tally::new(),
            limits,
            mqtt,
            now,
            now_us,
            work: 0,
            dirty: Vec::new(),
            lively_at_us: now_us,
            resumed: VecDeque::new(),
            doomed: Vec::new(),
            notices: Vec::new(),
            client_ids: Vec::new(),
            pre_auth_bytes: 0,
            #[cfg(test)]
            output_pauses: 0,
        }
    }

    pub(crate) fn insert(&mut self, codec: ServerConnection, listener: u8) -> ConnectionId {
        let deadline = codec.poll_timeout();
        self.lively_at_us = self.now_us;
        let id = self.slab.insert(Connection::new(codec, listener));
        self.file_timer(id, deadline);
        id
    }

    /// The driver has closed it.
    pub(crate) fn remove(&mut self, id: ConnectionId) {
        let Some(mut connection) = self.slab.remove(id) else {
            return;
        };
        if let Some(queue) = connection.out.take() {
            self.out_pool.give(queue);
        }
        debug_assert!(
            connection.remainder.is_none(),
            "closing gave the remainder back"
        );
        if let Some(name) = self.client_ids.get_mut(id.index as usize) {
            *name = None;
        }
    }

    pub(crate) fn set_client_id(&mut self, id: ConnectionId, client_id: Box<str>) {
        let index = id.index as usize;
        if self.client_ids.len() <= index {
            self.client_ids.resize(index + 1, None);
        }
        self.client_ids[index] = Some(client_id);
    }

    pub(crate) fn client_id(&self, id: ConnectionId) -> Option<&str> {
        self.client_ids.get(id.index as usize)?.as_deref()
    }

    /// Makes sure that the connection's timer is looked at by `deadline`.
    pub(crate) fn file_timer(&mut self, id: ConnectionId, deadline: Millis) {
        if deadline == Millis::NEVER {
            return;
        }
        let Some(connection) = self.slab.get_mut(id) else {
            return;
        };
        let due = connection.wheel_due;
        if due == 0 || self.wheel.tick_of(deadline) < due {
            let entry = Entry {
                index: id.index,
                generation: id.generation,
            };
            connection.wheel_due = self.wheel.file(entry, deadline);
        }
    }

    /// Files the timer anew, whatever was filed before.
    fn refile_timer(&mut self, id: ConnectionId, deadline: Millis) {
        if let Some(connection) = self.slab.get_mut(id) {
            connection.wheel_due = 0;
        }
        self.file_timer(id, deadline);
    }

    pub(crate) fn mark_dirty(&mut self, id: ConnectionId) {
        let Some(connection) = self.slab.get_mut(id) else {
            return;
        };
        if connection.set_once(mark::DIRTY) {
            self.dirty.push(id);
        }
    }

    /// Lets the codec of a connection speak. `None` where the connection is gone, takes nothing any more, or the
    /// codec panicked, which costs this connection alone.
    pub(crate) fn speak<T>(
        &mut self,
        id: ConnectionId,
        say: impl FnOnce(&mut ServerConnection, &Limits, &mut PooledSink<'_>) -> T,
    ) -> Option<T> {
        let output_pause = self.output_pause();
        let connection = self.slab.get_mut(id)?;
        if !connection.is_open() {
            return None;
        }
        let mut sink = PooledSink {
            queue: &mut connection.out,
            pool: &mut self.out_pool,
        };
        let codec = &mut connection.codec;
        let said = catch_unwind(AssertUnwindSafe(|| say(codec, &self.mqtt, &mut sink)));
        let Ok(said) = said else {
            self.doomed.push((id, Ending::CodecPanicked));
            return None;
        };
        if connection.out.is_some() {
            if connection.set_once(mark::DIRTY) {
                self.dirty.push(id);
            }
            let unsent = connection.unsent();
            if unsent > self.limits.write_queue_bytes_max {
                self.doomed.push((id, Ending::WriteQueueFull));
            } else if unsent > output_pause {
                // Deliveries stop at the high water, so this is answers to the client's own packets.
                connection.set(mark::PAUSED_BY_OUTPUT);
                #[cfg(test)]
                {
                    self.output_pauses += 1;
                }
            }
        }
        Some(said)
    }

    /// Above this the client's packets are not read any more. Halfway to the hard limit: a client that publishes
    /// without reading must not be stopped by what others send it.
    fn output_pause(&self) -> usize {
        let ConnectionLimits {
            write_queue_bytes_max: max,
            write_queue_high_water: high,
            ..
        } = self.limits;
        high.min(max) + max.saturating_sub(high) / 2
    }

    /// No more packets are taken; what is queued leaves, then the connection is closed.
    pub(crate) fn begin_closing(&mut self, id: ConnectionId, linger: bool) {
        self.drop_remainder(id);
        let Some(connection) = self.slab.get_mut(id) else {
            return;
        };
        if !connection.is_open() {
            return;
        }
        connection.state = State::Flushing;
        connection.clear(mark::PAUSED_BY_ROUTER | mark::PAUSED_BY_OUTPUT | mark::WANTS_WRITABLE);
        if !linger {
            connection.set(mark::ABRUPT);
        }
        self.refile_timer(id, self.now + LINGER_MS);
        self.mark_dirty(id);
    }

    /// Keeps undecoded bytes. `false`: the connection holds more than it may before CONNECT is accepted.
    pub(crate) fn stash(&mut self, id: ConnectionId, bytes: &[u8]) -> bool {
        let Some(connection) = self.slab.get_mut(id) else {
            return true;
        };
        let remainder = connection
            .remainder
            .get_or_insert_with(|| self.remainders.take());
        remainder.append(bytes);
        if connection.state != State::AwaitConnect {
            return true;
        }
        self.pre_auth_bytes += bytes.len();
        remainder.len() <= self.limits.pre_auth_bytes_max
            && self.pre_auth_bytes <= self.limits.pre_auth_budget_bytes
    }

    pub(crate) fn drop_remainder(&mut self, id: ConnectionId) {
        let Some(connection) = self.slab.get_mut(id) else {
            return;
        };
        let Some(remainder) = connection.remainder.take() else {
            return;
        };
        if connection.state == State::AwaitConnect {
            self.pre_auth_bytes -= remainder.len();
        }
        self.remainders.give(remainder);
    }

    pub(crate) fn queue_resume(&mut self, id: ConnectionId) {
        let Some(connection) = self.slab.get_mut(id) else {
            return;
        };
        if connection.set_once(mark::RESUMED) {
            self.resumed.push_back(id);
        }
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        let held = |c: &Connection| {
            let queue = c.out.as_ref().map_or(0, |queue| queue.memory_bytes());
            queue
                + c.remainder
                    .as_ref()
                    .map_or(0, |remainder| remainder.memory_bytes())
        };
        let names = self
            .client_ids
            .iter()
            .flatten()
            .map(|name| name.len())
            .sum::<usize>()
            + self.client_ids.capacity() * size_of::<Option<Box<str>>>();
        let total = self.slab.memory_bytes()
            + self
                .slab
                .iter()
                .map(|(_, connection)| held(connection))
                .sum::<usize>()
            + self.out_pool.memory_bytes()
            + self.remainders.memory_bytes()
            + self.wheel.memory_bytes()
            + names;
        total as u64
    }
}

impl Effects for Connections {
    fn deliver(&mut self, id: ConnectionId, delivery: &Delivery<'_>) -> DeliveryOutcome {
        let high_water = self.limits.write_queue_high_water;
        self.lively_at_us = self.now_us;
        match self.slab.get_mut(id) {
            Some(connection) if connection.is_open() && connection.unsent() >= high_water => {
                connection.set(mark::WANTS_WRITABLE);
                return DeliveryOutcome::Full;
            }
            Some(_) => {}
            None => return DeliveryOutcome::Written,
        }
        match self.speak(id, |codec, _, sink| codec.deliver(delivery, sink)) {
            Some(Delivered::TooLarge) => DeliveryOutcome::TooLarge,
            Some(Delivered::Written) => {
                self.work += 1;
                let stamp = delivery.message.read_at_us();
                self.tally
                    .count_delivery(delivery.qos as usize, stamp, self.now_us);
                DeliveryOutcome::Written
            }
            None => DeliveryOutcome::Written,
        }
    }

    fn acknowledge(&mut self, id: ConnectionId, ack: &Ack<'_>) {
        self.speak(id, |codec, _, sink| codec.acknowledge(ack, sink));
    }

    fn disconnect(&mut self, id: ConnectionId, reason: ReasonCode) {
        if self
            .speak(id, |codec, _, sink| codec.disconnect(reason, sink))
            .is_some()
        {
            self.tally.count_disconnect(Ending::Reason(reason));
        }
        self.begin_closing(id, true);
    }

    fn pause_reading(&mut self, id: ConnectionId) {
        let Some(connection) = self.slab.get_mut(id) else {
            return;
        };
        connection.set(mark::PAUSED_BY_ROUTER);
        self.mark_dirty(id);
    }

    fn resume_reading(&mut self, id: ConnectionId) {
        let Some(connection) = self.slab.get_mut(id) else {
            return;
        };
        connection.clear(mark::PAUSED_BY_ROUTER);
        self.queue_resume(id);
    }

    fn store(&mut self, _op: StoreOp<'_>) -> Commit {
        // Nothing outlives the process yet, so nothing waits either.
        Commit::Done
    }

    fn is_durable(&self) -> bool {
        false
    }
}
