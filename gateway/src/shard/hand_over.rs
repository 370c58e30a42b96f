//! From a decoded CONNECT to a session: a client lives on the shard that the hash of its id names.
//!
//! The accepting shard reads one-shot until CONNECT is decoded, so nothing is armed on the descriptor when it
//! changes its shard. What was received behind the CONNECT travels along.

use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;

use tidegate_codec::mqtt::connect::Connect;
use tidegate_codec::mqtt::connection::{Accepted, ServerConnection};
use tidegate_codec::ReasonCode;
use tidegate_shard_router::{Connecting, ConnectionId, Departure, InstanceId, Placement, ShardId};

use super::connection::State;
use super::driver::Driver;
use super::effects::Notice;
use super::tally::Ending;
use super::worker::Worker;
use crate::auth::{self, Credentials};

/// Hand-overs a shard takes in one turn: admitting a client costs some microseconds.
const HAND_OVERS_MAX: usize = 32;

/// A connection on its way to its client's home shard. The peer's address is asked of the descriptor when needed.
#[derive(Debug)]
pub(crate) struct HandOver {
    socket: OwnedFd,
    listener: u8,
    codec: ServerConnection,
    connect: Box<Connect>,
    /// Received behind the CONNECT and not decoded.
    undecoded: Vec<u8>,
}

impl<D: Driver> Worker<D> {
    /// A CONNECT was decoded here: its client is admitted, or handed to its home shard.
    pub(super) fn place(&mut self, id: ConnectionId, mut connect: Box<Connect>) {
        if self.is_draining() {
            return self.refuse(id, &connect.client_id, ReasonCode::ServerShuttingDown);
        }
        if connect.client_id.is_empty() {
            connect.client_id = self.id_source.next_for(&self.placement, self.id);
            return self.admit(id, connect, true);
        }
        let home = self.placement.home_shard(InstanceId(0), &connect.client_id);
        if home == self.id {
            return self.admit(id, connect, false);
        }
        self.hand_over(id, connect, home);
    }

    fn hand_over(&mut self, id: ConnectionId, connect: Box<Connect>, home: ShardId) {
        if self.hand_overs.outboxes[home.index()].free_slots() == 0 {
            self.core.connections.tally.hand_overs_refused += 1;
            return self.refuse(id, &connect.client_id, ReasonCode::QuotaExceeded);
        }
        let connections = &mut self.core.connections;
        let Some(connection) = connections.slab.get(id) else {
            return;
        };
        let undecoded = connection.remainder.as_ref().map(|r| r.as_slice().to_vec());
        connections.drop_remainder(id);
        let Some(connection) = connections.slab.remove(id) else {
            return;
        };
        debug_assert!(connection.out.is_none(), "nothing is said before CONNECT");
        connections.tally.hand_overs += 1;
        let hand_over = Box::new(HandOver {
            socket: self.driver.release(id),
            listener: connection.listener,
            codec: connection.codec,
            connect,
            undecoded: undecoded.unwrap_or_default(),
        });
        let outbox = &mut self.hand_overs.outboxes[home.index()];
        outbox
            .post(hand_over)
            .expect("a slot was free and this shard is the only sender");
        outbox.ring();
        self.slot_freed();
    }

    /// Admits clients that other shards accepted. `true`: more wait.
    pub(super) fn take_hand_overs(&mut self) -> bool {
        for _ in 0..HAND_OVERS_MAX {
            let Some((_, hand_over)) = self.hand_overs.inbox.take() else {
                return false;
            };
            self.adopt(*hand_over);
        }
        !self.hand_overs.inbox.is_empty()
    }

    fn adopt(&mut self, hand_over: HandOver) {
        let HandOver {
            socket,
            listener,
            codec,
            connect,
            undecoded,
        } = hand_over;
        let full = self.core.connections.slab.len() >= self.core.connections.limits.connections_max;
        let id = self.core.connections.insert(codec, listener);
        self.driver.adopt(id, socket);
        self.slot_taken();
        if self.is_draining() {
            return self.refuse(id, &connect.client_id, ReasonCode::ServerShuttingDown);
        }
        if full {
            return self.refuse(id, &connect.client_id, ReasonCode::ServerBusy);
        }
        if !undecoded.is_empty() && !self.core.connections.stash(id, &undecoded) {
            return self.refuse(id, &connect.client_id, ReasonCode::QuotaExceeded);
        }
        self.admit(id, connect, false);
    }

    /// At home: authenticates, gives the client its session, answers, and takes up what it has sent meanwhile
    /// (a client need not wait for CONNACK [MQTT-3.1.4-5]).
    fn admit(&mut self, id: ConnectionId, mut connect: Box<Connect>, assigned: bool) {
        if connect.authentication_method.is_some() {
            let reason = ReasonCode::BadAuthenticationMethod;
            self.core
                .connections
                .tally
                .count_auth_failure("enhanced", reason.name());
            return self.refuse(id, &connect.client_id, reason);
        }
        let credentials = Credentials {
            client_id: &connect.client_id,
            user_name: connect.user_name.as_deref(),
            password: connect.password.as_deref(),
        };
        if let Err(refusal) = auth::authenticate(&self.policy, &credentials) {
            let tally = &mut self.core.connections.tally;
            tally.count_auth_failure(refusal.kind, refusal.reason.name());
            return self.refuse(id, &connect.client_id, refusal.reason);
        }
        self.attach(id, &mut connect, assigned);
        self.core
            .connections
            .set_client_id(id, connect.client_id.into_boxed_str());
        let nested = self.core.decode_remainder(id);
        debug_assert!(nested.is_none(), "a second CONNECT is a violation");
        self.core.connections.mark_dirty(id);
        self.touched = true;
    }

    fn attach(&mut self, id: ConnectionId, connect: &mut Connect, assigned: bool) {
        let connections = &mut self.core.connections;
        let expiry = connect
            .session_expiry_interval
            .min(connections.mqtt.session_expiry_max);
        let connecting = Connecting {
            instance: InstanceId(0),
            client_id: connect.client_id.as_str().into(),
            clean_start: connect.clean_start,
            session_expiry_interval: expiry,
            receive_maximum: connect.receive_maximum,
            will: connect.will.take().map(Box::new),
        };
        let now = connections.now;
        let connected = self.core.shard.connect(now, id, connecting, connections);
        let Some(connection) = connections.slab.get_mut(id) else {
            return;
        };
        connection.state = State::Connected;
        connection.session = connected.session;
        connections.pre_auth_bytes -= connection.remainder.as_ref().map_or(0, |r| r.len());
        connections.tally.count_accepted();
        let accepted = Accepted {
            session_present: connected.session_present,
            assigned_client_id: assigned.then(|| connect.client_id.clone()),
            session_expiry_interval: expiry,
        };
        let deadline = connections.speak(id, |codec, limits, sink| {
            codec.accept(now, connect, &accepted, limits, sink);
            (!codec.is_closing()).then(|| codec.poll_timeout())
        });
        let Some(deadline) = deadline.flatten() else {
            // The client takes packets so small that no CONNACK fits.
            self.core.depart(
                id,
                Departure::Lost,
                Ending::Reason(ReasonCode::PacketTooLarge),
            );
            return self.core.connections.begin_closing(id, true);
        };
        connections.file_timer(id, deadline);
        self.core.shard.resume(now, connected.session, connections);
    }

    /// Answers CONNECT with an error and closes.
    fn refuse(&mut self, id: ConnectionId, client_id: &str, reason: ReasonCode) {
        let connections = &mut self.core.connections;
        let ending = Ending::Reason(reason);
        connections.set_client_id(id, client_id.into());
        connections.notices.push(Notice {
            id,
            ending,
            text: "refused".to_owned(),
        });
        connections.speak(id, |codec, _, sink| codec.refuse(reason, sink));
        connections.tally.count_refused(ending);
        connections.begin_closing(id, true);
    }
}

/// Client ids for those that bring none. Nobody can guess one, because the keys of the hash come from the
/// operating system.
#[derive(Debug)]
pub(crate) struct IdSource {
    keys: RandomState,
    count: u64,
}

impl IdSource {
    pub(crate) fn new() -> IdSource {
        IdSource {
            keys: RandomState::new(),
            count: 0,
        }
    }

    /// An id whose home is `shard`: as many tries as there are shards, on average.
    pub(crate) fn next_for(&mut self, placement: &Placement, shard: ShardId) -> String {
        loop {
            self.count += 1;
            let high = self.keys.hash_one((self.count, 0u8));
            let low = self.keys.hash_one((self.count, 1u8));
            let client_id = format!("tg-{high:016x}{low:016x}");
            if placement.home_shard(InstanceId(0), &client_id) == shard {
                return client_id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assigned_id_lives_where_it_was_made_and_never_comes_twice() {
        let placement = Placement::new(8, 1);
        let mut source = IdSource::new();
        let mut seen = std::collections::HashSet::new();
        for shard in (0..8).cycle().take(200).map(ShardId) {
            let client_id = source.next_for(&placement, shard);
            assert_eq!(placement.home_shard(InstanceId(0), &client_id), shard);
            assert!(client_id.len() >= 20);
            assert!(seen.insert(client_id));
        }
    }
}
