//! [`Shard`]: one shard's mind, and the verbs a driver calls.
//!
//! | file | what it holds |
//! | --- | --- |
//! | [`connect`] | sessions found, made, taken over, left, ended; wills |
//! | [`acknowledge`] | PUBACK, PUBREC, PUBREL, PUBCOMP of clients |
//! | [`publish`] | from a publisher to the slice owner and back: credits, tickets, acknowledgements |
//! | [`deliver`] | from the slice owner to sessions; share groups |
//! | [`subscribe`] | subscriptions at home and at the owner |
//! | [`replay`] | retained messages for new subscriptions, in paced pieces |
//! | [`restore`] | what the store kept, after a restart |
//! | [`step`] | one turn: envelopes, timers, lanes |
//! | [`census`] | what is there, for tests |

mod acknowledge;
mod census;
mod connect;
mod deliver;
mod publish;
mod replay;
mod restore;
mod step;
mod subscribe;

use std::collections::{BTreeSet, VecDeque};

use tidegate_codec::mqtt::connect::Will;
use tidegate_codec::{Millis, ReasonCode};

pub use census::Census;

use crate::commits::Commits;
use crate::config::ShardConfig;
use crate::counters::Counters;
use crate::credit::{Credits, Lanes};
use crate::envelope::{Envelope, Routed};
use crate::epoch::Epochs;
use crate::home::{HomeTree, Matches};
use crate::key::{InstanceId, SessionId, ShardId};
use crate::mailbox::{Inbox, Mailboxes};
use crate::placement::Placement;
use crate::retained::Retained;
use crate::session::Sessions;
use crate::shared_group::SharedGroups;
use crate::slice::Slice;
use crate::store_op::{Commit, CommitSequence, ExchangeId};
use crate::ticket::{Completed, Ticket, Tickets, Waiter};

/// A client that is authenticated and wants its session.
#[derive(Debug)]
pub struct Connecting {
    pub instance: InstanceId,
    pub client_id: Box<str>,
    pub clean_start: bool,
    /// Seconds, already capped; 0 ends the session with its connection, `u32::MAX` never.
    pub session_expiry_interval: u32,
    /// The client's Receive Maximum.
    pub receive_maximum: u16,
    pub will: Option<Box<Will>>,
}

/// A session was found or made, and now belongs to the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connected {
    pub session: SessionId,
    pub session_present: bool,
}

/// How a connection ended, as far as its session cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// DISCONNECT with reason 0: the will is dropped.
    Clean {
        session_expiry_interval: Option<u32>,
    },
    /// DISCONNECT with reason 4: the will is published.
    WithWill {
        session_expiry_interval: Option<u32>,
    },
    /// The connection broke, timed out or was closed for a violation: the will is published.
    Lost,
}

/// The bounds of one [`Shard::step`].
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Envelopes to take from the mailbox at most.
    pub envelopes_max: usize,
}

/// What a step left over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Call again without sleeping: more envelopes or paced work wait.
    pub busy: bool,
}

/// Where a message goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Destination {
    shard: ShardId,
    /// To a client by its id, past the subscription table.
    point_to_point: bool,
}

/// A message that waits for a credit of its destination.
#[derive(Debug)]
struct Parked {
    routed: Routed,
    destination: Destination,
    /// `None` for wills.
    waiter: Option<Waiter>,
    /// The store has it: it goes on even if its client is gone.
    stored: bool,
}

/// What happens once an operation of the store holds.
#[derive(Debug)]
enum AfterCommit {
    Held(Ticket),
    /// A QoS 2 message whose packet id is safe now; its credit is held.
    Dispatch(Box<Parked>),
    Reply {
        session: SessionId,
        attachment: u32,
        reply: Reply,
    },
    /// A publisher's QoS 2 message is with everybody it is for.
    Settled(Completed),
    /// The store forgot a will, which is published now.
    Will(Box<Routed>),
}

/// An answer to a client that follows a commit.
#[derive(Debug)]
enum Reply {
    SubAck {
        packet_id: u16,
        reasons: Vec<ReasonCode>,
    },
    UnsubAck {
        packet_id: u16,
        reasons: Vec<ReasonCode>,
    },
    PubRel {
        packet_id: u16,
        reason: ReasonCode,
    },
    PubComp {
        packet_id: u16,
        reason: ReasonCode,
    },
}

/// One shard's sessions and slice. Owned by one thread; see the crate for what goes in and out.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    placement: Placement,
    config: ShardConfig,
    counters: Counters,
    inbox: Inbox<Envelope>,
    lanes: Lanes,
    credits: Credits,
    /// By destination. At most one message a connection, whose reading pauses, and one will a session.
    parked: Vec<VecDeque<Parked>>,
    /// Parked messages whose connection is gone: at most as many as wait, and a few.
    forsaken: usize,
    tickets: Tickets,
    sessions: Sessions,
    home: HomeTree,
    matches: Matches,
    /// Subscription identifiers of the delivery at hand; kept to reuse its memory.
    ids: Vec<u32>,
    slice: Slice,
    /// Shards the message at hand is for; kept to reuse its memory.
    found_shards: Vec<ShardId>,
    groups: SharedGroups,
    retained: Retained,
    /// When the store knows of the last retained message that was cleared.
    cleared: Commit,
    /// Sessions without a connection, by the moment they end or publish their will.
    timers: BTreeSet<(Millis, SessionId)>,
    /// Sessions with a replay that may go on now. Each stands here once at most.
    replaying: VecDeque<SessionId>,
    /// Nearly in order of the sequence; what stands behind a later one waits a little longer than it must.
    /// Bounded by what holds a credit or has its reading paused.
    awaiting_commit: VecDeque<(CommitSequence, AfterCommit)>,
    last_awaited: Option<CommitSequence>,
    commits: Commits,
    /// The next of this shard's QoS 2 exchanges that the store is told of.
    next_exchange: ExchangeId,
    /// Exchanges that were open when the process ended, until they are sent on.
    unsettled: Vec<Parked>,
    epochs: Epochs,
}

impl Shard {
    pub fn new(
        id: ShardId,
        placement: Placement,
        config: ShardConfig,
        mailboxes: Mailboxes<Envelope>,
    ) -> Self {
        let shards = usize::from(placement.shards());
        assert_eq!(
            mailboxes.outboxes.len(),
            shards,
            "a mesh has an outbox a shard"
        );
        Shard {
            id,
            counters: Counters::default(),
            inbox: mailboxes.inbox,
            lanes: Lanes::new(mailboxes.outboxes),
            credits: Credits::new(shards, config.publish_credits),
            parked: (0..shards).map(|_| VecDeque::new()).collect(),
            forsaken: 0,
            tickets: Tickets::default(),
            sessions: Sessions::default(),
            home: HomeTree::default(),
            matches: Matches::default(),
            ids: Vec::new(),
            slice: Slice::default(),
            found_shards: Vec::new(),
            groups: SharedGroups::default(),
            retained: Retained::new(config.retained_messages_max, config.retained_bytes_max),
            cleared: Commit::Done,
            timers: BTreeSet::new(),
            replaying: VecDeque::new(),
            awaiting_commit: VecDeque::new(),
            last_awaited: None,
            commits: Commits::default(),
            next_exchange: ExchangeId {
                run: 0,
                shard: id,
                number: 0,
            },
            unsettled: Vec::new(),
            epochs: Epochs::default(),
            placement,
            config,
        }
    }

    pub fn id(&self) -> ShardId {
        self.id
    }

    /// Nothing waits in the mailbox; the condition for [`Doorbell::doze`](crate::Doorbell::doze).
    pub fn mailbox_is_empty(&self) -> bool {
        self.inbox.is_empty()
    }

    pub fn mailbox_depth(&self) -> usize {
        self.inbox.depth()
    }

    /// Totals, brought up to date.
    pub fn counters(&mut self) -> &Counters {
        self.counters.retained_messages = self.retained.len() as u64;
        self.counters.retained_bytes = self.retained.bytes();
        self.counters.overflow = self.lanes.overflow() as u64;
        self.counters.posted.clear();
        self.counters.posted.extend(self.lanes.posted());
        &self.counters
    }

    fn is_alone(&self) -> bool {
        self.placement.shards() == 1
    }
}
