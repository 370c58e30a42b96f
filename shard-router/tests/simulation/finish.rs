//! The end of a run: nothing goes wrong any more, everything must come to rest, and then go away.

use tidegate_codec::{Millis, Qos};

use crate::driver::{Asked, State, Up};
use crate::ledger::{Kind, Letter, NEVER};
use crate::world::World;

/// Rounds in which everybody may move once; what is not at rest by then never will be.
const ROUNDS_MAX: usize = 30_000;

impl World {
    pub(crate) fn finish(&mut self) {
        self.outside.say(|| "calm".to_owned());
        self.calm = true;
        for place in &mut self.places {
            place.stalled_until = 0;
        }
        for connection in &mut self.outside.connections {
            connection.choked_until = 0;
        }
        self.end_forsaken_connections();
        self.settle(true);
        self.check_rest();
        self.check_promises();
        self.check_retained();
        self.everybody_leaves();
        self.check_nothing_is_left();
    }

    /// Connections whose client has forgotten them: keep-alive ends them.
    fn end_forsaken_connections(&mut self) {
        for (at, connection) in self.outside.connections.iter_mut().enumerate() {
            let forsaken = self.clients[connection.client].connection != Some(at);
            if forsaken && !matches!(connection.up.back(), Some(Up::End | Up::Disconnect { .. })) {
                connection.up.push_back(Up::End);
            }
        }
    }

    /// Lets everybody move until nobody does. `return_all`: clients without a connection come back.
    pub(crate) fn settle(&mut self, return_all: bool) {
        for _ in 0..ROUNDS_MAX {
            self.outside.step += 1;
            self.outside.now = self.outside.now + 2;
            let mut moved = false;
            for client in 0..self.clients.len() {
                if return_all && self.clients[client].connection.is_none() {
                    self.connect_with(client, false, u32::MAX, 20, None);
                    moved = true;
                }
            }
            let waiting = self.outside.store.waiting();
            self.outside.store.commit(waiting);
            for shard in 0..self.places.len() {
                moved |= self.tell_committed(shard);
                moved |= self.turn(shard, 64);
            }
            for connection in self.live.clone() {
                moved |= self.read_up(connection, 64) > 0;
                moved |= self.read_down(connection, 64) > 0;
                moved |= self.send_answers(connection, 64) > 0;
            }
            moved |= !self.hand_overs.is_empty();
            if !moved {
                return;
            }
        }
        panic!("no rest: something moves for ever");
    }

    /// Nothing moves: then nobody may wait for anything either.
    fn check_rest(&mut self) {
        for place in &self.places {
            let census = place.shard.census();
            let waits = census.tickets
                + census.parked
                + census.overflow
                + census.awaiting_commit
                + census.releases;
            assert!(
                place.shard.mailbox_is_empty() && waits == 0,
                "something waits in a shard at rest: {census:?}"
            );
            assert_eq!(
                census.credits_out, 0,
                "credits did not come back: {census:?}"
            );
            assert_eq!(
                census.queue_longest + census.window_longest,
                0,
                "a delivery waits at rest: {census:?}"
            );
        }
        for (index, client) in self.clients.iter().enumerate() {
            let connection = client.connection.expect("everybody came back");
            let of = &self.outside.connections[connection];
            let stuck = || format!("client {index} waits for ever: {client:?} {of:?}");
            assert!(
                client.connected && client.unacknowledged() == 0 && client.asking.is_none(),
                "{}",
                stuck()
            );
            assert!(
                of.up.is_empty() && of.down.is_empty() && !of.paused && of.owed.is_empty(),
                "{}",
                stuck()
            );
            assert!(of.in_flight.is_empty(), "{}", stuck());
        }
    }

    /// New subscribers, one with a wildcard and one with every topic, get what was kept, and nothing else.
    fn check_retained(&mut self) {
        let topics: Vec<_> = (0..self.plan.clients)
            .flat_map(|c| [format!("r/c{c}/0"), format!("r/c{c}/1")])
            .collect();
        let by_name: Vec<&'static str> =
            topics.iter().map(|topic| &*topic.clone().leak()).collect();
        for filters in [vec!["r/#"], by_name] {
            let probe = self.clients.len();
            self.clients.push(crate::client::Client {
                name: format!("probe{probe}"),
                ..Default::default()
            });
            self.outside.ledger.current.push(None);
            self.outside.names.push(self.clients[probe].name.clone());
            self.connect_with(probe, true, 0, 100, None);
            self.settle(false);
            let connection = self.clients[probe].connection.expect("a probe connects");
            self.clients[probe].asking = Some(1);
            let asked = |filter| Asked {
                filter,
                qos: Qos::AtLeastOnce,
                no_local: false,
            };
            let filters = filters.into_iter().map(asked).collect();
            self.outside.connections[connection]
                .up
                .push_back(Up::Subscribe {
                    packet_id: 1,
                    filters,
                    id: None,
                });
            self.settle(false);
            let session = self.outside.connections[connection].session;
            for topic in &topics {
                self.check_retained_topic(topic, session);
            }
        }
    }

    fn everybody_leaves(&mut self) {
        // Retained messages go first, cleared by somebody who knows them all.
        let last = self.clients.len() - 1;
        for client in 0..self.plan.clients {
            for which in 0..2 {
                let letter = Letter {
                    session: usize::MAX,
                    topic: format!("r/c{client}/{which}").into(),
                    qos: Qos::AtLeastOnce,
                    retain: true,
                    empty: true,
                    expires_at: Millis::NEVER,
                    number: 0,
                    kind: Kind::Plain,
                    arrivals: 0,
                    first_arrival: NEVER,
                    acked: NEVER,
                    known_acked: false,
                    large: false,
                };
                let connection = self.clients[last]
                    .connection
                    .expect("probes stay to the end");
                self.send(last, connection, letter);
                self.settle(false);
            }
        }
        for client in 0..self.clients.len() {
            let Some(connection) = self.clients[client].connection else {
                continue;
            };
            match self.rng.below(3) {
                0 => self.leave(client, connection, true, None),
                1 if self.clients[client].session_expiry > 0 => {
                    self.leave(client, connection, false, Some(7));
                }
                _ => self.leave(client, connection, false, Some(0)),
            }
            self.settle(false);
        }
        // Sessions that never end would stay, so they are ended by somebody who comes once more.
        for client in 0..self.clients.len() {
            self.connect_with(client, true, 0, 20, None);
            self.settle(false);
            let connection = self.clients[client].connection.expect("a client connects");
            self.leave(client, connection, false, None);
        }
        self.settle(false);
        self.outside.now = self.outside.now + 100_000_000;
        self.settle(false);
    }

    fn check_nothing_is_left(&mut self) {
        let now = self.outside.now;
        let (must, may) = self.outside.ledger.wills_due(now);
        let mut fired = self.coverage.wills_fired;
        for place in &mut self.places {
            let counters = place.shard.counters();
            fired += counters.wills_published_total;
            let gauges = [
                counters.sessions_online,
                counters.sessions_offline,
                counters.subscriptions,
                counters.retained_messages,
                counters.retained_bytes,
                counters.queued_messages,
                counters.queued_bytes,
                counters.parked_connections,
                counters.overflow,
            ];
            assert_eq!(gauges, [0; 9], "gauges of an empty shard: {counters:?}");
            let census = place.shard.census();
            assert_eq!(census, Default::default(), "memory did not come back");
        }
        let may = if self.coverage.restarts == 0 {
            may
        } else {
            u64::MAX
        };
        let must = if self.coverage.restarts == 0 { must } else { 0 };
        assert!(
            (must..=may).contains(&fired),
            "{fired} wills were published, due were {must} to {may}"
        );
        let tables = &self.outside.store.tables;
        assert!(
            tables.sessions.is_empty() && tables.retained.is_empty(),
            "left on disk: {tables:?}"
        );
        let attached = |c: &&crate::driver::Connection| matches!(c.state, State::Attached(_));
        assert_eq!(self.outside.connections.iter().filter(attached).count(), 0);
    }
}
