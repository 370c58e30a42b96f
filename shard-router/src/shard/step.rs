//! One turn of a shard's mind: envelopes, timers, paced work, lanes.

use tidegate_codec::{Millis, Qos};

use super::{AfterCommit, Progress, Shard, Step};
use crate::counters::DropReason;
use crate::effects::Effects;
use crate::envelope::{Answers, Envelope, MemberChange, SharedDelivery};
use crate::key::{SessionId, ShardId};
use crate::planted::{is_planted, Defect};
use crate::store_op::{Commit, CommitSequence};

/// Timers fired, and sessions given a piece of a replay, in one turn.
const PACED_PER_TURN: usize = 256;
/// A shard with envelopes in front of a full mailbox looks again after this long; the receiver, which is behind,
/// has no time to ring back.
const OVERFLOW_RETRY_MS: u64 = 1;

impl Shard {
    /// One turn: takes envelopes, lets due timers fire, posts what waits, rings the doorbells of receivers.
    pub fn step(&mut self, now: Millis, step: Step, fx: &mut impl Effects) -> Progress {
        for _ in 0..step.envelopes_max {
            let Some((from, envelope)) = self.inbox.take() else {
                break;
            };
            self.receive(now, from, envelope, fx);
        }
        let timers_due = self.fire_timers(now, PACED_PER_TURN, fx);
        let replays_left = self.step_replays(now, PACED_PER_TURN, fx);
        self.unpark(now, fx);
        self.flush_lanes();
        // Credits of this shard's own that came free in its lanes let others of its publishers go on.
        self.unpark(now, fx);
        self.flush_lanes();
        Progress {
            busy: timers_due || replays_left || self.lanes.has_answers() || !self.inbox.is_empty(),
        }
    }

    fn flush_lanes(&mut self) {
        let (own, mut own_released) = (self.id, 0);
        let mut others = Vec::new();
        self.lanes.flush(|publisher| {
            if publisher == own {
                own_released += 1;
            } else {
                others.push(publisher);
            }
        });
        self.credits.give_back(own, own_released);
        for publisher in others {
            self.lanes.answers(publisher).credits += 1;
        }
    }

    /// When [`Shard::step`] has something to do even if nothing comes in.
    pub fn poll_timeout(&self, now: Millis) -> Millis {
        let timer = self.timers.first().map_or(Millis::NEVER, |&(at, _)| at);
        if !self.replaying.is_empty() {
            return now;
        }
        if self.lanes.overflow() > 0 {
            return timer.min(now + OVERFLOW_RETRY_MS);
        }
        timer
    }

    /// The out-queue of this session's connection has drained after
    /// [`DeliveryOutcome::Full`](crate::DeliveryOutcome).
    pub fn writable(&mut self, now: Millis, id: SessionId, fx: &mut impl Effects) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.blocked = false;
            self.pump(now, id, fx);
            self.continue_replay(id);
        }
    }

    /// Everything up to this operation is on disk.
    pub fn committed(&mut self, now: Millis, upto: CommitSequence, fx: &mut impl Effects) {
        self.commits.advance(upto);
        while self
            .awaiting_commit
            .front()
            .is_some_and(|(sequence, _)| self.commits.hold(*sequence))
        {
            let Some((_, after)) = self.awaiting_commit.pop_front() else {
                break;
            };
            self.go_on(now, after, fx);
        }
        while let Some(id) = self.commits.next_sender() {
            if let Some(session) = self.sessions.get_mut(id) {
                session.awaits_commit = false;
            }
            self.pump(now, id, fx);
            self.continue_replay(id);
        }
    }

    /// Goes on once `commit` holds, at once where it does already.
    pub(super) fn after(
        &mut self,
        now: Millis,
        commit: Commit,
        after: AfterCommit,
        fx: &mut impl Effects,
    ) {
        let early = is_planted(Defect::AnswerBeforeCommit) && matches!(after, AfterCommit::Held(_));
        match self.commits.pending(commit).filter(|_| !early) {
            Some(sequence) => {
                self.last_awaited = self.last_awaited.max(Some(sequence));
                self.awaiting_commit.push_back((sequence, after));
            }
            None => self.go_on(now, after, fx),
        }
    }

    /// The last operation somebody waited for. What an earlier connection's packet changed is not after it.
    pub(super) fn last_awaited(&self) -> Commit {
        self.last_awaited.map_or(Commit::Done, Commit::Pending)
    }

    fn go_on(&mut self, now: Millis, after: AfterCommit, fx: &mut impl Effects) {
        match after {
            AfterCommit::Held(ticket) => self.answer_held(now, ticket, fx),
            AfterCommit::Dispatch(parked) => self.dispatch(now, *parked, fx),
            AfterCommit::Reply {
                session,
                attachment,
                reply,
            } => self.reply(session, attachment, &reply, fx),
            AfterCommit::Settled(completed) => self.settle(completed, fx),
            AfterCommit::Will(routed) => self.publish_own(now, *routed, fx),
        }
    }

    fn receive(&mut self, now: Millis, from: ShardId, envelope: Envelope, fx: &mut impl Effects) {
        match envelope {
            Envelope::Publish(routed) => {
                let topic = routed.message.topic();
                debug_assert_eq!(self.placement.slice_owner(routed.instance, topic), self.id);
                let places = self.decide(now, &routed, false, from, fx);
                if let Some(ticket) = routed.ticket {
                    self.answer_routed(now, ticket, places, fx);
                }
            }
            Envelope::PointToPoint(routed) => {
                let places = self.decide(now, &routed, true, from, fx);
                if let Some(ticket) = routed.ticket {
                    self.answer_routed(now, ticket, places, fx);
                }
            }
            Envelope::Deliver(routed) => {
                if !self.deliver_here(now, &routed, fx) {
                    // Its last subscriber left while the message was on its way: nobody is owed it any more.
                    self.hold(now, routed.ticket, Commit::Done, fx);
                }
            }
            Envelope::DeliverShared(shared) => {
                if let Err(shared) = self.deliver_to_member(now, shared, fx) {
                    self.return_shared(from, shared);
                }
            }
            Envelope::ReturnShared(shared) => self.redistribute(now, shared, fx),
            Envelope::Answers(answers) => self.take_answers(now, from, *answers, fx),
            Envelope::Subscribe {
                instance,
                filter,
                session,
                again,
            } => {
                if !again {
                    self.slice.subscribe(instance, &filter, from);
                }
                let until = self.retained.kept();
                self.lanes
                    .post(from, Envelope::Subscribed { session, until });
            }
            Envelope::Unsubscribe { instance, filter } => {
                self.slice.unsubscribe(instance, &filter, from);
            }
            Envelope::Member {
                instance,
                group,
                change,
                session,
            } => {
                self.groups
                    .change(instance, &group.filter, &group.share_name, from, change);
                if change == MemberChange::Joined {
                    let until = self.retained.kept();
                    self.lanes
                        .post(from, Envelope::Subscribed { session, until });
                }
            }
            Envelope::Subscribed { session, until } => {
                self.subscribed(now, session, (from, until), fx);
            }
            Envelope::RetainedQuery(query) => {
                let piece = self.answer_query(now, *query, fx);
                self.lanes
                    .post(from, Envelope::RetainedPiece(Box::new(piece)));
            }
            Envelope::RetainedPiece(piece) => self.take_piece(now, *piece, fx),
        }
    }

    /// Gives a share group's message back to the owner that sent it; QoS 0 only if there is room.
    fn return_shared(&mut self, owner: ShardId, shared: Box<SharedDelivery>) {
        let droppable = shared.routed.message.qos() == Qos::AtMostOnce;
        let envelope = Envelope::ReturnShared(shared);
        if !droppable {
            self.lanes.post(owner, envelope);
        } else if !self.lanes.post_or_drop(owner, envelope) {
            self.counters.drop_one(DropReason::MailboxFull);
        }
    }

    fn take_answers(
        &mut self,
        now: Millis,
        from: ShardId,
        answers: Answers,
        fx: &mut impl Effects,
    ) {
        self.credits.give_back(from, answers.credits);
        for (ticket, places) in answers.routed {
            if let Some(completed) = self.tickets.routed(ticket, places) {
                self.complete(now, completed, fx);
            }
        }
        for ticket in answers.held {
            if let Some(completed) = self.tickets.held(ticket) {
                self.complete(now, completed, fx);
            }
        }
    }

    /// Where a session lives, if it still does: for assertions of drivers.
    pub fn is_live(&self, id: SessionId) -> bool {
        self.sessions.get(id).is_some()
    }
}
