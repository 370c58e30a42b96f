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

/// Packets of one connection decoded before the next connection has its turn.
const VISIT_PACKETS: u32 = 64;

/// Packets and deliveries of one turn; what came beyond it waits in remainders. So one turn takes a few
/// milliseconds at most, and a flood on one connection delays another's packet by no more than that.
const TURN_WORK_MAX: u32 = 2_048;

/// Above this much undecoded input a connection is not read any more until it has shrunk: its peer sends faster
/// than its share of this shard lets it.
const BACKLOG_MAX: usize = 64 << 10;

/// Why decoding stopped.
#[derive(Debug)]
enum Stopped {
    /// More bytes are needed, or the connection is paused or has ended.
    Here,
    /// Its share is used up: it stands at the end of the line.
    Share,
    Connect(Box<Connect>),
}

impl Core {
    /// This turn has done its share of decoding.
    pub(crate) fn is_worked_out(&self) -> bool {
        self.connections.work >= TURN_WORK_MAX
    }

    /// Bytes came. A CONNECT is given back for the loop to place; what follows it stays in the remainder.
    pub(crate) fn received(&mut self, id: ConnectionId, bytes: &[u8]) -> Option<Box<Connect>> {
        self.connections.tally.bytes_received += bytes.len() as u64;
        let connection = self.connections.slab.get(id)?;
        if !connection.is_open() {
            return None;
        }
        if connection.remainder.is_some() || connection.is_paused() {
            self.stash(id, bytes);
            let waits = self
                .connections
                .slab
                .get(id)
                .is_some_and(|c| c.has(mark::RESUMED));
            return if waits {
                None
            } else {
                self.decode_remainder(id)
            };
        }
        let mut input = bytes;
        let stopped = self.decode(id, &mut input);
        if !input.is_empty() {
            self.stash(id, input);
        }
        self.after_decoding(id, stopped)
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
        let stopped = self.decode(id, &mut input);
        let left = input.len();
        let connections = &mut self.connections;
        let connection = connections
            .slab
            .get_mut(id)
            .filter(|connection| connection.is_open());
        if state_before == State::AwaitConnect {
            let kept = if connection.is_some() { left } else { 0 };
            connections.pre_auth_bytes -= held - kept;
        }
        match connection {
            Some(connection) => {
                if left <= BACKLOG_MAX / 2 && connection.has(mark::BACKLOG) {
                    connection.clear(mark::BACKLOG);
                    if connection.set_once(mark::DIRTY) {
                        connections.dirty.push(id);
                    }
                }
                if left > 0 {
                    remainder.keep_last(left);
                    connection.remainder = Some(remainder);
                } else {
                    connections.remainders.give(remainder);
                }
            }
            None => connections.remainders.give(remainder),
        }
        self.after_decoding(id, stopped)
    }

    fn after_decoding(&mut self, id: ConnectionId, stopped: Stopped) -> Option<Box<Connect>> {
        match stopped {
            Stopped::Here => None,
            Stopped::Share => {
                self.connections.queue_resume(id);
                None
            }
            Stopped::Connect(connect) => Some(connect),
        }
    }

    fn stash(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connections.slab.get(id).filter(|c| c.is_open()) else {
            return;
        };
        let connected = connection.state == State::Connected;
        if !self.connections.stash(id, bytes) {
            self.connections
                .doomed
                .push((id, Ending::Reason(ReasonCode::QuotaExceeded)));
        }
        let Some(connection) = self.connections.slab.get_mut(id) else {
            return;
        };
        // A packet larger than the bound is one packet that is still arriving, and bounded as such.
        let waits = connection.has(mark::RESUMED) || connection.is_paused();
        let long = connection
            .remainder
            .as_ref()
            .is_some_and(|r| r.len() > BACKLOG_MAX);
        if connected && waits && long {
            connection.set(mark::BACKLOG);
            self.connections.mark_dirty(id);
        }
    }

    /// Takes packets from the front of `input` until it needs more, a CONNECT came, the connection is paused or
    /// ended, or its share is used up.
    fn decode(&mut self, id: ConnectionId, input: &mut &[u8]) -> Stopped {
        let mut share = VISIT_PACKETS;
        while !input.is_empty() {
            let now = self.connections.now;
            let Some(connection) = self.connections.slab.get(id) else {
                return Stopped::Here;
            };
            if connection.is_paused() {
                return Stopped::Here;
            }
            if share == 0 || self.is_worked_out() {
                return Stopped::Share;
            }
            let taken = self.connections.speak(id, |codec, limits, sink| {
                codec.handle_bytes(now, input, limits, sink)
            });
            match taken {
                Some(Ok(None)) => return Stopped::Here,
                Some(Ok(Some(Event::Connect(connect)))) => return Stopped::Connect(connect),
                Some(Ok(Some(event))) => self.act(id, event),
                Some(Err(violation)) => self.fail(id, &violation),
                // Ended, or the codec panicked: the rest is of no interest.
                None => *input = &[],
            }
            share -= 1;
            self.connections.work += 1;
        }
        Stopped::Here
    }

    fn act(&mut self, id: ConnectionId, event: Event) {
        let Core {
            shard,
            connections: fx,
        } = self;
        let Some(connection) = fx.slab.get(id) else {
            return;
        };
        let (now, session) = (fx.now, connection.session);
        if !matches!(event, Event::Ping) {
            fx.lively_at_us = fx.now_us;
        }
        match event {
            Event::Publish(mut publish) => {
                publish.message.stamp_read_at(read_stamp(fx.now_us));
                fx.tally.received[publish.message.qos() as usize] += 1;
                shard.publish(now, session, publish, fx);
            }
            Event::PubAck { packet_id, reason } => {
                shard.puback(now, session, packet_id, reason, fx)
            }
            Event::PubRec { packet_id, reason } => {
                shard.pubrec(now, session, packet_id, reason, fx)
            }
            Event::PubRel { packet_id, reason } => {
                shard.pubrel(now, session, packet_id, reason, fx)
            }
            Event::PubComp { packet_id, reason } => {
                shard.pubcomp(now, session, packet_id, reason, fx)
            }
            Event::Subscribe(subscribe) => shard.subscribe(now, session, *subscribe, fx),
            Event::Unsubscribe(unsubscribe) => shard.unsubscribe(now, session, *unsubscribe, fx),
            // Answered by the codec.
            Event::Ping => {}
            Event::Disconnect {
                reason,
                session_expiry_interval,
            } => {
                let departure = match reason {
                    ReasonCode::Success => Departure::Clean {
                        session_expiry_interval,
                    },
                    _ => Departure::WithWill {
                        session_expiry_interval,
                    },
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
        self.connections.notices.push(Notice {
            id,
            ending,
            text: violation.to_string(),
        });
        self.connections
            .speak(id, |codec, _, sink| codec.fail(violation, sink));
        self.depart(id, Departure::Lost, ending);
        self.connections.begin_closing(id, true);
    }

    /// The peer closed its half, or the connection broke.
    pub(crate) fn ended(&mut self, id: ConnectionId, error: Option<std::io::Error>) {
        let Some(connection) = self.connections.slab.get_mut(id) else {
            return;
        };
        let undecoded = connection.is_open() && connection.remainder.is_some();
        if error.is_none() && undecoded && (connection.is_paused() || connection.has(mark::RESUMED))
        {
            // What it said last still counts; DISCONNECT may be among it.
            connection.set(mark::ENDED);
            return;
        }
        let ending = if error.is_some() {
            Ending::ConnectionReset
        } else {
            Ending::PeerClosed
        };
        self.depart(id, Departure::Lost, ending);
        self.connections.begin_closing(id, false);
        let Some(connection) = self.connections.slab.get_mut(id) else {
            return;
        };
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
        let Core {
            shard,
            connections: fx,
        } = self;
        let Some(connection) = fx.slab.get(id) else {
            return;
        };
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
