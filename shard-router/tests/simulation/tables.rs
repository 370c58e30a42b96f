//! The model store's disk, and how sessions come back from it.

use std::collections::BTreeMap;

use tidegate_codec::mqtt::connect::Will;
use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::{Message, Millis, TopicFilter};
use tidegate_shard_router::key::ClientKey;
use tidegate_shard_router::restore::{
    RestoredDelivery, RestoredIncoming, RestoredSession, RestoredSubscription, Taken,
};
use tidegate_shard_router::store_op::ExchangeId;

use crate::ledger::letter_of;
use crate::network::LIMITS;
use crate::store::Change;
use crate::world::HERE;

/// Wills of connections that were alive when the process died wait at least this long for their clients.
const GRACE_SECONDS: u32 = 30;

#[derive(Debug, Default)]
pub(crate) struct Row {
    pub(crate) expiry: u32,
    pub(crate) online: bool,
    /// When the last word about the session was said.
    at: Millis,
    pub(crate) will: Option<Will>,
    pub(crate) subscriptions: BTreeMap<String, (SubscriptionOptions, Option<u32>)>,
    pub(crate) deliveries: BTreeMap<u64, (RestoredDelivery, Option<ExchangeId>)>,
    pub(crate) incoming: BTreeMap<u16, RestoredIncoming>,
    /// Exchanges whose message was here and is dequeued.
    taken: Vec<Taken>,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) sessions: BTreeMap<String, Row>,
    pub(crate) retained: BTreeMap<String, Message>,
}

impl Tables {
    fn row(&mut self, client: &str) -> &mut Row {
        self.sessions
            .get_mut(client)
            .unwrap_or_else(|| panic!("the store does not know the session of {client}"))
    }

    pub(crate) fn apply(&mut self, change: Change) {
        match change {
            Change::PutSession {
                client,
                expiry,
                online,
                will,
                at,
            } => {
                let row = self.sessions.entry(client).or_default();
                (row.expiry, row.online, row.will, row.at) = (expiry, online, will, at);
            }
            Change::DropSession { client } => {
                let gone = self
                    .sessions
                    .remove(&client)
                    .expect("a session is dropped once");
                for incoming in gone.incoming.into_values() {
                    self.settled(incoming.exchange);
                }
            }
            Change::PutSubscription {
                client,
                filter,
                options,
                id,
            } => {
                self.row(&client)
                    .subscriptions
                    .insert(filter, (options, id));
            }
            Change::DropSubscription { client, filter } => {
                self.row(&client)
                    .subscriptions
                    .remove(&filter)
                    .expect("a subscription is dropped once");
            }
            Change::Enqueue {
                client,
                delivery,
                exchange,
            } => {
                let before = self
                    .row(&client)
                    .deliveries
                    .insert(delivery.sequence, (delivery, exchange));
                assert!(before.is_none(), "a sequence was used twice");
            }
            Change::AssignPacketId {
                client,
                sequence,
                packet_id,
            } => {
                let row = self.row(&client).deliveries.get_mut(&sequence);
                row.expect("what leaves was queued").0.packet_id = Some(packet_id);
            }
            Change::Release { client, sequence } => {
                let row = self.row(&client).deliveries.get_mut(&sequence);
                row.expect("what is released was queued").0.message = None;
            }
            Change::Dequeue { client, sequence } => {
                let gone = self.row(&client).deliveries.remove(&sequence);
                let (delivery, exchange) = gone.expect("a message is dequeued once");
                if let Some(exchange) = exchange.filter(|&exchange| self.is_open(exchange)) {
                    let group = delivery.group;
                    self.row(&client).taken.push(Taken { exchange, group });
                }
            }
            Change::PutIncoming {
                client,
                packet_id,
                exchange,
                message,
            } => {
                let incoming = RestoredIncoming {
                    packet_id,
                    exchange,
                    message: Some(message),
                };
                let before = self.row(&client).incoming.insert(packet_id, incoming);
                assert!(before.is_none(), "a packet id of an exchange that is open");
            }
            Change::SettleIncoming { client, packet_id } => {
                if let Some(incoming) = self.row(&client).incoming.get_mut(&packet_id) {
                    incoming.message = None;
                    let exchange = incoming.exchange;
                    self.settled(exchange);
                }
            }
            Change::DropIncoming { client, packet_id } => {
                if let Some(incoming) = self.row(&client).incoming.remove(&packet_id) {
                    self.settled(incoming.exchange);
                }
            }
            Change::PutRetained { message } => {
                self.retained.insert(message.topic().to_owned(), message);
            }
            Change::DropRetained { topic } => {
                self.retained.remove(&topic);
            }
        }
    }

    fn is_open(&self, exchange: ExchangeId) -> bool {
        let open = |incoming: &RestoredIncoming| {
            incoming.exchange == exchange && incoming.message.is_some()
        };
        self.sessions
            .values()
            .flat_map(|row| row.incoming.values())
            .any(open)
    }

    fn settled(&mut self, exchange: ExchangeId) {
        for row in self.sessions.values_mut() {
            row.taken.retain(|taken| taken.exchange != exchange);
        }
    }

    /// Everything durable, as it comes back. Sessions that ended with their connections are forgotten.
    pub(crate) fn restore(&mut self, now: Millis) -> Vec<RestoredSession> {
        let ended: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, row)| row.expiry == 0)
            .map(|(c, _)| c.clone())
            .collect();
        for client in ended {
            self.apply(Change::DropSession { client });
        }
        self.sessions
            .iter()
            .map(|(client, row)| self.restored(client, row, now))
            .collect()
    }

    fn restored(&self, client: &str, row: &Row, now: Millis) -> RestoredSession {
        let (expires_at, will_at) = row.deadlines(now);
        let mut taken = row.taken.clone();
        for (delivery, exchange) in row.deliveries.values() {
            if let Some(exchange) = exchange.filter(|&exchange| self.is_open(exchange)) {
                let group = delivery.group.clone();
                taken.push(Taken { exchange, group });
            }
        }
        let subscription = |(filter, &(options, subscription_id)): (
            &String,
            &(SubscriptionOptions, Option<u32>),
        )| {
            let filter = TopicFilter::parse(filter, LIMITS).expect("it was parsed before");
            RestoredSubscription {
                filter,
                options,
                subscription_id,
            }
        };
        RestoredSession {
            client: ClientKey {
                instance: HERE,
                client_id: client.into(),
            },
            expiry_seconds: row.expiry,
            expires_at,
            will: row.will.clone().map(|will| (will, will_at)),
            subscriptions: row.subscriptions.iter().map(subscription).collect(),
            deliveries: row
                .deliveries
                .values()
                .map(|(delivery, _)| delivery.clone())
                .collect(),
            incoming: row.incoming.values().cloned().collect(),
            taken,
        }
    }
}

impl Row {
    /// A message under this packet id; `None`: released.
    pub(crate) fn holds(&self, packet_id: u16, letter: Option<usize>) -> bool {
        self.deliveries.values().any(|(delivery, _)| {
            delivery.packet_id == Some(packet_id)
                && delivery.message.as_ref().map(letter_of) == letter
        })
    }

    pub(crate) fn settled(&self, packet_id: u16) -> bool {
        self.incoming
            .get(&packet_id)
            .is_some_and(|incoming| incoming.message.is_none())
    }

    /// When the session ends and when its will is published, if the client does not return after a restart now.
    pub(crate) fn deadlines(&self, now: Millis) -> (Millis, Millis) {
        let left = if self.online { now } else { self.at };
        let expires_at = match self.expiry {
            u32::MAX => Millis::NEVER,
            expiry => left.plus_seconds(expiry),
        };
        let delay = self.will.as_ref().map_or(0, |will| will.delay_interval);
        let delay = if self.online {
            delay.max(GRACE_SECONDS)
        } else {
            delay
        };
        (expires_at, left.plus_seconds(delay).min(expires_at))
    }
}
