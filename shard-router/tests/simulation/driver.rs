//! The driver's side: connections with their two directions, and what shards ask of them, checked as they ask.

use std::collections::VecDeque;

use tidegate_codec::{Ack, Delivery, Millis, Qos, ReasonCode};
use tidegate_shard_router::store_op::{Commit, StoreOp};
use tidegate_shard_router::{ConnectionId, DeliveryOutcome, Effects, SessionId};

use crate::ledger::{letter_of, Ledger, NEVER};
use crate::store::ModelStore;
use crate::tables::Row;

/// From a client.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    Publish {
        letter: usize,
        packet_id: u16,
        dup: bool,
    },
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Subscribe {
        packet_id: u16,
        filters: Vec<Asked>,
        id: Option<u32>,
    },
    Unsubscribe {
        packet_id: u16,
        filters: Vec<&'static str>,
    },
    Disconnect {
        with_will: bool,
        expiry: Option<u32>,
    },
    /// The client closed, or the network did.
    End,
}

/// One filter a client asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) filter: &'static str,
    pub(crate) qos: Qos,
    pub(crate) no_local: bool,
}

/// To a client.
#[derive(Clone, Debug)]
pub(crate) enum Down {
    ConnAck {
        session: usize,
        present: bool,
    },
    Publish {
        letter: usize,
        packet_id: u16,
        qos: Qos,
        retain: bool,
        dup: bool,
    },
    PubAck(u16),
    PubRec(u16, ReasonCode),
    PubRel(u16),
    PubComp(u16),
    SubAck(u16),
    UnsubAck(u16),
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// On its way to its client's home shard, or waiting there for the authenticator.
    HandingOver,
    Attached(SessionId),
    /// The shard's mind knows it no more.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: usize,
    pub(crate) shard: u16,
    pub(crate) state: State,
    /// The ledger's session, once attached.
    pub(crate) session: usize,
    pub(crate) up: VecDeque<Up>,
    pub(crate) down: VecDeque<Down>,
    pub(crate) paused: bool,
    pub(crate) wants_writable: bool,
    /// The client reads nothing before this step.
    pub(crate) choked_until: usize,
    high_water: usize,
    /// Packet ids of QoS 1 and 2 deliveries the client has not acknowledged, and how many it allows.
    pub(crate) in_flight: Vec<u16>,
    pub(crate) window: usize,
    /// PUBLISH packets in order of receipt that wait for PUBACK or PUBREC.
    pub(crate) owed: VecDeque<(u16, Qos, usize)>,
    /// SUBSCRIBE and UNSUBSCRIBE: packet id, which records of the ledger's session.
    pub(crate) asked: VecDeque<(u16, Vec<usize>)>,
}

impl Connection {
    pub(crate) fn new(client: usize, shard: u16, high_water: usize, window: usize) -> Connection {
        Connection {
            client,
            shard,
            state: State::HandingOver,
            session: usize::MAX,
            up: VecDeque::new(),
            down: VecDeque::new(),
            paused: false,
            wants_writable: false,
            choked_until: 0,
            high_water,
            in_flight: Vec::new(),
            window,
            owed: VecDeque::new(),
            asked: VecDeque::new(),
        }
    }

    /// The out-queue has drained after it was full.
    pub(crate) fn is_writable_again(&self) -> bool {
        self.wants_writable && self.down.len() <= self.high_water / 2
    }
}

/// Everything outside the shards.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) now: Millis,
    pub(crate) step: usize,
    pub(crate) connections: Vec<Connection>,
    pub(crate) ledger: Ledger,
    pub(crate) store: ModelStore,
    /// Client ids.
    pub(crate) names: Vec<String>,
    /// One line an event, where somebody reads it.
    pub(crate) verbose: bool,
}

impl Outside {
    pub(crate) fn say(&self, line: impl FnOnce() -> String) {
        if self.verbose {
            println!("step {:5} {:8} ms  {}", self.step, self.now.0, line());
        }
    }
}

impl Outside {
    /// What a durable session's client is told, the disk must know.
    fn check_stored(&self, session: usize, holds: impl FnOnce(&Row) -> bool) {
        let of = &self.ledger.sessions[session];
        if !self.store.exists() || of.expiry == 0 {
            return;
        }
        let row = self.store.tables.sessions.get(&self.names[of.client]);
        let nothing = Row::default();
        assert!(
            holds(row.unwrap_or(&nothing)),
            "session {session} was told what is not on disk: {row:?}"
        );
    }
}

/// [`Effects`] of one shard.
pub(crate) struct Fx<'a> {
    pub(crate) shard: u16,
    pub(crate) outside: &'a mut Outside,
}

impl Fx<'_> {
    fn attached(&mut self, id: ConnectionId) -> &mut Connection {
        let connection = &mut self.outside.connections[id.index as usize];
        assert_eq!(
            connection.shard, self.shard,
            "a shard speaks to a connection of another"
        );
        assert!(
            matches!(connection.state, State::Attached(_)),
            "a shard speaks to connection {} which it gave up",
            id.index
        );
        connection
    }
}

impl Effects for Fx<'_> {
    fn deliver(&mut self, id: ConnectionId, delivery: &Delivery<'_>) -> DeliveryOutcome {
        let letter = letter_of(delivery.message);
        let connection = self.attached(id);
        if connection.down.len() >= connection.high_water {
            connection.wants_writable = true;
            return DeliveryOutcome::Full;
        }
        let (session, small) = (connection.session, connection.client % 4 == 1);
        if small && self.outside.ledger.letters[letter].large {
            self.outside.ledger.too_large(session, letter);
            return DeliveryOutcome::TooLarge;
        }
        let connection = self.attached(id);
        if delivery.qos > Qos::AtMostOnce {
            assert!(
                !connection.in_flight.contains(&delivery.packet_id),
                "a packet id in use"
            );
            connection.in_flight.push(delivery.packet_id);
            assert!(
                connection.in_flight.len() <= connection.window,
                "more in flight than the client takes"
            );
        }
        connection.down.push_back(Down::Publish {
            letter,
            packet_id: delivery.packet_id,
            qos: delivery.qos,
            retain: delivery.retain,
            dup: delivery.dup,
        });
        let now = self.outside.now;
        self.outside.say(|| {
            format!(
                "  {} -> connection {} letter {letter} as {:?} id {} dup {}",
                self.shard, id.index, delivery.qos, delivery.packet_id, delivery.dup
            )
        });
        self.outside.ledger.emitted(session, delivery, now);
        if delivery.qos == Qos::ExactlyOnce {
            let packet_id = delivery.packet_id;
            self.outside
                .check_stored(session, |row| row.holds(packet_id, Some(letter)));
        }
        DeliveryOutcome::Written
    }

    fn acknowledge(&mut self, id: ConnectionId, ack: &Ack<'_>) {
        self.outside
            .say(|| format!("  {} -> connection {} {ack:?}", self.shard, id.index));
        let connection = self.attached(id);
        let mut owed = |packet_id: u16, exactly_once: bool| {
            let (first, qos, letter) = connection
                .owed
                .pop_front()
                .expect("an acknowledgement nobody waits for");
            assert_eq!(
                (first, qos == Qos::ExactlyOnce),
                (packet_id, exactly_once),
                "acknowledgements leave in order of receipt"
            );
            letter
        };
        match *ack {
            Ack::PubAck { packet_id, reason } => {
                let letter = owed(packet_id, false);
                connection.down.push_back(Down::PubAck(packet_id));
                assert!(!reason.is_error());
                self.outside.ledger.acknowledged(letter);
            }
            Ack::PubRec {
                packet_id, reason, ..
            } => {
                let letter = owed(packet_id, true);
                connection.down.push_back(Down::PubRec(packet_id, reason));
                let session = connection.session;
                self.outside
                    .check_stored(session, |row| row.settled(packet_id));
                assert!(!reason.is_error());
                self.outside.ledger.acknowledged(letter);
            }
            Ack::PubRel { packet_id, reason } => {
                connection.down.push_back(Down::PubRel(packet_id));
                let session = connection.session;
                let unknown = reason.is_error();
                self.outside
                    .check_stored(session, |row| unknown || row.holds(packet_id, None));
            }
            Ack::PubComp { packet_id, .. } => {
                connection.down.push_back(Down::PubComp(packet_id));
                let session = connection.session;
                self.outside
                    .check_stored(session, |row| !row.incoming.contains_key(&packet_id));
            }
            Ack::SubAck { packet_id, reasons } => {
                assert!(reasons.iter().all(|reason| !reason.is_error()));
                connection.down.push_back(Down::SubAck(packet_id));
                self.answered(id, packet_id, true);
            }
            Ack::UnsubAck { packet_id, .. } => {
                connection.down.push_back(Down::UnsubAck(packet_id));
                self.answered(id, packet_id, false);
            }
        }
    }

    fn disconnect(&mut self, id: ConnectionId, _reason: ReasonCode) {
        self.outside
            .say(|| format!("  {} closes connection {}", self.shard, id.index));
        let connection = self.attached(id);
        connection.state = State::Gone;
        connection.down.push_back(Down::Closed);
    }

    fn pause_reading(&mut self, id: ConnectionId) {
        let connection = self.attached(id);
        assert!(!connection.paused, "paused twice");
        connection.paused = true;
    }

    fn resume_reading(&mut self, id: ConnectionId) {
        let connection = self.attached(id);
        assert!(connection.paused, "resumed without a pause");
        connection.paused = false;
    }

    fn store(&mut self, op: StoreOp<'_>) -> Commit {
        self.outside
            .say(|| format!("  {} stores {op:?}", self.shard));
        {
            let now = self.outside.now;
            self.outside.store.take(now, &op)
        }
    }

    fn is_durable(&self) -> bool {
        self.outside.store.exists()
    }
}

impl Fx<'_> {
    fn answered(&mut self, id: ConnectionId, packet_id: u16, granted: bool) {
        let tick = self.outside.ledger.now();
        let connection = &mut self.outside.connections[id.index as usize];
        let (first, records) = connection
            .asked
            .pop_front()
            .expect("SUBACK or UNSUBACK nobody waits for");
        assert_eq!(first, packet_id, "SUBACK and UNSUBACK in order of receipt");
        let index = connection.session;
        let session = &mut self.outside.ledger.sessions[index];
        let filter = |&record: &usize| session.subscriptions[record].filter.text().to_owned();
        let filters: Vec<_> = records.iter().map(filter).collect();
        for record in records {
            let record = &mut session.subscriptions[record];
            let moment = if granted {
                &mut record.granted
            } else {
                &mut record.closed
            };
            *moment = (*moment).min(tick);
            debug_assert!(tick < NEVER);
        }
        let known = |row: &Row| {
            filters
                .iter()
                .all(|f| row.subscriptions.contains_key(f) == granted)
        };
        self.outside.check_stored(index, known);
    }
}
