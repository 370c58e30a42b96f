//! The end of a turn: every connection something happened to gets its orders at once, so that all it has to say
//! leaves in one send; and the end of a connection, from its last bytes to its closed descriptor.

use std::io;

use tidegate_shard_router::{ConnectionId, Departure};

use super::connection::{mark, State};
use super::driver::{Driver, Receive, SendOrder};
use super::out_queue::OutQueue;
use super::tally::Ending;
use super::worker::Worker;

impl<D: Driver> Worker<D> {
    /// Gives the driver its orders for everything that changed since the last time.
    pub(super) fn settle(&mut self) {
        while let Some((id, ending)) = self.core.connections.doomed.pop() {
            self.lose(id, ending);
        }
        self.write_notices();
        // A failing send may end a session, whose will makes others dirty: the list can grow on the way.
        let mut next = 0;
        while let Some(&id) = self.core.connections.dirty.get(next) {
            next += 1;
            self.settle_one(id);
        }
        self.core.connections.dirty.clear();
    }

    fn settle_one(&mut self, id: ConnectionId) {
        let Some(connection) = self.core.connections.slab.get_mut(id) else {
            return;
        };
        connection.clear(mark::DIRTY);
        if connection.state == State::Closing {
            return;
        }
        self.settle_reading(id);
        self.settle_sending(id);
        self.settle_closing(id);
    }

    fn settle_reading(&mut self, id: ConnectionId) {
        let Some(connection) = self.core.connections.slab.get_mut(id) else {
            return;
        };
        let wanted = match connection.state {
            State::Connected => {
                !connection.is_paused() && !connection.has(mark::ENDED | mark::BACKLOG)
            }
            State::Lingering => !connection.has(mark::ENDED),
            State::AwaitConnect | State::Flushing | State::Closing => return,
        };
        if wanted && connection.set_once(mark::RECEIVING) {
            self.driver.receive(id, Receive::Continuous);
        } else if !wanted && connection.has(mark::RECEIVING) {
            connection.clear(mark::RECEIVING);
            self.driver.stop_receiving(id);
        }
    }

    fn settle_sending(&mut self, id: ConnectionId) {
        let Some(connection) = self.core.connections.slab.get_mut(id) else {
            return;
        };
        if connection.has(mark::SENDING) {
            return;
        }
        let Some(mut queue) = connection.out.take() else {
            return;
        };
        if queue.is_empty() {
            return self.core.connections.out_pool.give(queue);
        }
        let bytes = queue.len();
        connection.in_flight = bytes as u32;
        connection.set(mark::SENDING);
        queue.progress_at_us = self.core.connections.now_us;
        match self.driver.send(id, queue) {
            SendOrder::UnderWay => {}
            SendOrder::Done(queue) => self.sent(id, bytes, queue),
            SendOrder::Failed(error, queue) => self.send_failed(id, &error, queue),
        }
    }

    /// Part or all of a queue has left; what remains goes in front of what came meanwhile.
    pub(super) fn sent(&mut self, id: ConnectionId, bytes: usize, mut queue: Box<OutQueue>) {
        let connections = &mut self.core.connections;
        connections.tally.bytes_sent += bytes as u64;
        let Some(connection) = connections.slab.get_mut(id) else {
            return connections.out_pool.give(queue);
        };
        connection.clear(mark::SENDING);
        connection.in_flight = 0;
        if queue.is_empty() {
            connections.out_pool.give(queue);
        } else {
            if let Some(mut later) = connection.out.take() {
                queue.append(&mut later);
                connections.out_pool.give(later);
            }
            connection.out = Some(queue);
        }
        let (state, unsent) = (connection.state, connection.unsent());
        if unsent > 0 || matches!(state, State::Flushing) {
            connections.mark_dirty(id);
        }
        if unsent <= connections.limits.write_queue_high_water / 2 {
            self.drained(id);
        }
    }

    /// The peer has taken enough: what waited for that goes on.
    fn drained(&mut self, id: ConnectionId) {
        let connections = &mut self.core.connections;
        let Some(connection) = connections.slab.get_mut(id) else {
            return;
        };
        if connection.state != State::Connected {
            return;
        }
        let session = connection.session;
        let wants_writable = connection.has(mark::WANTS_WRITABLE);
        let was_paused = connection.has(mark::PAUSED_BY_OUTPUT);
        connection.clear(mark::WANTS_WRITABLE | mark::PAUSED_BY_OUTPUT);
        if was_paused {
            connections.queue_resume(id);
        }
        if wants_writable {
            self.core
                .shard
                .writable(connections.now, session, connections);
            self.touched = true;
        }
    }

    pub(super) fn send_failed(
        &mut self,
        id: ConnectionId,
        error: &io::Error,
        queue: Box<OutQueue>,
    ) {
        let connections = &mut self.core.connections;
        connections.out_pool.give(queue);
        let Some(connection) = connections.slab.get_mut(id) else {
            return;
        };
        connection.clear(mark::SENDING);
        connection.in_flight = 0;
        tracing::debug!(shard = self.id.0, index = id.index, %error, "send failed");
        self.lose(id, Ending::ConnectionReset);
    }

    /// Gives a connection up without a farewell.
    pub(super) fn lose(&mut self, id: ConnectionId, ending: Ending) {
        let Some(connection) = self.core.connections.slab.get(id) else {
            return;
        };
        if connection.state == State::Closing {
            return;
        }
        if connection.is_open() {
            if !matches!(ending, Ending::PeerClosed | Ending::ConnectionReset) {
                self.log_ending(id, ending, "given up");
            }
            self.core.depart(id, Departure::Lost, ending);
            self.core.connections.begin_closing(id, false);
            self.touched = true;
        }
        self.close(id);
    }

    fn settle_closing(&mut self, id: ConnectionId) {
        let Some(connection) = self.core.connections.slab.get_mut(id) else {
            return;
        };
        let flushed = connection.out.is_none() && !connection.has(mark::SENDING);
        match connection.state {
            State::Flushing if flushed && connection.has(mark::ABRUPT | mark::ENDED) => {
                self.close(id)
            }
            State::Flushing if flushed => {
                connection.state = State::Lingering;
                self.driver.finish_sending(id);
                self.settle_reading(id);
            }
            State::Lingering if connection.has(mark::ENDED) => self.close(id),
            _ => {}
        }
    }

    pub(super) fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.core.connections.slab.get_mut(id) else {
            return;
        };
        connection.state = State::Closing;
        if let Some(queue) = connection.out.take() {
            self.core.connections.out_pool.give(queue);
        }
        self.driver.close(id);
    }

    /// The descriptor is closed: the slot is free for the next.
    pub(super) fn closed(&mut self, id: ConnectionId) {
        self.core.connections.remove(id);
        self.slot_freed();
    }

    fn write_notices(&mut self) {
        for notice in std::mem::take(&mut self.core.connections.notices) {
            self.log_ending(notice.id, notice.ending, &notice.text);
        }
    }

    fn log_ending(&self, id: ConnectionId, ending: Ending, text: &str) {
        let peer = self.driver.peer_addr(id).map(|addr| addr.to_string());
        tracing::info!(
            shard = self.id.0,
            client_id = self.core.connections.client_id(id).unwrap_or_default(),
            peer = peer.as_deref().unwrap_or("unknown"),
            reason = ending.name(),
            "connection closed: {text}"
        );
    }
}
