//! Several real shards in one thread, with recorders in place of connections.
//!
//! A test speaks for clients by name; `settle` lets all shards step until nothing moves.

#![allow(dead_code, unreachable_pub)] // Each test file is a crate of its own and uses its own part.

use std::collections::HashMap;
use std::sync::Arc;

use tidegate_codec::mqtt::connect::Will;
use tidegate_codec::mqtt::connection::Publish;
use tidegate_codec::mqtt::subscribe::{
    RequestedSubscription, Subscribe, SubscriptionOptions, Unsubscribe,
};
use tidegate_codec::topic::TopicLimits;
use tidegate_codec::{Ack, Delivery, Message, Millis, Qos, ReasonCode, TopicFilter};
use tidegate_shard_router::mailbox::mesh;
use tidegate_shard_router::store_op::{Commit, StoreOp};
use tidegate_shard_router::{
    Connected, Connecting, ConnectionId, DeliveryOutcome, Departure, Doorbell, Effects, InstanceId,
    Placement, SessionId, Shard, ShardConfig, ShardId, Step, Wake,
};

pub const HERE: InstanceId = InstanceId(0);
const LIMITS: TopicLimits = TopicLimits {
    bytes_max: 1_024,
    levels_max: 32,
};

/// What a connection was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    Publish {
        topic: String,
        payload: String,
        qos: Qos,
        retain: bool,
        dup: bool,
        packet_id: u16,
    },
    /// An acknowledgement, in its debug form without the reason where that is success.
    Ack(String),
    Closed(ReasonCode),
}

#[derive(Debug, Default)]
pub struct Wire {
    pub sent: Vec<Sent>,
    pub subscription_ids: Vec<Vec<u32>>,
    pub paused: bool,
    /// Deliveries the out-queue still takes; `None`: any number.
    pub room: Option<usize>,
}

/// All connections of one shard.
#[derive(Debug, Default)]
pub struct Recorder {
    pub wires: HashMap<u32, Wire>,
    /// Operations the store was told, when there is one.
    pub store: Option<Vec<String>>,
    /// Operations that are not on disk yet get this sequence.
    pub committing: Option<u64>,
}

impl Effects for Recorder {
    fn deliver(&mut self, connection: ConnectionId, d: &Delivery<'_>) -> DeliveryOutcome {
        let wire = self.wires.entry(connection.index).or_default();
        match &mut wire.room {
            Some(0) => return DeliveryOutcome::Full,
            Some(room) => *room -= 1,
            None => {}
        }
        wire.subscription_ids.push(d.subscription_ids.to_vec());
        wire.sent.push(Sent::Publish {
            topic: d.message.topic().into(),
            payload: String::from_utf8_lossy(d.message.payload()).into_owned(),
            qos: d.qos,
            retain: d.retain,
            dup: d.dup,
            packet_id: d.packet_id,
        });
        DeliveryOutcome::Written
    }

    fn acknowledge(&mut self, connection: ConnectionId, ack: &Ack<'_>) {
        let text = match ack {
            Ack::PubAck { packet_id, reason } => format!("PUBACK {packet_id} {reason:?}"),
            Ack::PubRec {
                packet_id, reason, ..
            } => format!("PUBREC {packet_id} {reason:?}"),
            Ack::PubRel { packet_id, reason } => format!("PUBREL {packet_id} {reason:?}"),
            Ack::PubComp { packet_id, reason } => format!("PUBCOMP {packet_id} {reason:?}"),
            Ack::SubAck { packet_id, reasons } => format!("SUBACK {packet_id} {reasons:?}"),
            Ack::UnsubAck { packet_id, reasons } => format!("UNSUBACK {packet_id} {reasons:?}"),
        };
        let text = text.trim_end_matches(" Success").to_owned();
        self.wires
            .entry(connection.index)
            .or_default()
            .sent
            .push(Sent::Ack(text));
    }

    fn disconnect(&mut self, connection: ConnectionId, reason: ReasonCode) {
        self.wires
            .entry(connection.index)
            .or_default()
            .sent
            .push(Sent::Closed(reason));
    }

    fn pause_reading(&mut self, connection: ConnectionId) {
        let wire = self.wires.entry(connection.index).or_default();
        assert!(!wire.paused, "paused twice");
        wire.paused = true;
    }

    fn resume_reading(&mut self, connection: ConnectionId) {
        let wire = self.wires.entry(connection.index).or_default();
        assert!(wire.paused, "resumed without a pause");
        wire.paused = false;
    }

    fn store(&mut self, op: StoreOp<'_>) -> Commit {
        if let Some(store) = &mut self.store {
            store.push(format!("{op:?}"));
        }
        match &mut self.committing {
            Some(sequence) => {
                *sequence += 1;
                Commit::Pending(tidegate_shard_router::store_op::CommitSequence(*sequence))
            }
            None => Commit::Done,
        }
    }

    fn is_durable(&self) -> bool {
        self.store.is_some()
    }
}

struct Silent;

impl Wake for Silent {
    fn wake(&self) {}
}

/// A client as a test knows it.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    pub shard: ShardId,
    pub session: SessionId,
    pub connection: ConnectionId,
    pub session_present: bool,
}

/// What a client connects with; the default is a clean session.
#[derive(Default)]
pub struct Options {
    pub keep_session: bool,
    pub expiry: u32,
    pub will: Option<Will>,
    pub receive_maximum: Option<u16>,
}

pub struct World {
    pub shards: Vec<Shard>,
    pub recorders: Vec<Recorder>,
    pub now: Millis,
    placement: Placement,
    connections: u32,
}

impl World {
    pub fn new(shards: u16) -> World {
        World::with(shards, ShardConfig::default(), 1_024)
    }

    pub fn with(shards: u16, config: ShardConfig, slots: usize) -> World {
        let placement = Placement::new(shards, 11);
        let bells: Vec<_> = (0..shards)
            .map(|_| Arc::new(Doorbell::new(Box::new(Silent))))
            .collect();
        let mailboxes = mesh(&bells, slots).into_iter().enumerate();
        let shard = |(i, mailboxes)| {
            Shard::new(
                ShardId(i as u16),
                placement.clone(),
                config.clone(),
                mailboxes,
            )
        };
        World {
            shards: mailboxes.map(shard).collect(),
            recorders: (0..shards).map(|_| Recorder::default()).collect(),
            now: Millis(1_000),
            placement,
            connections: 0,
        }
    }

    /// A client id that starts with `prefix` and lives on `shard`.
    pub fn id_on(&self, shard: u16, prefix: &str) -> String {
        let ids = (0..).map(|i| format!("{prefix}{i}"));
        let on = |id: &String| self.placement.home_shard(HERE, id) == ShardId(shard);
        ids.into_iter().find(on).expect("some id hashes there")
    }

    /// A topic that starts with `prefix` and is owned by `shard`.
    pub fn topic_on(&self, shard: u16, prefix: &str) -> String {
        let topics = (0..).map(|i| format!("{prefix}{i}/t"));
        let on = |topic: &String| self.placement.slice_owner(HERE, topic) == ShardId(shard);
        topics
            .into_iter()
            .find(on)
            .expect("some topic hashes there")
    }

    pub fn connect(&mut self, client_id: &str) -> Client {
        self.connect_with(client_id, Options::default())
    }

    pub fn connect_with(&mut self, client_id: &str, options: Options) -> Client {
        let shard = self.placement.home_shard(HERE, client_id);
        self.connections += 1;
        let connection = ConnectionId {
            index: self.connections,
            generation: 0,
        };
        let connecting = Connecting {
            instance: HERE,
            client_id: client_id.into(),
            clean_start: !options.keep_session,
            session_expiry_interval: options.expiry,
            receive_maximum: options.receive_maximum.unwrap_or(u16::MAX),
            will: options.will.map(Box::new),
        };
        let (mind, recorder) = self.at(shard);
        let Connected {
            session,
            session_present,
        } = mind.0.connect(mind.1, connection, connecting, recorder);
        let client = Client {
            shard,
            session,
            connection,
            session_present,
        };
        let (mind, recorder) = self.at(shard);
        mind.0.resume(mind.1, session, recorder);
        self.settle();
        client
    }

    /// A shard's mind with the time, and its connections.
    fn at(&mut self, shard: ShardId) -> ((&mut Shard, Millis), &mut Recorder) {
        let i = shard.index();
        ((&mut self.shards[i], self.now), &mut self.recorders[i])
    }

    pub fn subscribe(&mut self, client: Client, filter: &str, qos: Qos) {
        self.subscribe_with(client, filter, options(qos), None);
        self.settle();
    }

    /// Without letting other shards step.
    pub fn subscribe_with(
        &mut self,
        client: Client,
        filter: &str,
        options: SubscriptionOptions,
        subscription_id: Option<u32>,
    ) {
        let filter = TopicFilter::parse(filter, LIMITS);
        let subscriptions = vec![RequestedSubscription { filter, options }];
        let subscribe = Subscribe {
            packet_id: 900,
            subscription_id,
            subscriptions,
        };
        let (mind, recorder) = self.at(client.shard);
        mind.0
            .subscribe(mind.1, client.session, subscribe, recorder);
    }

    pub fn unsubscribe(&mut self, client: Client, filter: &str) {
        let filters = vec![TopicFilter::parse(filter, LIMITS)];
        let (mind, recorder) = self.at(client.shard);
        let unsubscribe = Unsubscribe {
            packet_id: 901,
            filters,
        };
        mind.0
            .unsubscribe(mind.1, client.session, unsubscribe, recorder);
        self.settle();
    }

    /// Publishes without letting other shards step.
    pub fn post(&mut self, client: Client, message: Message, packet_id: u16) {
        let publish = Publish {
            message,
            packet_id,
            dup: false,
        };
        let (mind, recorder) = self.at(client.shard);
        mind.0.publish(mind.1, client.session, publish, recorder);
    }

    pub fn publish(&mut self, client: Client, topic: &str, payload: &str, qos: Qos, id: u16) {
        self.post(client, message(topic, payload, qos), id);
        self.settle();
    }

    pub fn retain(&mut self, client: Client, topic: &str, payload: &str) {
        self.post(
            client,
            Message::new(topic, &[], payload.as_bytes(), Qos::AtLeastOnce, true),
            77,
        );
        self.settle();
    }

    pub fn puback(&mut self, client: Client, packet_id: u16) {
        let (mind, recorder) = self.at(client.shard);
        mind.0.puback(
            mind.1,
            client.session,
            packet_id,
            ReasonCode::Success,
            recorder,
        );
        self.settle();
    }

    pub fn pubrec(&mut self, client: Client, packet_id: u16) {
        let (mind, recorder) = self.at(client.shard);
        mind.0.pubrec(
            mind.1,
            client.session,
            packet_id,
            ReasonCode::Success,
            recorder,
        );
    }

    pub fn pubrel(&mut self, client: Client, packet_id: u16) {
        let (mind, recorder) = self.at(client.shard);
        mind.0.pubrel(
            mind.1,
            client.session,
            packet_id,
            ReasonCode::Success,
            recorder,
        );
    }

    pub fn pubcomp(&mut self, client: Client, packet_id: u16) {
        let (mind, recorder) = self.at(client.shard);
        mind.0.pubcomp(
            mind.1,
            client.session,
            packet_id,
            ReasonCode::Success,
            recorder,
        );
    }

    pub fn leave(&mut self, client: Client, departure: Departure) {
        let (mind, recorder) = self.at(client.shard);
        mind.0.disconnected(
            mind.1,
            client.session,
            client.connection,
            departure,
            recorder,
        );
        self.settle();
    }

    pub fn disconnect(&mut self, client: Client) {
        self.leave(
            client,
            Departure::Clean {
                session_expiry_interval: None,
            },
        );
    }

    pub fn writable(&mut self, client: Client) {
        let (mind, recorder) = self.at(client.shard);
        mind.0.writable(mind.1, client.session, recorder);
        self.settle();
    }

    pub fn wait(&mut self, ms: u64) {
        self.now = self.now + ms;
        self.settle();
    }

    pub fn step(&mut self, shard: u16, envelopes_max: usize) -> bool {
        let (mind, recorder) = self.at(ShardId(shard));
        mind.0.step(mind.1, Step { envelopes_max }, recorder).busy
    }

    /// Steps all shards until nothing moves.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            let mut busy = false;
            for shard in 0..self.shards.len() {
                busy |= self.step(shard as u16, 64);
            }
            let overflow = self
                .shards
                .iter_mut()
                .any(|shard| shard.counters().overflow > 0);
            let mail = self.shards.iter().any(|shard| !shard.mailbox_is_empty());
            if !busy && !overflow && !mail {
                return;
            }
        }
        panic!("the shards do not come to rest");
    }

    /// What a client was sent since the last look.
    pub fn sent(&mut self, client: Client) -> Vec<Sent> {
        std::mem::take(&mut self.wire(client).sent)
    }

    /// The payloads of what it was sent since the last look.
    pub fn payloads(&mut self, client: Client) -> Vec<String> {
        let sent = self.sent(client).into_iter();
        sent.filter_map(|sent| match sent {
            Sent::Publish { payload, .. } => Some(payload),
            _ => None,
        })
        .collect()
    }

    /// The acknowledgements it was sent since the last look.
    pub fn acks(&mut self, client: Client) -> Vec<String> {
        let sent = self.sent(client).into_iter();
        sent.filter_map(|sent| match sent {
            Sent::Ack(text) => Some(text),
            _ => None,
        })
        .collect()
    }

    pub fn wire(&mut self, client: Client) -> &mut Wire {
        let recorder = &mut self.recorders[client.shard.index()];
        recorder.wires.entry(client.connection.index).or_default()
    }

    pub fn total(&mut self, count: impl Fn(&tidegate_shard_router::Counters) -> u64) -> u64 {
        self.shards
            .iter_mut()
            .map(|shard| count(shard.counters()))
            .sum()
    }
}

pub fn message(topic: &str, payload: &str, qos: Qos) -> Message {
    Message::new(topic, &[], payload.as_bytes(), qos, false)
}

pub fn options(qos: Qos) -> SubscriptionOptions {
    SubscriptionOptions {
        maximum_qos: qos,
        ..SubscriptionOptions::default()
    }
}

pub fn will(topic: &str, payload: &str, delay_interval: u32) -> Will {
    let message = message(topic, payload, Qos::AtLeastOnce);
    Will {
        message,
        delay_interval,
        message_expiry_interval: None,
    }
}
