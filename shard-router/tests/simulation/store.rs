//! A model of the store behind `StoreOp`: one queue of changes for all shards, of which a prefix is on disk.

use std::collections::VecDeque;

use tidegate_codec::{Message, Millis};
use tidegate_shard_router::store_op::{Commit, CommitSequence, ExchangeId, StoreOp};

use crate::plan::StoreKind;
use crate::tables::Tables;

/// A [`StoreOp`] with what it needs of its own.
#[derive(Debug)]
pub(crate) enum Change {
    PutSession {
        client: String,
        expiry: u32,
        online: bool,
        will: Option<tidegate_codec::mqtt::connect::Will>,
        at: Millis,
    },
    DropSession {
        client: String,
    },
    PutSubscription {
        client: String,
        filter: String,
        options: tidegate_codec::mqtt::subscribe::SubscriptionOptions,
        id: Option<u32>,
    },
    DropSubscription {
        client: String,
        filter: String,
    },
    Enqueue {
        client: String,
        delivery: tidegate_shard_router::restore::RestoredDelivery,
        exchange: Option<ExchangeId>,
    },
    AssignPacketId {
        client: String,
        sequence: u64,
        packet_id: u16,
    },
    Release {
        client: String,
        sequence: u64,
    },
    Dequeue {
        client: String,
        sequence: u64,
    },
    PutIncoming {
        client: String,
        packet_id: u16,
        exchange: ExchangeId,
        message: Message,
    },
    SettleIncoming {
        client: String,
        packet_id: u16,
    },
    DropIncoming {
        client: String,
        packet_id: u16,
    },
    PutRetained {
        message: Message,
    },
    DropRetained {
        topic: String,
    },
}

#[derive(Debug)]
pub(crate) struct ModelStore {
    kind: StoreKind,
    /// What is on disk.
    pub(crate) tables: Tables,
    /// What is not, in the order in which it was said.
    waiting: VecDeque<Change>,
    said: u64,
    /// How often a process has started on it.
    pub(crate) run: u32,
}

impl ModelStore {
    pub(crate) fn new(kind: StoreKind) -> ModelStore {
        ModelStore {
            kind,
            tables: Tables::default(),
            waiting: VecDeque::new(),
            said: 0,
            run: 0,
        }
    }

    pub(crate) fn exists(&self) -> bool {
        self.kind != StoreKind::None
    }

    pub(crate) fn said(&self) -> u64 {
        self.said
    }

    /// How far the disk is.
    pub(crate) fn committed(&self) -> CommitSequence {
        CommitSequence(self.said - self.waiting.len() as u64)
    }

    pub(crate) fn take(&mut self, now: Millis, op: &StoreOp<'_>) -> Commit {
        self.said += 1;
        let change = Change::of(op, now);
        if self.kind == StoreKind::Immediate {
            self.tables.apply(change);
            return Commit::Done;
        }
        self.waiting.push_back(change);
        Commit::Pending(CommitSequence(self.said))
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Writes the oldest `count` changes in one batch.
    pub(crate) fn commit(&mut self, count: usize) {
        for _ in 0..count {
            let Some(change) = self.waiting.pop_front() else {
                return;
            };
            self.tables.apply(change);
        }
    }

    /// The process dies: what is not on disk never was.
    pub(crate) fn crash(&mut self) {
        self.said -= self.waiting.len() as u64;
        self.waiting.clear();
        self.run += 1;
    }
}

impl Change {
    fn of(op: &StoreOp<'_>, now: Millis) -> Change {
        match *op {
            StoreOp::PutSession {
                client,
                expiry_seconds,
                online,
                will,
            } => Change::PutSession {
                client: client.client_id.to_string(),
                expiry: expiry_seconds,
                online,
                will: will.cloned(),
                at: now,
            },
            StoreOp::DropSession { client } => Change::DropSession {
                client: client.client_id.to_string(),
            },
            StoreOp::PutSubscription {
                client,
                filter,
                options,
                subscription_id,
            } => Change::PutSubscription {
                client: client.client_id.to_string(),
                filter: filter.to_owned(),
                options,
                id: subscription_id,
            },
            StoreOp::DropSubscription { client, filter } => Change::DropSubscription {
                client: client.client_id.to_string(),
                filter: filter.to_owned(),
            },
            StoreOp::Enqueue {
                client,
                sequence,
                delivery,
                exchange,
            } => Change::Enqueue {
                client: client.client_id.to_string(),
                delivery: tidegate_shard_router::restore::RestoredDelivery {
                    sequence,
                    message: Some(delivery.message.clone()),
                    qos: delivery.qos,
                    retain: delivery.retain,
                    subscription_ids: delivery.subscription_ids.to_vec(),
                    group: delivery.group.cloned(),
                    packet_id: None,
                },
                exchange,
            },
            StoreOp::AssignPacketId {
                client,
                sequence,
                packet_id,
            } => Change::AssignPacketId {
                client: client.client_id.to_string(),
                sequence,
                packet_id,
            },
            StoreOp::Release { client, sequence } => Change::Release {
                client: client.client_id.to_string(),
                sequence,
            },
            StoreOp::Dequeue { client, sequence } => Change::Dequeue {
                client: client.client_id.to_string(),
                sequence,
            },
            StoreOp::PutIncoming {
                client,
                packet_id,
                exchange,
                message,
            } => Change::PutIncoming {
                client: client.client_id.to_string(),
                packet_id,
                exchange,
                message: message.clone(),
            },
            StoreOp::SettleIncoming { client, packet_id } => Change::SettleIncoming {
                client: client.client_id.to_string(),
                packet_id,
            },
            StoreOp::DropIncoming { client, packet_id } => Change::DropIncoming {
                client: client.client_id.to_string(),
                packet_id,
            },
            StoreOp::PutRetained { message, .. } => Change::PutRetained {
                message: message.clone(),
            },
            StoreOp::DropRetained { topic, .. } => Change::DropRetained {
                topic: topic.to_owned(),
            },
        }
    }
}
