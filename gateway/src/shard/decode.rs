//! From bytes to the shard's mind: decoding what a connection received, and ending connections.

use tidegate_codec::mqtt::connect::Connect;
use tidegate_codec::mqtt::connection::Event;
use tidegate_codec::{ReasonCode, Violation};
use tidegate_shard_router::{ConnectionId, Departure, Shard};

use super::connection::{mark, State};
use super::effects::{Connections, Notice};
use super::tally::{read_stamp, Ending};

/// A shard's mind and its connections: everything but the driver.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) shard: Shard,
    pub(crate) connections: Connections,
}

impl Core {
    /// Bytes came. A CONNECT is given back for the loop to place; what follows it stays in the remainder.
    pub(crate) fn received(&mut self, id: ConnectionId, bytes: &[u8]) -> Option<Box<Connect>> {
        self.connections.tally.bytes_received += bytes.len() as u64;
        let connection = self.connections.slab.get_mut(id)?;
        if !connection.is_open() {
            return None;
        }
        if connection.is_paused() || connection.remainder.is_some() {
            self.stash(id, bytes);
            return self.decode_remainder(id);
        }
        let mut input = bytes;
        let connect = self.decode(id, &mut input);
        if !input.is_empty() {
            self.stash(id, input);
        }
        connect
    }

    /// Decodes what was kept, as far as it goes.
    pub(crate) fn decode_remainder(&mut self, id: ConnectionId) -> Option<Box<Connect>> {
        let connection = self.connections.slab.get_mut(id)?;
        if connection.is_paused() || !connection.is_open() {
            return None;
        }
        let state_before = connection.state;
        let mut remainder = connection.remainder.take()?;
        let held = remainder.len();
        let mut input = remainder.as_slice();
        let connect = self.decode(id, &mut input);
        let left = input.len();
        let connections = &mut self.connections;
        let connection = connections.slab.get_mut(id).filter(|connection| connection.is_open());
        if state_before == State::AwaitConnect {
            let kept = if connection.is_some() { left } else { 0 };
            connections.pre_auth_bytes -= held - kept;
        }
        match connection {
            Some(connection) if left > 0 => {
                remainder.keep_last(left);
                connection.remainder = Some(remainder);
            }
            _ => connections.remainders.give(remainder),
        }
        connect
    }

    fn stash(&mut self, id: ConnectionId, bytes: &[u8]) {
        let open = self.connections.slab.get(id).is_some_and(|connection| connection.is_open());
        if open && !self.connections.stash(id, bytes) {
            self.connections.doomed.push((id, Ending::Reason(ReasonCode::QuotaExceeded)));
        }
    }

    /// Takes packets from the front of `input` until it needs more, a CONNECT came, or the connection is paused
    /// or ended.
    fn decode(&mut self, id: ConnectionId, input: &mut &[u8]) -> Option<Box<Connect>> {
        while !input.is_empty() {
            let now = self.connections.now;
            let connection = self.connections.slab.get(id)?;
            if connection.is_paused() {
                return None;
            }
            let taken = self
                .connections
                .speak(id, |codec, limits, sink| codec.handle_bytes(now, input, limits, sink));
            match taken {
                Some(Ok(None)) => return None,
                Some(Ok(Some(Event::Connect(connect)))) => return Some(connect),
                Some(Ok(Some(event))) => self.act(id, event),
                Some(Err(violation)) => self.fail(id, &violation),
                // Ended, or the codec panicked: the rest is of no interest.
                None => *input = &[],
            }
        }
        None
    }

    fn act(&mut self, id: ConnectionId, event: Event) {
        let Core { shard, connections: fx } = self;
        let Some(connection) = fx.slab.get(id) else { return };
        let (now, session) = (fx.now, connection.session);
        match event {
            Event::Publish(mut publish) => {
                publish.message.stamp_read_at(read_stamp(fx.now_us));
                fx.tally.received[publish.message.qos() as usize] += 1;
                shard.publish(now, session, publish, fx);
            }
            Event::PubAck { packet_id, reason } => shard.puback(now, session, packet_id, reason, fx),
            Event::PubRec { packet_id, reason } => shard.pubrec(now, session, packet_id, reason, fx),
            Event::PubRel { packet_id, reason } => shard.pubrel(now, session, packet_id, reason, fx),
            Event::PubComp { packet_id, reason } => shard.pubcomp(now, session, packet_id, reason, fx),
            Event::Subscribe(subscribe) => shard.subscribe(now, session, *subscribe, fx),
            Event::Unsubscribe(unsubscribe) => shard.unsubscribe(now, session, *unsubscribe, fx),
            Event::Ping => {}
            Event::Disconnect { reason, session_expiry_interval } => {
                let departure = match reason {
                    ReasonCode::Success => Departure::Clean { session_expiry_interval },
                    _ => Departure::WithWill { session_expiry_interval },
                };
                self.depart(id, departure, Ending::ClientDisconnected);
                self.connections.begin_closing(id, false);
            }
            Event::Connect(_) => unreachable!("decode gives CONNECT back"),
        }
    }

    /// The peer broke a rule: it is told where the protocol has words for it, and closed.
    pub(crate) fn fail(&mut self, id: ConnectionId, violation: &Violation) {
        let ending = Ending::Reason(violation.reason);
        self.connections.notices.push(Notice { id, ending, text: violation.to_string() });
        self.connections.speak(id, |codec, _, sink| codec.fail(violation, sink));
        self.depart(id, Departure::Lost, ending);
        self.connections.begin_closing(id, true);
    }

    /// The peer closed its half, or the connection broke.
    pub(crate) fn ended(&mut self, id: ConnectionId, error: Option<std::io::Error>) {
        let Some(connection) = self.connections.slab.get_mut(id) else { return };
        if error.is_none() && connection.is_open() && connection.remainder.is_some() {
            if connection.is_paused() {
                // What it said last still counts; DISCONNECT may be among it.
                connection.set(mark::ENDED);
                return;
            }
        }
        let ending = if error.is_some() { Ending::ConnectionReset } else { Ending::PeerClosed };
        self.depart(id, Departure::Lost, ending);
        self.connections.begin_closing(id, false);
        let Some(connection) = self.connections.slab.get_mut(id) else { return };
        connection.set(mark::ABRUPT | mark::ENDED);
        if error.is_some() {
            // Nobody takes what is still queued.
            if let Some(queue) = connection.out.take() {
                self.connections.out_pool.give(queue);
            }
        }
        self.connections.mark_dirty(id);
    }

    /// Tells the mind that a connection is gone, and counts why. Once a connection.
    pub(crate) fn depart(&mut self, id: ConnectionId, departure: Departure, ending: Ending) {
        let Core { shard, connections: fx } = self;
        let Some(connection) = fx.slab.get(id) else { return };
        match connection.state {
            State::AwaitConnect => fx.tally.count_refused(ending),
            State::Connected => {
                let session = connection.session;
                fx.tally.count_disconnect(ending);
                shard.disconnected(fx.now, session, id, departure, fx);
            }
            State::Flushing | State::Lingering | State::Closing => {}
        }
    }
}
