//! What clients do of their own accord: connect, publish, subscribe, say goodbye, vanish.

use tidegate_codec::{Millis, Qos};

use crate::driver::{Asked, Up};
use crate::ledger::{Kind, Letter, NEVER};
use crate::world::{HandOver, World};

pub(crate) const TOPICS: [&str; 6] = ["a/b", "a/c", "b/x/1", "b/x/2", "c", "a"];
pub(crate) const FILTERS: [&str; 16] = [
    "a/b",
    "a/+",
    "b/x/#",
    "+/x/1",
    "#",
    "c",
    "a/#",
    "r/+/0",
    "r/#",
    "r/c1/1",
    "w/#",
    "w/c0",
    "$share/g/a/b",
    "$share/g/b/x/#",
    "$share/h/+/c",
    "$share/h/#",
];

impl World {
    /// A client does something.
    pub(crate) fn act(&mut self, client: usize) {
        let habits = self.plan.habits.clone();
        let Some(connection) = self.clients[client].connection else {
            if self.rng.chance(300) {
                self.connect(client);
            }
            return;
        };
        let impatient = self.clients[client].asking.is_some() && self.rng.chance(habits.impatient);
        if impatient || self.rng.chance(habits.drop) {
            self.drop_connection(client, connection);
        } else if self.rng.chance(habits.give_up) {
            // It takes its connection for dead; the network and the server do not know.
            self.clients[client].lose_connection();
            self.connect(client);
        } else if !self.clients[client].connected {
        } else if self.rng.chance(habits.goodbye) {
            self.say_goodbye(client, connection);
        } else if self.clients[client].unanswered.is_some() || self.rng.chance(habits.subscribe) {
            self.subscribe(client, connection);
        } else if self.rng.chance(habits.unsubscribe) {
            self.unsubscribe(client, connection);
        } else {
            for _ in 0..self.rng.between(1, self.plan.burst) {
                self.publish(client, connection);
            }
        }
    }

    pub(crate) fn connect(&mut self, client: usize) {
        let habits = self.plan.habits.clone();
        let durable = self.rng.chance(habits.durable);
        let expiry = if durable {
            self.rng.pick(&[20, 300, 3_600, u32::MAX])
        } else {
            0
        };
        let clean_start = self.rng.chance(habits.clean_start);
        let will = self.rng.chance(habits.will).then(|| {
            let delay = self.rng.pick(&[0, 0, 1, 10, 60]);
            let qos = self.rng.pick(&self.plan.qos.clone());
            (
                self.outside
                    .ledger
                    .write_will(&format!("w/c{client}"), qos, delay),
                delay,
            )
        });
        let receive_maximum = self.rng.pick(&[1, 2, 5, 20, u16::MAX]);
        self.connect_with(client, clean_start, expiry, receive_maximum, will);
    }

    pub(crate) fn connect_with(
        &mut self,
        client: usize,
        mut clean_start: bool,
        expiry: u32,
        receive_maximum: u16,
        will: Option<(usize, u32)>,
    ) {
        // A CONNECT of an earlier try that still flies may start clean, too, whoever wins in the end.
        let flying = self
            .hand_overs
            .iter()
            .any(|other| other.client == client && other.clean_start);
        let of = &mut self.clients[client];
        clean_start |= of.must_start_clean || flying;
        if clean_start {
            // Until it has started clean, its half of the session is gone and the server's is not.
            of.must_start_clean = true;
            of.forget();
        }
        of.session_expiry = expiry;
        let ready_at_step = self.outside.step
            + self.rng.below(if self.calm {
                1
            } else {
                self.plan.hand_over_steps
            });
        let hand_over = HandOver {
            connection: usize::MAX,
            client,
            decoded_at: self.outside.now,
            ready_at_step,
            clean_start,
            expiry,
            receive_maximum,
            will,
        };
        self.open(client, hand_over);
    }

    /// The network breaks: what is on its way to the client is lost, and some of what is on its way from it.
    fn drop_connection(&mut self, client: usize, connection: usize) {
        let of = &mut self.outside.connections[connection];
        let arrives = self.rng.below(of.up.len() + 1);
        of.up.truncate(arrives);
        of.up.push_back(Up::End);
        self.clients[client].lose_connection();
    }

    fn say_goodbye(&mut self, client: usize, connection: usize) {
        let with_will = self.rng.chance(300);
        let durable = self.clients[client].session_expiry > 0;
        let expiry = (durable && self.rng.chance(300)).then(|| self.rng.pick(&[0, 5, 300]));
        self.leave(client, connection, with_will, expiry);
    }

    pub(crate) fn leave(
        &mut self,
        client: usize,
        connection: usize,
        with_will: bool,
        expiry: Option<u32>,
    ) {
        let up = &mut self.outside.connections[connection].up;
        up.push_back(Up::Disconnect { with_will, expiry });
        self.clients[client].lose_connection();
    }

    fn subscribe(&mut self, client: usize, connection: usize) {
        if self.clients[client].asking.is_some() {
            return;
        }
        let filters = self.clients[client].unanswered.take();
        let filters = filters.unwrap_or_else(|| self.choose_filters());
        let id = self.rng.chance(500).then(|| self.rng.between(1, 9) as u32);
        let of = &mut self.clients[client];
        let packet_id = of.next_packet_id();
        of.asking = Some(packet_id);
        of.unanswered = Some(filters.clone());
        let packet = Up::Subscribe {
            packet_id,
            filters,
            id,
        };
        self.outside.connections[connection].up.push_back(packet);
    }

    fn choose_filters(&mut self) -> Vec<Asked> {
        let mut asked = || {
            let filter = self.rng.pick(&FILTERS);
            let no_local = !filter.starts_with("$share") && self.rng.chance(200);
            let qos = self.rng.pick(&self.plan.qos);
            Asked {
                filter,
                qos,
                no_local,
            }
        };
        let (first, second) = (asked(), asked());
        if second.filter == first.filter {
            return vec![first];
        }
        vec![first, second]
    }

    fn unsubscribe(&mut self, client: usize, connection: usize) {
        let of = &mut self.clients[client];
        if of.asking.is_some() {
            return;
        }
        let packet_id = of.next_packet_id();
        of.asking = Some(packet_id);
        let filters = vec![self.rng.pick(&FILTERS), self.rng.pick(&FILTERS)];
        self.outside.connections[connection]
            .up
            .push_back(Up::Unsubscribe { packet_id, filters });
    }

    fn publish(&mut self, client: usize, connection: usize) {
        let mut qos = self.rng.pick(&self.plan.qos);
        // A 3.1.1 client knows no Receive Maximum.
        let most = match client % 3 {
            0 => 35,
            _ => usize::from(self.plan.config.receive_maximum),
        };
        if self.clients[client].unacknowledged() >= most {
            qos = Qos::AtMostOnce;
        }
        let mut kind = Kind::Plain;
        let mut retain = false;
        let topic = match self.rng.below(10) {
            0 => {
                let target = self.rng.below(self.clients.len());
                kind = Kind::PointToPoint {
                    target,
                    target_session: None,
                };
                format!("$p2p/c{target}")
            }
            1 | 2 if qos > Qos::AtMostOnce => {
                (retain, qos) = (true, Qos::AtLeastOnce);
                format!("r/c{client}/{}", self.rng.below(2))
            }
            _ => self.rng.pick(&TOPICS).to_owned(),
        };
        let expires = self.rng.chance(self.plan.habits.expiry);
        let seconds = self.rng.pick(&[1, 1, 5, 30]);
        let letter = Letter {
            session: usize::MAX,
            topic: topic.into(),
            qos,
            retain,
            empty: retain && self.rng.chance(200),
            expires_at: if expires {
                self.outside.now.plus_seconds(seconds)
            } else {
                Millis::NEVER
            },
            number: 0,
            kind,
            arrivals: 0,
            first_arrival: NEVER,
            acked: NEVER,
            known_acked: false,
            large: self.rng.chance(20),
        };
        self.send(client, connection, letter);
    }

    pub(crate) fn send(&mut self, client: usize, connection: usize, mut letter: Letter) {
        letter.session = self.outside.connections[connection].session;
        let qos = letter.qos;
        let (index, _) = self.outside.ledger.write(letter);
        let packet = self.clients[client].publish(index, qos);
        self.outside.connections[connection].up.push_back(packet);
    }
}
