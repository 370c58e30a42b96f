//! From a publisher to the slice owner and back: rights, credits, tickets, acknowledgements in order.

use std::collections::VecDeque;

use tidegate_codec::mqtt::connection::Publish;
use tidegate_codec::{topic, Millis, Qos, ReasonCode};

use super::{AfterCommit, Destination, Parked, Shard};
use crate::counters::DropReason;
use crate::effects::Effects;
use crate::envelope::{Envelope, Origin, Routed};
use crate::key::{InstanceId, SessionId, ShardId};
use crate::planted::{is_planted, Defect};
use crate::retained::Kept;
use crate::session::incoming::Known;
use crate::session::PauseReasons;
use crate::store_op::{Commit, StoreOp};
use crate::ticket::{Completed, Ticket, Waiter};

/// So many messages of connections that are gone may stand among those that wait for a credit.
const FORSAKEN_MAX: usize = 16;

/// Topics that go to one client by its id.
pub(super) const POINT_TO_POINT: &str = "$p2p/";

/// Why a message goes nowhere, and what its publisher is told.
type Refusal = (DropReason, ReasonCode);

impl Shard {
    /// A client publishes. The acknowledgement follows through [`Effects::acknowledge`], in order of receipt.
    pub fn publish(&mut self, now: Millis, id: SessionId, publish: Publish, fx: &mut impl Effects) {
        let Publish {
            message, packet_id, ..
        } = publish;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let qos = message.qos();
        if qos == Qos::ExactlyOnce {
            let known = session.incoming.get_or_insert_default().receive(packet_id);
            if let Known::Again(reason) = known {
                let ring = session.owed.get_or_insert_default();
                ring.owe(packet_id, true, true, reason);
                self.flush_acks(id, fx);
                self.bound_acks(id, fx);
                return;
            }
        }
        let instance = session.client.instance;
        let attachment = session.attachment;
        let waiter = (qos > Qos::AtMostOnce).then_some(Waiter {
            session: id,
            attachment,
            packet_id,
            exactly_once: qos == Qos::ExactlyOnce,
        });
        let destination = match self.destination(instance, message.topic()) {
            Ok(destination) => destination,
            Err((dropped, reason)) => {
                self.counters.drop_one(dropped);
                if let Some(waiter) = waiter {
                    self.owe(waiter, Some(reason));
                    self.complete(now, (waiter, reason), fx);
                }
                return;
            }
        };
        let origin = Some(Origin {
            shard: self.id,
            session: id,
        });
        let routed = Routed {
            instance,
            message,
            origin,
            ticket: None,
            exchange: None,
        };
        self.send(
            now,
            Parked {
                routed,
                destination,
                waiter,
                stored: false,
            },
            fx,
        );
    }

    /// Publishes what no client waits for: a will.
    pub(super) fn publish_own(&mut self, now: Millis, routed: Routed, fx: &mut impl Effects) {
        match self.destination(routed.instance, routed.message.topic()) {
            Ok(destination) => self.send(
                now,
                Parked {
                    routed,
                    destination,
                    waiter: None,
                    stored: false,
                },
                fx,
            ),
            Err((dropped, _)) => self.counters.drop_one(dropped),
        }
    }

    pub(super) fn destination(
        &self,
        instance: InstanceId,
        name: &str,
    ) -> Result<Destination, Refusal> {
        let denied = |filter: &tidegate_codec::TopicFilter| topic::matches(filter.filter(), name);
        if self.config.denied.iter().any(denied) {
            return Err((DropReason::NotAuthorized, ReasonCode::NotAuthorized));
        }
        if let Some(client_id) = name.strip_prefix(POINT_TO_POINT) {
            let shard = self.placement.home_shard(instance, client_id);
            return Ok(Destination {
                shard,
                point_to_point: true,
            });
        }
        if name.starts_with('$') {
            // Not an error: 3.1.1 has no way to say no, and MQTT 5 lets a server keep `$` topics to itself.
            return Err((DropReason::DollarTopic, ReasonCode::NoMatchingSubscribers));
        }
        let shard = self.placement.slice_owner(instance, name);
        Ok(Destination {
            shard,
            point_to_point: false,
        })
    }

    /// Sends a message on its way, or parks it where QoS 1 and 2 find no credit.
    pub(super) fn send(&mut self, now: Millis, parked: Parked, fx: &mut impl Effects) {
        let Some(waiter) = parked.waiter.filter(|_| !parked.stored) else {
            if parked.routed.message.qos() == Qos::AtMostOnce || self.take_credit(&parked) {
                self.dispatch(now, parked, fx);
            } else {
                self.park(parked);
            }
            return;
        };
        if self.take_credit(&parked) {
            self.dispatch_for(now, parked, waiter, fx);
            return;
        }
        if let (true, Some(session)) = (waiter.exactly_once, self.sessions.get_mut(waiter.session))
        {
            session.parked_packet_id = Some(waiter.packet_id);
        }
        self.park(parked);
        self.pause(waiter.session, PauseReasons::CREDIT, fx);
    }

    /// Those who wait already go first.
    fn take_credit(&mut self, parked: &Parked) -> bool {
        let through = parked.destination.shard;
        self.parked[through.index()].is_empty() && self.credits.take(through)
    }

    fn park(&mut self, parked: Parked) {
        self.parked[parked.destination.shard.index()].push_back(parked);
    }

    /// Sends on what waited for credits that have come back.
    pub(super) fn unpark(&mut self, now: Millis, fx: &mut impl Effects) {
        for through in 0..self.parked.len() {
            let shard = ShardId(through as u16);
            while !self.parked[through].is_empty() && self.credits.any(shard) {
                let Some(parked) = self.parked[through].pop_front() else {
                    break;
                };
                let Some(waiter) = parked.waiter.filter(|_| !parked.stored) else {
                    self.credits.take(shard);
                    self.dispatch(now, parked, fx);
                    continue;
                };
                // The client of a connection that is gone sends it again.
                let session = self.sessions.get_mut(waiter.session);
                let Some(session) = session.filter(|s| s.is_attached_as(waiter.attachment)) else {
                    self.forsaken = self.forsaken.saturating_sub(1);
                    continue;
                };
                session.parked_packet_id = None;
                self.credits.take(shard);
                self.dispatch_for(now, parked, waiter, fx);
                if !is_planted(Defect::StuckPublisher) {
                    self.unpause(waiter.session, PauseReasons::CREDIT, fx);
                }
            }
        }
    }

    /// A parked message lost its connection, whose client will send it again. Such messages are skipped when their
    /// turn comes; before they are more than those that wait, all are taken out.
    pub(super) fn forsake_parked(&mut self) {
        self.forsaken += 1;
        let parked: usize = self.parked.iter().map(VecDeque::len).sum();
        if self.forsaken < FORSAKEN_MAX || self.forsaken * 2 < parked {
            return;
        }
        self.forsaken = 0;
        let sessions = &self.sessions;
        for queue in &mut self.parked {
            queue.retain(|parked| {
                let publisher = parked.waiter.filter(|_| !parked.stored);
                publisher.is_none_or(|waiter| {
                    let session = sessions.get(waiter.session);
                    session.is_some_and(|session| session.is_attached_as(waiter.attachment))
                })
            });
        }
    }

    /// Owes the acknowledgement, makes the packet id of QoS 2 safe, then dispatches. A credit is held.
    fn dispatch_for(
        &mut self,
        now: Millis,
        mut parked: Parked,
        waiter: Waiter,
        fx: &mut impl Effects,
    ) {
        self.owe(waiter, None);
        self.bound_acks(waiter.session, fx);
        if waiter.exactly_once && fx.is_durable() {
            let commit = self.put_incoming(&mut parked, waiter, fx);
            let dispatch = AfterCommit::Dispatch(Box::new(parked));
            return self.after(now, commit, dispatch, fx);
        }
        self.dispatch(now, parked, fx);
    }

    /// At the bound of its ack ring a connection is not read.
    fn bound_acks(&mut self, id: SessionId, fx: &mut impl Effects) {
        let ring = self
            .sessions
            .get(id)
            .and_then(|session| session.owed.as_ref());
        if ring.is_some_and(|ring| ring.len() >= usize::from(self.config.receive_maximum)) {
            self.pause(id, PauseReasons::ACK_RING, fx);
        }
    }

    fn put_incoming(
        &mut self,
        parked: &mut Parked,
        waiter: Waiter,
        fx: &mut impl Effects,
    ) -> Commit {
        let Some(session) = self.sessions.get_mut(waiter.session) else {
            return Commit::Done;
        };
        let incoming = session.incoming.get_or_insert_default();
        if session.expiry_interval == 0 {
            // Where it was durable until its last connection, what that one published goes first.
            return incoming.leaves_after;
        }
        incoming.note_stored(waiter.packet_id);
        let exchange = self.next_exchange;
        self.next_exchange.number += 1;
        parked.routed.exchange = Some(Box::new(exchange));
        parked.stored = true;
        let commit = fx.store(StoreOp::PutIncoming {
            client: &session.client,
            packet_id: waiter.packet_id,
            exchange,
            message: &parked.routed.message,
        });
        incoming.leaves_after = commit;
        commit
    }

    /// To the shard that decides, with a ticket where someone waits.
    pub(super) fn dispatch(&mut self, now: Millis, parked: Parked, fx: &mut impl Effects) {
        let Parked {
            mut routed,
            destination,
            waiter,
            ..
        } = parked;
        if self.is_alone() && !fx.is_durable() {
            // Nothing can be outstanding, so the outcome is known without a ticket.
            let places = self.decide(now, &routed, destination.point_to_point, self.id, fx);
            if let Some(waiter) = waiter {
                self.complete(now, (waiter, reason_for(places)), fx);
            }
            return;
        }
        routed.ticket = waiter.map(|waiter| self.tickets.issue(self.id, waiter));
        if destination.shard == self.id {
            let places = self.decide(now, &routed, destination.point_to_point, self.id, fx);
            if let Some(ticket) = routed.ticket {
                self.answer_routed(now, ticket, places, fx);
            }
            return;
        }
        let droppable = routed.message.qos() == Qos::AtMostOnce;
        let envelope = match destination.point_to_point {
            true => Envelope::PointToPoint(routed),
            false => Envelope::Publish(routed),
        };
        if !droppable {
            self.lanes.post(destination.shard, envelope);
        } else if !self.lanes.post_or_drop(destination.shard, envelope) {
            self.counters.drop_one(DropReason::MailboxFull);
        }
    }

    /// Decides, on the shard that may, where a message goes, and sends it there. Gives the publisher's credit back
    /// when it has left. Answers to how many places it went, each of which answers `held`.
    pub(super) fn decide(
        &mut self,
        now: Millis,
        routed: &Routed,
        point_to_point: bool,
        publisher: ShardId,
        fx: &mut impl Effects,
    ) -> u16 {
        let mut release = None;
        let mut places = 0;
        if point_to_point {
            places += self.deliver_to_client(now, routed, fx);
        } else {
            if routed.message.retain() {
                let commit = self.keep_retained(routed, fx);
                if self.commits.pending(commit).is_some() {
                    // The retained store is one more place that has to hold the message.
                    places += 1;
                    self.hold(now, routed.ticket, commit, fx);
                }
            }
            places += self.fan_out(now, routed, publisher, &mut release, fx);
        }
        if routed.message.qos() > Qos::AtMostOnce && release.is_none() {
            self.release_credit(publisher);
        }
        places
    }

    pub(super) fn release_credit(&mut self, publisher: ShardId) {
        if publisher == self.id {
            self.credits.give_back(self.id, 1);
        } else {
            self.lanes.answers(publisher).credits += 1;
        }
    }

    fn keep_retained(&mut self, routed: &Routed, fx: &mut impl Effects) -> Commit {
        let (instance, message) = (routed.instance, &routed.message);
        let kept = self.retained.keep(instance, message);
        if kept == Kept::Full {
            self.counters.drop_one(DropReason::RetainedFull);
        }
        if !fx.is_durable() {
            return Commit::Done;
        }
        match kept {
            Kept::Stored => fx.store(StoreOp::PutRetained { instance, message }),
            Kept::Cleared => {
                let topic = message.topic();
                self.cleared = fx.store(StoreOp::DropRetained { instance, topic });
                self.cleared
            }
            // It may have been cleared a moment ago, and still be in the store.
            Kept::Nothing => self.cleared,
            Kept::Full => Commit::Done,
        }
    }

    /// The owner's answer to a ticket, to whichever shard issued it. Follows what the store was told before.
    pub(super) fn answer_routed(
        &mut self,
        now: Millis,
        ticket: Ticket,
        places: u16,
        fx: &mut impl Effects,
    ) {
        if ticket.shard != self.id {
            let answers = self.lanes.answers(ticket.shard);
            answers.routed.push((ticket, places));
        } else if let Some(completed) = self.tickets.routed(ticket, places) {
            self.complete(now, completed, fx);
        }
    }

    /// This shard is responsible for a ticket's message from now on, or once `commit` holds.
    pub(super) fn hold(
        &mut self,
        now: Millis,
        ticket: Option<Ticket>,
        commit: Commit,
        fx: &mut impl Effects,
    ) {
        if let Some(ticket) = ticket {
            self.after(now, commit, AfterCommit::Held(ticket), fx);
        }
    }

    pub(super) fn answer_held(&mut self, now: Millis, ticket: Ticket, fx: &mut impl Effects) {
        if ticket.shard != self.id {
            self.lanes.answers(ticket.shard).held.push(ticket);
        } else if let Some(completed) = self.tickets.held(ticket) {
            self.complete(now, completed, fx);
        }
    }

    fn owe(&mut self, waiter: Waiter, reason: Option<ReasonCode>) {
        if let Some(session) = self.sessions.get_mut(waiter.session) {
            let ring = session.owed.get_or_insert_default();
            ring.owe(waiter.packet_id, waiter.exactly_once, false, reason);
        }
    }

    /// A ticket is complete. What the store has of it is settled before anybody is told.
    pub(super) fn complete(&mut self, now: Millis, completed: Completed, fx: &mut impl Effects) {
        let (waiter, _) = completed;
        let Some(session) = self.sessions.get(waiter.session) else {
            return;
        };
        let packet_id = waiter.packet_id;
        let incoming = session.incoming.as_ref().filter(|_| waiter.exactly_once);
        let mut commit = Commit::Done;
        if incoming.is_some_and(|incoming| incoming.is_stored(packet_id)) && session.is_durable() {
            let client = &session.client;
            commit = fx.store(StoreOp::SettleIncoming { client, packet_id });
        }
        self.after(now, commit, AfterCommit::Settled(completed), fx);
    }

    /// The acknowledgement may leave when its turn comes.
    pub(super) fn settle(&mut self, (waiter, reason): Completed, fx: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(waiter.session) else {
            return;
        };
        let (packet_id, exactly_once) = (waiter.packet_id, waiter.exactly_once);
        if exactly_once {
            if let Some(incoming) = &mut session.incoming {
                incoming.settle(packet_id, reason);
            }
        }
        // A QoS 2 message that was repeated on a new connection is owed there; QoS 1 was sent anew as another.
        if exactly_once || session.is_attached_as(waiter.attachment) {
            if let Some(ring) = &mut session.owed {
                ring.settle(packet_id, exactly_once, reason);
            }
            self.flush_acks(waiter.session, fx);
        }
    }

    /// Lets acknowledgements leave, oldest first, up to the first that is open.
    fn flush_acks(&mut self, id: SessionId, fx: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let (Some(ring), Some(connection)) = (&mut session.owed, session.connection) else {
            return;
        };
        while let Some(ack) = ring.pop() {
            fx.acknowledge(connection, &ack);
        }
        if ring.len() < usize::from(self.config.receive_maximum) {
            self.unpause(id, PauseReasons::ACK_RING, fx);
        }
    }
}

/// What a publisher is told when its message went to so many places.
fn reason_for(places: u16) -> ReasonCode {
    match places {
        0 => ReasonCode::NoMatchingSubscribers,
        _ => ReasonCode::Success,
    }
}
