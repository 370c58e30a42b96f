//! Everything that may cross a shard border, as one enum.
//!
//! Three classes (ARCHITECTURE.md, "Queues"): QoS 0 is dropped where the way is full; QoS 1 and 2 hold a credit;
//! everything else is control, never dropped, and bounded because each originator has one outstanding.

use tidegate_codec::Message;

use crate::key::{InstanceId, SessionId, ShardId};
use crate::store_op::ExchangeId;
use crate::ticket::Ticket;

/// The session a message came from, for No Local. Its shard is where it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub shard: ShardId,
    pub session: SessionId,
}

/// A message on its way, with what must travel along.
#[derive(Clone, Debug)]
pub struct Routed {
    pub instance: InstanceId,
    pub message: Message,
    /// `None` for wills and other messages no session publishes.
    pub origin: Option<Origin>,
    /// `None` where nobody waits for an acknowledgement.
    pub ticket: Option<Ticket>,
    /// Set where the store has the message until everybody it is for has it; boxed, because most have none.
    pub exchange: Option<Box<ExchangeId>>,
}

/// Which members of a share group live where: a message for the group, and who it is.
#[derive(Clone, Debug)]
pub struct SharedDelivery {
    pub routed: Routed,
    pub group: GroupName,
    /// How often a shard without members gave it back.
    pub returns: u8,
}

/// A share group: its share name and its filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupName {
    pub share_name: Box<str>,
    pub filter: Box<str>,
}

/// What happened to a shard's members of a share group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A subscription was made, by a client that is here.
    Joined,
    Left {
        /// Its client was here until now.
        online: bool,
    },
    /// A member's client came back.
    Online,
    /// A member's client went away; the session stays.
    Offline,
}

/// Answers to what one other shard sent, gathered over a turn.
#[derive(Debug, Default)]
pub struct Answers {
    /// Publish credits given back.
    pub credits: u32,
    /// The owner sent the ticket's message to this many places that will each answer `held`.
    pub routed: Vec<(Ticket, u16)>,
    /// One place took responsibility for the ticket's message.
    pub held: Vec<Ticket>,
}

impl Answers {
    pub(crate) fn is_empty(&self) -> bool {
        self.credits == 0 && self.routed.is_empty() && self.held.is_empty()
    }

    pub(crate) fn append(&mut self, other: &mut Answers) {
        self.credits += std::mem::take(&mut other.credits);
        self.routed.append(&mut other.routed);
        self.held.append(&mut other.held);
    }
}

/// How much of a replay a session takes at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub messages: usize,
    /// A piece ends behind the message that reaches it.
    pub bytes: u64,
}

/// A question for a slice owner: retained messages that match, from a place on.
#[derive(Clone, Debug)]
pub struct RetainedQuery {
    pub instance: InstanceId,
    pub filter: Box<str>,
    /// Topics up to and including this one were answered before.
    pub after: Option<Box<str>>,
    /// What the owner had kept when it had the filter: what it kept later came live.
    pub until: u64,
    pub room: Room,
    /// Who asks; comes back with the answer.
    pub session: SessionId,
}

/// The owner's answer: current values, in order of topic.
#[derive(Debug)]
pub struct RetainedPiece {
    pub session: SessionId,
    pub messages: Vec<Message>,
    /// Ask again from here; `None` when there is no more.
    pub next: Option<Box<str>>,
}

/// Crosses a shard border.
#[derive(Debug)]
pub enum Envelope {
    /// To the slice owner of the topic. QoS 1 and 2 hold a credit of the owner.
    Publish(Routed),
    /// To the home shard of the client the topic names. QoS 1 and 2 hold a credit of that shard.
    PointToPoint(Routed),
    /// From the slice owner to a shard with subscribers.
    Deliver(Routed),
    /// From the slice owner to the shard it picked for a share group.
    DeliverShared(Box<SharedDelivery>),
    /// Back to the slice owner: no member here could take it.
    ReturnShared(Box<SharedDelivery>),
    /// To a slice owner; answered by `Subscribed`.
    Subscribe {
        instance: InstanceId,
        filter: Box<str>,
        session: SessionId,
        /// The owner has the filter of this session: only the answer is wanted.
        again: bool,
    },
    Subscribed {
        session: SessionId,
        /// How many retained messages the owner had ever kept: what it keeps from now on comes live.
        until: u64,
    },
    /// To a slice owner; not answered.
    Unsubscribe {
        instance: InstanceId,
        filter: Box<str>,
    },
    /// To a slice owner. `Joined` is answered by `Subscribed`.
    Member {
        instance: InstanceId,
        group: GroupName,
        change: MemberChange,
        session: SessionId,
    },
    RetainedQuery(Box<RetainedQuery>),
    RetainedPiece(Box<RetainedPiece>),
    Answers(Box<Answers>),
}
