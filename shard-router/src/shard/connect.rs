//! Sessions found, made, taken over, left and ended; wills.

use tidegate_codec::{Millis, Qos, ReasonCode};

use super::{AfterCommit, Connected, Connecting, Departure, Shard};
use crate::effects::Effects;
use crate::envelope::{Envelope, MemberChange, Origin, Routed, SharedDelivery};
use crate::key::{ClientKey, ConnectionId, InstanceId, SessionId};
use crate::planted::{is_planted, Defect};
use crate::session::inflight::Stage;
use crate::session::offline_queue::Queued;
use crate::session::outgoing::{leave_queue, Sending};
use crate::session::{PauseReasons, Session};
use crate::store_op::{Commit, StoreOp};

impl Shard {
    /// Gives an authenticated client its session on this, its home shard; a connection that had it loses it with
    /// 0x8E [MQTT-3.1.4-3]. After this the driver writes CONNACK and then calls [`Shard::resume`].
    pub fn connect(
        &mut self,
        now: Millis,
        connection: ConnectionId,
        connecting: Connecting,
        fx: &mut impl Effects,
    ) -> Connected {
        let Connecting {
            instance,
            client_id,
            ..
        } = &connecting;
        debug_assert_eq!(self.placement.home_shard(*instance, client_id), self.id);
        let mut known = self.sessions.find(*instance, client_id);
        if let Some(id) = known {
            self.take_over(now, id, fx);
            // A session that does not outlive its connection ended with the takeover.
            known = self.sessions.get(id).map(|_| id);
        }
        if let (Some(id), true) = (known, connecting.clean_start) {
            self.end_session(now, id, fx);
            known = None;
        }
        let session_present = known.is_some();
        let id = match known {
            Some(id) => {
                self.counters.sessions_offline -= 1;
                self.set_timer(id, Millis::NEVER, Millis::NEVER);
                id
            }
            None => {
                let client = ClientKey {
                    instance: *instance,
                    client_id: client_id.clone(),
                };
                self.sessions.insert(client)
            }
        };
        self.attach(id, connection, connecting, fx);
        if session_present {
            self.tell_groups(now, id, MemberChange::Online, fx);
        }
        Connected {
            session: id,
            session_present,
        }
    }

    fn attach(
        &mut self,
        id: SessionId,
        connection: ConnectionId,
        connecting: Connecting,
        fx: &mut impl Effects,
    ) {
        self.counters.sessions_online += 1;
        let session = self
            .sessions
            .get_mut(id)
            .expect("the session was found or made just now");
        session.connection = Some(connection);
        session.attachment = session.attachment.wrapping_add(1);
        session.window = connecting.receive_maximum.min(self.config.inflight_max);
        // A will of the session's past is void once the client is back [MQTT-3.1.3-9].
        session.will = connecting.will;
        session.expiry_interval = connecting.session_expiry_interval;
        put_session(session, fx);
    }

    /// Ends the connection a session has, if any; then the session too, where it does not outlive it.
    fn take_over(&mut self, now: Millis, id: SessionId, fx: &mut impl Effects) {
        let Some(connection) = self.sessions.get(id).and_then(|session| session.connection) else {
            return;
        };
        self.counters.takeovers_total += 1;
        fx.disconnect(connection, ReasonCode::SessionTakenOver);
        self.leave(now, id, true, fx);
    }

    /// Ends a client's connection, and keeps it from coming in by a CONNECT that was decoded before: the driver asks
    /// [`Shard::is_stale`] before it calls [`Shard::connect`]. Answers whether the client was here.
    pub fn kick(
        &mut self,
        now: Millis,
        instance: InstanceId,
        client_id: &str,
        reason: ReasonCode,
        fx: &mut impl Effects,
    ) -> bool {
        let client = ClientKey {
            instance,
            client_id: client_id.into(),
        };
        self.epochs.raise(now, client);
        let found = self.sessions.find(instance, client_id);
        let here = found.and_then(|id| Some((id, self.sessions.get(id)?.connection?)));
        let Some((id, connection)) = here else {
            return false;
        };
        fx.disconnect(connection, reason);
        self.leave(now, id, true, fx);
        true
    }

    /// Whether a client was kicked since its CONNECT was decoded, and must not come in by it.
    pub fn is_stale(&self, instance: InstanceId, client_id: &str, decoded_at: Millis) -> bool {
        self.epochs.is_stale(instance, client_id, decoded_at)
    }

    /// Sends again what the session had in flight, in order and with DUP, then what waited [MQTT-4.4.0-1].
    pub fn resume(&mut self, now: Millis, session: SessionId, fx: &mut impl Effects) {
        self.pump(now, session, fx);
        self.continue_replay(session);
    }

    pub(super) fn pump(&mut self, now: Millis, session: SessionId, fx: &mut impl Effects) {
        if let Some(session) = self.sessions.get_mut(session) {
            let counters = &mut self.counters;
            session.pump(&mut Sending {
                now,
                config: &self.config,
                counters,
                commits: &mut self.commits,
                fx,
            });
        }
    }

    /// The connection ended. Ignored when the session has a newer connection.
    pub fn disconnected(
        &mut self,
        now: Millis,
        session: SessionId,
        connection: ConnectionId,
        departure: Departure,
        fx: &mut impl Effects,
    ) {
        let Some(left) = self.sessions.get_mut(session) else {
            return;
        };
        if left.connection != Some(connection) {
            return;
        }
        let (with_will, expiry) = match departure {
            Departure::Clean {
                session_expiry_interval,
            } => (false, session_expiry_interval),
            Departure::WithWill {
                session_expiry_interval,
            } => (true, session_expiry_interval),
            Departure::Lost => (true, None),
        };
        if let Some(expiry) = expiry {
            left.expiry_interval = expiry;
        }
        self.leave(now, session, with_will, fx);
    }

    /// Parts a session from its connection, and sets what happens next: its end, its will.
    fn leave(&mut self, now: Millis, id: SessionId, with_will: bool, fx: &mut impl Effects) {
        self.detach(id);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if !with_will {
            session.will = None;
        }
        let expiry = session.expiry_interval;
        if expiry == 0 {
            self.end_session(now, id, fx);
            return;
        }
        self.counters.sessions_offline += 1;
        let expires_at = if expiry == u32::MAX {
            Millis::NEVER
        } else {
            now.plus_seconds(expiry)
        };
        let delay = session.will.as_ref().map(|will| will.delay_interval);
        let will_at = delay.map_or(Millis::NEVER, |seconds| now.plus_seconds(seconds));
        if delay != Some(0) {
            put_session(session, fx);
        }
        self.set_timer(id, expires_at, will_at);
        self.tell_groups(now, id, MemberChange::Offline, fx);
        if delay == Some(0) {
            self.publish_will(now, id, fx);
        }
    }

    /// Forgets everything of a session that belongs to its connection.
    fn detach(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        self.counters.sessions_online -= 1;
        session.connection = None;
        session.blocked = false;
        let paused = std::mem::take(&mut session.paused);
        if !paused.is_empty() {
            self.counters.parked_connections -= 1;
        }
        // The client sends what it waits for again; acknowledgements of the past are void.
        session.owed = None;
        session.pending_subscribe = None;
        if let (Some(packet_id), Some(incoming)) =
            (session.parked_packet_id.take(), &mut session.incoming)
        {
            incoming.release(packet_id);
        }
        if let Some(outgoing) = &mut session.outgoing {
            if !is_planted(Defect::LostRedelivery) {
                outgoing.inflight.forget_sent();
            }
        }
        if is_planted(Defect::ForgottenPacketIds) {
            session.incoming = None;
        }
        session.tidy();
        if paused.contains(PauseReasons::CREDIT) {
            self.forsake_parked();
        }
    }

    /// Files the session under the earlier of both moments.
    pub(super) fn set_timer(&mut self, id: SessionId, expires_at: Millis, will_at: Millis) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        self.timers
            .remove(&(session.expires_at.min(session.will_at), id));
        session.expires_at = expires_at;
        session.will_at = will_at;
        let earlier = expires_at.min(will_at);
        if earlier < Millis::NEVER {
            self.timers.insert((earlier, id));
        }
    }

    /// Lets every due timer fire, at most `budget` of them. `true` when more are due.
    pub(super) fn fire_timers(
        &mut self,
        now: Millis,
        budget: usize,
        fx: &mut impl Effects,
    ) -> bool {
        for _ in 0..budget {
            let Some(&(at, id)) = self.timers.first() else {
                return false;
            };
            if at > now {
                return false;
            }
            let session = self
                .sessions
                .get(id)
                .expect("an ended session takes its timer along");
            if session.expires_at <= now {
                self.counters.sessions_expired_total += 1;
                self.end_session(now, id, fx);
            } else {
                self.publish_will(now, id, fx);
            }
        }
        true
    }

    fn publish_will(&mut self, now: Millis, id: SessionId, fx: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let again = session
            .will
            .clone()
            .filter(|_| is_planted(Defect::WillTwice));
        let (will, expires_at) = (session.will.take(), session.expires_at);
        let instance = session.client.instance;
        let commit = put_session(session, fx);
        session.will = again;
        self.set_timer(id, expires_at, Millis::NEVER);
        if let Some(will) = will {
            // The session may go on, and a will is its own publication [MQTT-3.8.3-3].
            let origin = Some(Origin {
                shard: self.id,
                session: id,
            });
            self.send_will(now, (instance, origin), *will, commit, fx);
        }
    }

    /// Publishes a will that the store forgets with `commit`: a crash in between must not publish it twice.
    fn send_will(
        &mut self,
        now: Millis,
        (instance, origin): (InstanceId, Option<Origin>),
        will: tidegate_codec::mqtt::connect::Will,
        commit: Commit,
        fx: &mut impl Effects,
    ) {
        self.counters.wills_published_total += 1;
        let message = match will.message_expiry_interval {
            Some(seconds) => will.message.with_expiry(now.plus_seconds(seconds)),
            None => will.message,
        };
        let routed = Routed {
            instance,
            message,
            origin,
            ticket: None,
            exchange: None,
        };
        match self.commits.pending(commit) {
            Some(_) => self.after(now, commit, AfterCommit::Will(Box::new(routed)), fx),
            None => self.publish_own(now, routed, fx),
        }
    }

    /// Removes a session with everything it has. Its will, if one waits, is published now [MQTT-3.1.2-8].
    pub(super) fn end_session(&mut self, now: Millis, id: SessionId, fx: &mut impl Effects) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        // One that does not outlive its connection never counted as waiting for its client.
        let was_offline = session.is_durable();
        self.set_timer(id, Millis::NEVER, Millis::NEVER);
        self.remove_all_subscriptions(now, id, fx);
        let Some(mut session) = self.sessions.remove(id) else {
            return;
        };
        if was_offline {
            self.counters.sessions_offline -= 1;
        }
        let mut commit = Commit::Done;
        if session.stored {
            let client = &session.client;
            commit = fx.store(StoreOp::DropSession { client });
        }
        self.give_back_shared(now, &mut session, fx);
        if let Some(will) = session.will.take() {
            self.send_will(now, (session.client.instance, None), *will, commit, fx);
        }
    }

    /// What an ended session had of a share group goes to another member: QoS 1 always, QoS 2 only if it was
    /// never sent [MQTT-4.8.2-4], [MQTT-4.8.2-5].
    fn give_back_shared(&mut self, now: Millis, session: &mut Session, fx: &mut impl Effects) {
        let Some(mut outgoing) = session.outgoing.take() else {
            return;
        };
        let instance = session.client.instance;
        for flying in outgoing.inflight.drain() {
            if let Stage::Published(queued) = flying.stage {
                if queued.qos == Qos::AtLeastOnce {
                    self.return_to_group(now, instance, queued, fx);
                }
            }
        }
        while let Some(queued) = outgoing.queue.pop() {
            leave_queue(&queued, &mut self.counters);
            if queued.qos > Qos::AtMostOnce {
                self.return_to_group(now, instance, queued, fx);
            }
        }
    }

    fn return_to_group(
        &mut self,
        now: Millis,
        instance: InstanceId,
        queued: Queued,
        fx: &mut impl Effects,
    ) {
        let Some(group) = queued.group else {
            return;
        };
        self.counters.shared_redistributed_total += 1;
        let owner = self.placement.slice_owner(instance, queued.message.topic());
        let routed = Routed {
            instance,
            message: queued.message,
            origin: None,
            ticket: None,
            exchange: None,
        };
        let shared = Box::new(SharedDelivery {
            routed,
            group: (*group).clone(),
            returns: 0,
        });
        if owner == self.id {
            self.redistribute(now, shared, fx);
        } else {
            self.lanes.post(owner, Envelope::ReturnShared(shared));
        }
    }

    /// Adds a reason why a session's connection is not read, and says so to the driver with the first.
    pub(super) fn pause(&mut self, id: SessionId, reason: PauseReasons, fx: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if let (true, Some(connection)) = (session.paused.add(reason), session.connection) {
            self.counters.parked_connections += 1;
            self.counters.parked_total += 1;
            fx.pause_reading(connection);
        }
    }

    pub(super) fn unpause(&mut self, id: SessionId, reason: PauseReasons, fx: &mut impl Effects) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if let (true, Some(connection)) = (session.paused.remove(reason), session.connection) {
            self.counters.parked_connections -= 1;
            fx.resume_reading(connection);
        }
    }
}

/// Tells the store of a session that outlives its connection, or no longer does.
fn put_session(session: &mut Session, fx: &mut impl Effects) -> Commit {
    if !fx.is_durable() || !(session.stored || session.is_durable()) {
        return Commit::Done;
    }
    session.stored = true;
    fx.store(StoreOp::PutSession {
        client: &session.client,
        expiry_seconds: session.expiry_interval,
        online: session.connection.is_some(),
        will: session.will.as_deref(),
    })
}
