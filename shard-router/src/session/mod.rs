//! Sessions: what outlives a connection. A session lives on the home shard of its client id and nowhere else.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`ack_ring`] | what we owe the client: PUBACK and PUBREC, in order |
//! | [`incoming`] | QoS 2 packet ids of the client that must not be taken for new messages |
//! | [`inflight`] | what the client owes us: the window of unacknowledged deliveries |
//! | [`offline_queue`] | what waits |
//! | [`outgoing`] | from queue to window to connection |

pub(crate) mod ack_ring;
pub(crate) mod incoming;
pub(crate) mod inflight;
pub(crate) mod offline_queue;
pub(crate) mod outgoing;

use std::collections::VecDeque;
use std::num::NonZeroU32;

use ahash::RandomState;
use hashbrown::HashTable;
use tidegate_codec::mqtt::connect::Will;
use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::{Millis, ReasonCode};

use crate::key::{ClientKey, ConnectionId, InstanceId, SessionId, ShardId};
use crate::store_op::Commit;
use crate::topic_tree::NodeId;
use ack_ring::AckRing;
use incoming::Incoming;
use outgoing::Outgoing;

/// One filter of a session; its options stand in the home tree, at `node`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscription {
    pub(crate) node: NodeId,
    /// The index of its entry in the node's list, so that leaving a filter with many subscribers is cheap.
    pub(crate) position: u32,
    /// The index of the share group in the node, where it is a shared subscription.
    pub(crate) group: Option<u32>,
    /// Kept by every shard; counts against a quota of its own.
    pub(crate) replicated: bool,
}

/// Retained messages on their way to a new subscription, piece by piece.
#[derive(Clone, Debug)]
pub(crate) struct Replay {
    pub(crate) filter: Box<str>,
    pub(crate) options: SubscriptionOptions,
    pub(crate) subscription_id: Option<NonZeroU32>,
    /// Owners still to be asked, the last one now; each with what it had kept when it had the filter.
    pub(crate) owners: Vec<(ShardId, u64)>,
    pub(crate) after: Option<Box<str>>,
    /// Unsubscribed while an answer is on its way.
    pub(crate) cancelled: bool,
}

/// A SUBSCRIBE whose answer waits for slice owners. One a session: reading pauses meanwhile.
#[derive(Debug)]
pub(crate) struct PendingSubscribe {
    pub(crate) packet_id: u16,
    pub(crate) reasons: Vec<ReasonCode>,
    pub(crate) replays: VecDeque<Replay>,
    /// The last of its subscriptions in the store.
    pub(crate) commit: Commit,
}

/// Rare things of a session, boxed while there are any.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    pub(crate) waiting: VecDeque<Replay>,
    /// A question to another shard is out.
    pub(crate) asked: bool,
    /// Stands in the shard's list of sessions whose replay goes on.
    pub(crate) listed: bool,
}

/// One client's session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: ClientKey,
    pub(crate) index: u32,
    pub(crate) generation: u32,
    pub(crate) connection: Option<ConnectionId>,
    /// Counts connections of this session, so that answers meant for an earlier one are recognised.
    pub(crate) attachment: u32,
    /// Seconds; 0 ends with the connection, `u32::MAX` never.
    pub(crate) expiry_interval: u32,
    /// The smaller of the client's Receive Maximum and our own bound.
    pub(crate) window: u16,
    /// The out-queue of the connection was full; nothing is sent before the driver says it drained.
    pub(crate) blocked: bool,
    /// Why reading pauses; none: it does not.
    pub(crate) paused: PauseReasons,
    /// The packet id of a QoS 2 message of this connection that waits for a credit.
    pub(crate) parked_packet_id: Option<u16>,
    /// The store knows it.
    pub(crate) stored: bool,
    /// Stands in the list of those who send on when the store is further.
    pub(crate) awaits_commit: bool,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) will: Option<Box<Will>>,
    pub(crate) outgoing: Option<Box<Outgoing>>,
    pub(crate) owed: Option<Box<AckRing>>,
    pub(crate) incoming: Option<Box<Incoming>>,
    pub(crate) pending_subscribe: Option<Box<PendingSubscribe>>,
    /// Answers slice owners still owe, also to a SUBSCRIBE of an earlier connection: while one is under way its
    /// filter may stand here and not there, so no SUBACK may leave.
    pub(crate) unanswered: u32,
    pub(crate) replays: Option<Box<Replays>>,
    /// When a session without connection ends, and when its will is published; [`Millis::NEVER`] when not.
    pub(crate) expires_at: Millis,
    pub(crate) will_at: Millis,
    /// Which message was matched last, and where in its list of matches this session stands.
    pub(crate) match_stamp: u32,
    pub(crate) match_slot: u32,
}

/// A set of reasons why a connection is not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PauseReasons(u8);

impl PauseReasons {
    /// A message waits for a credit.
    pub(crate) const CREDIT: PauseReasons = PauseReasons(1);
    /// The ack ring is at its bound.
    pub(crate) const ACK_RING: PauseReasons = PauseReasons(2);
    /// A SUBSCRIBE waits for its owners.
    pub(crate) const SUBSCRIBE: PauseReasons = PauseReasons(4);

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn contains(self, reason: PauseReasons) -> bool {
        self.0 & reason.0 != 0
    }

    /// `true` when this is the first reason.
    pub(crate) fn add(&mut self, reason: PauseReasons) -> bool {
        let first = self.is_empty();
        self.0 |= reason.0;
        first
    }

    /// `true` when it was the last reason.
    pub(crate) fn remove(&mut self, reason: PauseReasons) -> bool {
        let paused = !self.is_empty();
        self.0 &= !reason.0;
        paused && self.is_empty()
    }
}

impl Session {
    pub(crate) fn id(&self) -> SessionId {
        SessionId {
            index: self.index,
            generation: self.generation,
        }
    }

    /// Outlives its connection.
    pub(crate) fn is_durable(&self) -> bool {
        self.expiry_interval > 0
    }

    /// Still has the connection it had then.
    pub(crate) fn is_attached_as(&self, attachment: u32) -> bool {
        self.connection.is_some() && self.attachment == attachment
    }

    pub(crate) fn outgoing(&mut self) -> &mut Outgoing {
        self.outgoing.get_or_insert_default()
    }

    /// Gives boxes back that hold nothing, so that an idle session is small.
    pub(crate) fn tidy(&mut self) {
        if self
            .outgoing
            .as_ref()
            .is_some_and(|outgoing| outgoing.is_idle())
        {
            self.outgoing = None;
        }
        if self.owed.as_ref().is_some_and(|ring| ring.is_empty()) {
            self.owed = None;
        }
    }
}

/// All sessions of a shard, by slot and by client.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_client: HashTable<u32>,
    hasher: RandomState,
}

#[derive(Debug)]
enum Slot {
    Live(Box<Session>),
    /// The generation the next tenant gets.
    Free(u32),
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions {
            slots: Vec::new(),
            free: Vec::new(),
            by_client: HashTable::new(),
            hasher: RandomState::new(),
        }
    }
}

impl Sessions {
    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        match self.slots.get(id.index as usize)? {
            Slot::Live(session) if session.generation == id.generation => Some(session),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, id: SessionId) -> Option<&mut Session> {
        match self.slots.get_mut(id.index as usize)? {
            Slot::Live(session) if session.generation == id.generation => Some(session),
            _ => None,
        }
    }

    /// A session by its index alone, for indexes that are removed when the session ends.
    pub(crate) fn at(&mut self, index: u32) -> &mut Session {
        match &mut self.slots[index as usize] {
            Slot::Live(session) => session,
            Slot::Free(_) => panic!("an entry of the home tree outlived its session"),
        }
    }

    pub(crate) fn find(&self, instance: InstanceId, client_id: &str) -> Option<SessionId> {
        let hash = self.hasher.hash_one((instance, client_id));
        let index = *self.by_client.find(hash, |&index| {
            let client = &self.live(index).client;
            client.instance == instance && *client.client_id == *client_id
        })?;
        Some(self.live(index).id())
    }

    pub(crate) fn insert(&mut self, client: ClientKey) -> SessionId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::Free(0));
            u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 sessions")
        });
        let Slot::Free(generation) = self.slots[index as usize] else {
            panic!("the free list named a live session");
        };
        let hash = self.hasher.hash_one((client.instance, &*client.client_id));
        self.slots[index as usize] = Slot::Live(Box::new(new_session(client, index, generation)));
        let (slots, hasher) = (&self.slots, &self.hasher);
        self.by_client
            .insert_unique(hash, index, |&index| match &slots[index as usize] {
                Slot::Live(session) => {
                    hasher.hash_one((session.client.instance, &*session.client.client_id))
                }
                Slot::Free(_) => unreachable!("only live sessions are in the table"),
            });
        SessionId { index, generation }
    }

    pub(crate) fn remove(&mut self, id: SessionId) -> Option<Box<Session>> {
        self.get(id)?;
        let next = Slot::Free(id.generation.wrapping_add(1));
        let Slot::Live(session) = std::mem::replace(&mut self.slots[id.index as usize], next)
        else {
            return None;
        };
        let hash = self
            .hasher
            .hash_one((session.client.instance, &*session.client.client_id));
        if let Ok(entry) = self.by_client.find_entry(hash, |&index| index == id.index) {
            entry.remove();
        }
        self.free.push(id.index);
        Some(session)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Live(session) => Some(&**session),
            Slot::Free(_) => None,
        })
    }

    fn live(&self, index: u32) -> &Session {
        match &self.slots[index as usize] {
            Slot::Live(session) => session,
            Slot::Free(_) => panic!("the client table named a free slot"),
        }
    }
}

fn new_session(client: ClientKey, index: u32, generation: u32) -> Session {
    Session {
        client,
        index,
        generation,
        connection: None,
        attachment: 0,
        expiry_interval: 0,
        window: 0,
        blocked: false,
        paused: PauseReasons::default(),
        parked_packet_id: None,
        stored: false,
        awaits_commit: false,
        subscriptions: Vec::new(),
        will: None,
        outgoing: None,
        owed: None,
        incoming: None,
        pending_subscribe: None,
        unanswered: 0,
        replays: None,
        expires_at: Millis::NEVER,
        will_at: Millis::NEVER,
        match_stamp: 0,
        match_slot: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(name: &str) -> ClientKey {
        ClientKey {
            instance: InstanceId(0),
            client_id: name.into(),
        }
    }

    #[test]
    fn a_handle_of_a_past_session_finds_nothing() {
        let mut sessions = Sessions::default();
        let old = sessions.insert(client("a"));
        assert_eq!(sessions.find(InstanceId(0), "a"), Some(old));
        assert_eq!(sessions.find(InstanceId(1), "a"), None);
        assert!(sessions.remove(old).is_some());
        let new = sessions.insert(client("b"));
        assert_eq!(new.index, old.index);
        assert!(sessions.get(old).is_none() && sessions.remove(old).is_none());
        assert_eq!(sessions.find(InstanceId(0), "a"), None);
        assert!(sessions.get(new).is_some());
    }
}
