//! Retained messages for new subscriptions: asked of the slice owners piece by piece, as fast as the session
//! gets rid of them.

use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::{Message, Millis};

use super::Shard;
use crate::config::ShardConfig;
use crate::effects::Effects;
use crate::envelope::{Envelope, RetainedPiece, RetainedQuery, Room};
use crate::key::SessionId;
use crate::session::outgoing::{Offer, Sending};
use crate::session::Session;
use crate::store_op::{Commit, StoreOp};

/// Messages in one piece of a replay, which goes on while fewer wait in the session's queue.
const PIECE_MESSAGES: usize = 64;

impl Shard {
    /// Lets a session's replay go on at the next turn, if it has one and may.
    pub(super) fn continue_replay(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let may_ask = may_ask(session, room(&self.config));
        if let (true, Some(replays)) = (may_ask, &mut session.replays) {
            if !std::mem::replace(&mut replays.listed, true) {
                self.replaying.push_back(id);
            }
        }
    }

    /// Gives up to `budget` sessions one piece each. `true` when more can go on.
    pub(super) fn step_replays(
        &mut self,
        now: Millis,
        budget: usize,
        fx: &mut impl Effects,
    ) -> bool {
        for _ in 0..budget.min(self.replaying.len()) {
            let Some(id) = self.replaying.pop_front() else {
                break;
            };
            if let Some(replays) = self.sessions.get_mut(id).and_then(|s| s.replays.as_mut()) {
                replays.listed = false;
            }
            self.replay(now, id, fx);
        }
        !self.replaying.is_empty()
    }

    /// Asks for the next piece; where this shard owns the topics itself, it comes at once.
    pub(super) fn replay(&mut self, now: Millis, id: SessionId, fx: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let room = room(&self.config);
        if !may_ask(session, room) {
            return;
        }
        let instance = session.client.instance;
        let Some(replays) = &mut session.replays else {
            return;
        };
        let Some(replay) = replays.waiting.front() else {
            session.replays = None;
            return;
        };
        let Some(&(owner, until)) = replay.owners.last() else {
            replays.waiting.pop_front();
            self.continue_replay(id);
            return;
        };
        let (filter, after) = (replay.filter.clone(), replay.after.clone());
        replays.asked = true;
        let query = RetainedQuery {
            instance,
            filter,
            after,
            until,
            room,
            session: id,
        };
        if owner == self.id {
            let piece = self.answer_query(now, query, fx);
            self.take_piece(now, piece, fx);
        } else {
            let query = Envelope::RetainedQuery(Box::new(query));
            self.lanes.post(owner, query);
        }
    }

    /// On the owner: answers what it has at this moment.
    pub(super) fn answer_query(
        &mut self,
        now: Millis,
        query: RetainedQuery,
        fx: &mut impl Effects,
    ) -> RetainedPiece {
        let RetainedQuery {
            instance,
            filter,
            after,
            until,
            room,
            session,
        } = query;
        let (messages, next) =
            self.retained
                .piece(now, instance, &filter, after.as_deref(), until, room);
        for topic in self.retained.take_expired() {
            if fx.is_durable() {
                let topic = &topic;
                self.cleared = fx.store(StoreOp::DropRetained { instance, topic });
            }
        }
        RetainedPiece {
            session,
            messages,
            next,
        }
    }

    /// At home: hands a piece to the session it was asked for.
    pub(super) fn take_piece(&mut self, now: Millis, piece: RetainedPiece, fx: &mut impl Effects) {
        let RetainedPiece {
            session: id,
            messages,
            next,
        } = piece;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let Some(replays) = &mut session.replays else {
            return;
        };
        replays.asked = false;
        let Some(replay) = replays.waiting.front_mut() else {
            return;
        };
        if std::mem::take(&mut replay.cancelled) {
            replays.waiting.pop_front();
            self.continue_replay(id);
            return;
        }
        if next.is_none() {
            replay.owners.pop();
        }
        replay.after = next;
        let (options, subscription_id) = (replay.options, replay.subscription_id);
        if replay.owners.is_empty() {
            replays.waiting.pop_front();
        }
        self.ids.clear();
        self.ids.extend(subscription_id.map(|id| id.get()));
        for message in &messages {
            let offer = retained_offer(message, options, &self.ids);
            let counters = &mut self.counters;
            let mut sending = Sending {
                now,
                config: &self.config,
                counters,
                commits: &mut self.commits,
                fx,
            };
            // Nobody waits for a ticket here; a durable session's queue row follows by itself.
            let _: Commit = session.offer(offer, &mut sending);
        }
        self.continue_replay(id);
    }

    /// The filter was unsubscribed: nothing more of its replay is sent.
    pub(super) fn cancel_replay(&mut self, id: SessionId, filter: &str) {
        let replays = self
            .sessions
            .get_mut(id)
            .and_then(|session| session.replays.as_mut());
        let Some(replays) = replays else {
            return;
        };
        let asked = replays.asked;
        let mut first = true;
        replays.waiting.retain_mut(|replay| {
            let answer_comes = asked && std::mem::take(&mut first);
            let same = *replay.filter == *filter;
            replay.cancelled |= same && answer_comes;
            // One whose answer is on its way stays until it is here, to take it.
            !same || answer_comes
        });
    }
}

/// What is asked for at a time. Half of what a queue holds: a piece and what waits before it never reach its
/// bound, so that a replay pushes nothing out, not even of itself.
fn room(config: &ShardConfig) -> Room {
    let half = (config.queue_messages_max as usize / 2).max(1);
    Room {
        messages: half.min(PIECE_MESSAGES),
        bytes: config.queue_bytes_max / 2,
    }
}

/// There is something to ask, no question is out, and the session gets rid of what it has.
fn may_ask(session: &Session, room: Room) -> bool {
    let asks = session
        .replays
        .as_ref()
        .is_some_and(|replays| !replays.asked);
    let has_room = session.outgoing.as_ref().is_none_or(|outgoing| {
        outgoing.queue.len() < room.messages && outgoing.queue.bytes() < room.bytes
    });
    asks && session.connection.is_some() && !session.blocked && has_room
}

/// RETAIN is set on what a new subscription gets, whatever Retain As Published says [MQTT-3.3.1-8].
fn retained_offer<'a>(
    message: &'a Message,
    options: SubscriptionOptions,
    subscription_ids: &'a [u32],
) -> Offer<'a> {
    let qos = message.qos().min(options.maximum_qos);
    Offer {
        message,
        qos,
        retain: true,
        subscription_ids,
        group: None,
        paced: true,
        exchange: None,
    }
}
