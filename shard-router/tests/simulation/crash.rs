//! The process dies and starts again with what the store has, often with another number of shards.

use std::collections::BTreeSet;

use tidegate_codec::Millis;
use tidegate_shard_router::Placement;

use crate::driver::{Down, Fx, State};
use crate::ledger::{letter_of, Ledger, NEVER};
use crate::lives::Will;
use crate::world::{build, World};

impl World {
    pub(crate) fn crash(&mut self) {
        self.outside.say(|| "the process dies".to_owned());
        self.coverage.restarts += 1;
        for place in &mut self.places {
            self.coverage.absorb(place.shard.counters());
        }
        self.cut_connections();
        self.outside.store.crash();
        self.outside.now = self.outside.now + self.rng.below(5_000) as u64;
        self.hand_overs.clear();
        self.kicked_at.clear();
        let shards = if self.rng.chance(500) {
            self.plan.shards
        } else {
            self.rng.pick(&[1, 2, 3, 6])
        };
        self.placement = Placement::new(shards, self.rng.next());
        self.places = build(&self.plan, &self.placement);
        self.restore();
        self.account();
    }

    /// Clients still read some of what was sent to them.
    fn cut_connections(&mut self) {
        for connection in self
            .outside
            .connections
            .iter_mut()
            .filter(|c| c.state != State::Gone)
        {
            connection.state = State::Gone;
            connection.up.clear();
            let read = self.rng.below(connection.down.len() + 1);
            connection.down.truncate(read);
            connection.down.push_back(Down::Closed);
        }
    }

    fn restore(&mut self) {
        let now = self.outside.now;
        let sessions = self.outside.store.tables.restore(now);
        let run = self.outside.store.run;
        for place in &mut self.places {
            for session in &sessions {
                place.shard.restore_session(session);
            }
            for message in self.outside.store.tables.retained.values() {
                place.shard.restore_retained(crate::world::HERE, message);
            }
        }
        for (i, place) in self.places.iter_mut().enumerate() {
            let fx = &mut Fx {
                shard: i as u16,
                outside: &mut self.outside,
            };
            place.shard.restored(now, run, fx);
        }
    }

    /// What is left of sessions and wills, seen from outside.
    fn account(&mut self) {
        let now = self.outside.now;
        let committed = self.outside.store.committed().0;
        let ledger = &mut self.outside.ledger;
        if !self.outside.store.exists() {
            // What was retained is gone.
            ledger.forgotten_before = ledger.tick;
        }
        ledger.restarts += 1;
        let mut revivable = BTreeSet::new();
        for (letter, state) in &mut ledger.wills {
            if matches!(state, Will::Due | Will::Armed { .. } | Will::Pending { .. }) {
                revivable.insert(*letter);
                // What was on its way is lost; whether it had left, nobody knows.
                ledger.letters[*letter].acked = NEVER;
                *state = Will::Either;
            }
        }
        for (client, of) in self.clients.iter_mut().enumerate() {
            let row = self.outside.store.tables.sessions.get(&of.name);
            let known = ledger.current[client];
            let Some(session) = known.map(|known| &mut ledger.sessions[known]) else {
                continue;
            };
            session.connection = None;
            let Some(row) = row else {
                session.alive = false;
                continue;
            };
            let survives = session.alive && session.expiry > 0 && session.born_with <= committed;
            session.alive = survives;
            // Where the store has another session than the client remembers, a faithful client starts clean.
            of.must_start_clean |= !survives;
            let (expires_at, will_at) = row.deadlines(now);
            session.ends_at = session.ends_at.min(expires_at);
            session.will = row.will.as_ref().map(|will| letter_of(&will.message));
            match session.will {
                Some(letter) if survives && revivable.contains(&letter) => {
                    ledger.revive_will(letter, will_at);
                }
                Some(letter) => {
                    // Void in memory only: it may be published or not.
                    ledger.wills.insert(letter, Will::Either);
                }
                None => {}
            }
        }
    }
}

impl Ledger {
    /// The store has a will that was not published: it waits again.
    fn revive_will(&mut self, letter: usize, due: Millis) {
        let tick = self.now();
        let revived = &mut self.letters[letter];
        revived.first_arrival = revived.first_arrival.min(tick);
        revived.acked = NEVER;
        self.wills.insert(letter, Will::Pending { due });
    }
}
