//! What goes wrong: stalls, clocks that jump, clients that do not read, kicks, a slow disk, the end of the process.

use std::collections::HashMap;

use tidegate_codec::{Millis, ReasonCode};
use tidegate_shard_router::Departure;

use crate::driver::{Down, State, Up};
use crate::plan::StoreKind;
use crate::world::{HandOver, World, HERE};

/// When each client was kicked last, in this process.
pub(crate) type Kicks = HashMap<usize, Millis>;

impl World {
    pub(crate) fn go_wrong(&mut self) {
        let step = self.outside.step;
        if self.rng.chance(self.plan.faults.stall) {
            let shard = self.rng.below(self.places.len());
            self.places[shard].stalled_until = step + self.rng.between(1, 100);
        }
        if self.rng.chance(self.plan.faults.clock_jump) {
            let jump = self.rng.pick(&[1_000, 10_000, 60_000, 400_000]);
            self.outside.now = self.outside.now + jump;
            self.outside.say(|| format!("the clock jumps by {jump} ms"));
        }
        if self.rng.chance(self.plan.faults.choke) {
            let client = self.rng.below(self.clients.len());
            if let Some(connection) = self.clients[client].connection {
                let steps = self.rng.between(1, 200);
                self.outside.connections[connection].choked_until = step + steps;
            }
        }
        if self.rng.chance(self.plan.faults.time_out) {
            self.time_out();
        }
        if self.rng.chance(self.plan.faults.kick) {
            let client = self.rng.below(self.clients.len());
            self.kick(client);
        }
        if self.rng.chance(self.plan.faults.crash) {
            self.crash();
        }
    }

    /// Keep-alive ends a connection its client has forgotten.
    fn time_out(&mut self) {
        let forsaken = |&connection: &usize| {
            let of = &self.outside.connections[connection];
            self.clients[of.client].connection != Some(connection)
                && !matches!(of.up.back(), Some(Up::End | Up::Disconnect { .. }))
        };
        let forsaken: Vec<_> = self.live.iter().copied().filter(forsaken).collect();
        if !forsaken.is_empty() {
            let connection = self.rng.pick(&forsaken);
            self.outside.connections[connection].up.push_back(Up::End);
        }
    }

    fn kick(&mut self, client: usize) {
        let name = self.clients[client].name.clone();
        let home = self.placement.home_shard(HERE, &name).index();
        if self.is_stalled(home) {
            return;
        }
        let now = self.outside.now;
        self.outside.say(|| format!("client {client} is kicked"));
        if let Some(session) = self.outside.ledger.current[client] {
            if self.outside.ledger.sessions[session].connection.is_some() {
                self.outside.ledger.leaves(session, now, Departure::Lost);
            }
        }
        let reason = ReasonCode::AdministrativeAction;
        self.tell(home, |shard, now, fx| {
            shard.kick(now, HERE, &name, reason, fx)
        });
        self.kicked_at.insert(client, now);
    }

    /// Whether a hand-over has come too late: its client was kicked after its CONNECT had been decoded.
    pub(crate) fn refuses(&mut self, shard: usize, hand_over: &HandOver) -> bool {
        let &HandOver {
            client,
            decoded_at,
            connection,
            ..
        } = hand_over;
        let stale = self.places[shard]
            .shard
            .is_stale(HERE, &self.clients[client].name, decoded_at);
        let kicked = self
            .kicked_at
            .get(&client)
            .is_some_and(|&at| decoded_at <= at);
        // What is older than the memory of kicks is refused, whoever it is.
        let old = self.outside.now.since(decoded_at) >= 100_000;
        assert!(
            stale == kicked || (stale && old),
            "client {client}, CONNECT decoded at {decoded_at:?}, refused: {stale}, kicked: {kicked}"
        );
        if stale {
            self.coverage.kicked_hand_overs += 1;
            let of = &mut self.outside.connections[connection];
            of.state = State::Gone;
            of.down.push_back(Down::Closed);
        }
        stale
    }

    /// The disk moves on, and shards hear of it, sooner or later.
    pub(crate) fn store_moves(&mut self) {
        if self.plan.store != StoreKind::Grouped {
            return;
        }
        if self.rng.chance(self.plan.commits) {
            let waiting = self.outside.store.waiting();
            let count = self.rng.between(0, waiting);
            self.outside.store.commit(count);
        }
        let shard = self.rng.below(self.places.len());
        if !self.is_stalled(shard) {
            self.tell_committed(shard);
        }
    }

    /// Answers whether there was news.
    pub(crate) fn tell_committed(&mut self, shard: usize) -> bool {
        let committed = self.outside.store.committed();
        if self.places[shard].told == committed.0 {
            return false;
        }
        self.places[shard].told = committed.0;
        self.tell(shard, |shard, now, fx| shard.committed(now, committed, fx));
        true
    }
}
