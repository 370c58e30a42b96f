//! Packets on their way: from clients into shards' verbs, from out-queues into clients.

use tidegate_codec::mqtt::connection::Publish;
use tidegate_codec::mqtt::subscribe::{
    RequestedSubscription, Subscribe, SubscriptionOptions, Unsubscribe,
};
use tidegate_codec::topic::TopicLimits;
use tidegate_codec::{Qos, ReasonCode, TopicFilter};
use tidegate_shard_router::{Departure, SessionId};

use crate::driver::{Asked, State, Up};
use crate::ledger::{Kind, Subscribed, NEVER};
use crate::world::{connection_id, World};

pub(crate) const LIMITS: TopicLimits = TopicLimits {
    bytes_max: 1_024,
    levels_max: 32,
};

impl World {
    /// Some connection moves, in both directions.
    pub(crate) fn move_packets(&mut self) {
        if self.live.is_empty() {
            return;
        }
        let at = self.rng.below(self.live.len());
        let connection = self.live[at];
        let of = &self.outside.connections[connection];
        if of.state == State::Gone && self.clients[of.client].connection != Some(connection) {
            self.live.swap_remove(at);
            return;
        }
        let (up, down) = (
            self.rng.between(0, self.plan.batch),
            self.rng.between(0, self.plan.batch),
        );
        let answers = self.rng.between(0, self.plan.batch);
        self.read_up(connection, up);
        self.read_down(connection, down);
        self.send_answers(connection, answers);
    }

    /// The client reads.
    pub(crate) fn read_down(&mut self, connection: usize, most: usize) -> usize {
        let of = &mut self.outside.connections[connection];
        let client = &mut self.clients[of.client];
        let mut read = 0;
        while read < most
            && client.connection == Some(connection)
            && of.choked_until <= self.outside.step
        {
            let Some(packet) = of.down.pop_front() else {
                break;
            };
            read += 1;
            let again = client.read(packet, connection, &mut self.outside.ledger);
            of.up.extend(again);
        }
        read
    }

    /// The client sends acknowledgements it owes.
    pub(crate) fn send_answers(&mut self, connection: usize, most: usize) -> usize {
        let of = &mut self.outside.connections[connection];
        let client = &mut self.clients[of.client];
        if client.connection != Some(connection) {
            return 0;
        }
        let count = most.min(client.answers.len());
        of.up.extend(client.answers.drain(..count));
        count
    }

    /// The shard reads what a connection has received, as far as it is not paused.
    pub(crate) fn read_up(&mut self, connection: usize, most: usize) -> usize {
        let of = &self.outside.connections[connection];
        let shard = usize::from(of.shard);
        if !matches!(of.state, State::Attached(_)) || self.is_stalled(shard) {
            return 0;
        }
        self.tell_writable(connection);
        for read in 0..most {
            let of = &mut self.outside.connections[connection];
            let State::Attached(session) = of.state else {
                return read;
            };
            if of.paused && !matches!(of.up.front(), Some(Up::End)) {
                return read;
            }
            let Some(packet) = of.up.pop_front() else {
                return read;
            };
            self.outside
                .say(|| format!("connection {connection} says {packet:?}"));
            self.hear(shard, connection, session, packet);
        }
        most
    }

    fn tell_writable(&mut self, connection: usize) {
        let of = &mut self.outside.connections[connection];
        if let (State::Attached(session), true) = (of.state, of.is_writable_again()) {
            of.wants_writable = false;
            let shard = usize::from(of.shard);
            self.tell(shard, |shard, now, fx| shard.writable(now, session, fx));
        }
    }

    fn hear(&mut self, shard: usize, connection: usize, id: SessionId, packet: Up) {
        let success = ReasonCode::Success;
        let of = &mut self.outside.connections[connection];
        match packet {
            Up::Publish {
                letter,
                packet_id,
                dup,
            } => self.hear_publish(shard, connection, id, letter, packet_id, dup),
            Up::PubAck(packet_id) => {
                of.in_flight.retain(|&flying| flying != packet_id);
                self.tell(shard, |shard, now, fx| {
                    shard.puback(now, id, packet_id, success, fx)
                });
            }
            Up::PubRec(packet_id) => {
                self.tell(shard, |shard, now, fx| {
                    shard.pubrec(now, id, packet_id, success, fx)
                });
            }
            Up::PubRel(packet_id) => {
                self.tell(shard, |shard, now, fx| {
                    shard.pubrel(now, id, packet_id, success, fx)
                });
            }
            Up::PubComp(packet_id) => {
                of.in_flight.retain(|&flying| flying != packet_id);
                self.tell(shard, |shard, now, fx| {
                    shard.pubcomp(now, id, packet_id, success, fx)
                });
            }
            Up::Subscribe {
                packet_id,
                filters,
                id: subscription_id,
            } => {
                self.hear_subscribe(shard, connection, id, packet_id, &filters, subscription_id);
            }
            Up::Unsubscribe { packet_id, filters } => {
                self.hear_unsubscribe(shard, connection, id, packet_id, &filters);
            }
            Up::Disconnect {
                with_will: true,
                expiry,
            } => {
                self.depart(
                    connection,
                    id,
                    Departure::WithWill {
                        session_expiry_interval: expiry,
                    },
                );
            }
            Up::Disconnect {
                with_will: false,
                expiry,
            } => {
                self.depart(
                    connection,
                    id,
                    Departure::Clean {
                        session_expiry_interval: expiry,
                    },
                );
            }
            Up::End => self.depart(connection, id, Departure::Lost),
        }
    }

    fn depart(&mut self, connection: usize, id: SessionId, departure: Departure) {
        let of = &mut self.outside.connections[connection];
        of.state = State::Gone;
        let (shard, session) = (usize::from(of.shard), of.session);
        self.outside
            .ledger
            .leaves(session, self.outside.now, departure);
        self.tell(shard, |shard, now, fx| {
            shard.disconnected(now, id, connection_id(connection), departure, fx)
        });
    }

    fn hear_publish(
        &mut self,
        shard: usize,
        connection: usize,
        id: SessionId,
        letter: usize,
        packet_id: u16,
        dup: bool,
    ) {
        let ledger = &mut self.outside.ledger;
        if ledger.letters[letter].first_arrival == NEVER {
            if let Kind::PointToPoint {
                target,
                target_session,
            } = &mut ledger.letters[letter].kind
            {
                let living = |&s: &usize| ledger.sessions[s].alive;
                *target_session = ledger.current[*target].filter(living);
            }
        }
        ledger.arrives(letter);
        let qos = ledger.letters[letter].qos;
        let message = ledger.message_of(letter);
        if qos > Qos::AtMostOnce {
            self.outside.connections[connection]
                .owed
                .push_back((packet_id, qos, letter));
        }
        let publish = Publish {
            message,
            packet_id,
            dup,
        };
        self.tell(shard, |shard, now, fx| shard.publish(now, id, publish, fx));
    }

    fn hear_subscribe(
        &mut self,
        shard: usize,
        connection: usize,
        id: SessionId,
        packet_id: u16,
        filters: &[Asked],
        subscription_id: Option<u32>,
    ) {
        let session = self.outside.connections[connection].session;
        let records = filters
            .iter()
            .map(|asked| self.record(session, asked, subscription_id))
            .collect();
        self.outside.connections[connection]
            .asked
            .push_back((packet_id, records));
        let requested = |asked: &Asked| RequestedSubscription {
            filter: TopicFilter::parse(asked.filter, LIMITS),
            options: SubscriptionOptions {
                maximum_qos: asked.qos,
                no_local: asked.no_local,
                ..SubscriptionOptions::default()
            },
        };
        let subscriptions = filters.iter().map(requested).collect();
        let subscribe = Subscribe {
            packet_id,
            subscription_id,
            subscriptions,
        };
        self.tell(shard, |shard, now, fx| {
            shard.subscribe(now, id, subscribe, fx)
        });
    }

    /// The ledger's record of a filter that is asked for: a new one, or that of the subscription it replaces.
    fn record(&mut self, session: usize, asked: &Asked, subscription_id: Option<u32>) -> usize {
        let records = &mut self.outside.ledger.sessions[session].subscriptions;
        let open = |r: &Subscribed| {
            r.filter.text() == asked.filter && r.leaving == NEVER && r.closed == NEVER
        };
        if let Some(at) = records.iter().position(open) {
            let record = &mut records[at];
            record.qos_least = record.qos_least.min(asked.qos);
            record.qos_most = record.qos_most.max(asked.qos);
            record.always_no_local &= asked.no_local;
            record.ever_no_local |= asked.no_local;
            record.ids.extend(subscription_id);
            return at;
        }
        records.push(Subscribed {
            filter: TopicFilter::parse(asked.filter, LIMITS).expect("filters here are valid"),
            qos_least: asked.qos,
            qos_most: asked.qos,
            always_no_local: asked.no_local,
            ever_no_local: asked.no_local,
            ids: subscription_id.into_iter().collect(),
            granted: NEVER,
            leaving: NEVER,
            closed: NEVER,
        });
        records.len() - 1
    }

    fn hear_unsubscribe(
        &mut self,
        shard: usize,
        connection: usize,
        id: SessionId,
        packet_id: u16,
        filters: &[&'static str],
    ) {
        let tick = self.outside.ledger.now();
        let of = &mut self.outside.connections[connection];
        let mut records = Vec::new();
        for (at, record) in self.outside.ledger.sessions[of.session]
            .subscriptions
            .iter_mut()
            .enumerate()
        {
            if filters.contains(&record.filter.text()) && record.closed == NEVER {
                record.leaving = record.leaving.min(tick);
                records.push(at);
            }
        }
        of.asked.push_back((packet_id, records));
        let parsed = filters
            .iter()
            .map(|filter| TopicFilter::parse(filter, LIMITS))
            .collect();
        let unsubscribe = Unsubscribe {
            packet_id,
            filters: parsed,
        };
        self.tell(shard, |shard, now, fx| {
            shard.unsubscribe(now, id, unsubscribe, fx)
        });
    }
}
