//! What clients say about packet ids: PUBACK, PUBREC, PUBREL, PUBCOMP (MQTT 5 section 4.3).

use tidegate_codec::{Millis, Qos, ReasonCode};

use super::{AfterCommit, Reply, Shard};
use crate::effects::Effects;
use crate::key::SessionId;
use crate::session::inflight::Recorded;
use crate::store_op::{Commit, StoreOp};

impl Shard {
    /// The client releases a QoS 2 message [MQTT-4.3.3-11].
    pub fn pubrel(
        &mut self,
        now: Millis,
        id: SessionId,
        packet_id: u16,
        _reason: ReasonCode,
        fx: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let known = session
            .incoming
            .as_mut()
            .is_some_and(|incoming| incoming.release(packet_id));
        let reason = if known {
            ReasonCode::Success
        } else {
            ReasonCode::PacketIdentifierNotFound
        };
        let mut commit = Commit::Done;
        let attachment = session.attachment;
        if fx.is_durable() && session.is_durable() {
            let client = &session.client;
            if known {
                commit = fx.store(StoreOp::DropIncoming { client, packet_id });
            } else {
                // It may have been released on an earlier connection and the store not know that yet: the client
                // must not use the id anew before it does.
                commit = self.last_awaited();
            }
        }
        let reply = Reply::PubComp { packet_id, reason };
        let after = AfterCommit::Reply {
            session: id,
            attachment,
            reply,
        };
        self.after(now, commit, after, fx);
    }

    /// The client has a QoS 1 message.
    pub fn puback(
        &mut self,
        now: Millis,
        id: SessionId,
        packet_id: u16,
        _reason: ReasonCode,
        fx: &mut impl Effects,
    ) {
        self.acknowledged(now, id, packet_id, Qos::AtLeastOnce, fx);
    }

    /// The client has a QoS 2 message, or refuses it; either way it is not sent again.
    pub fn pubrec(
        &mut self,
        now: Millis,
        id: SessionId,
        packet_id: u16,
        reason: ReasonCode,
        fx: &mut impl Effects,
    ) {
        if reason.is_error() {
            self.acknowledged(now, id, packet_id, Qos::ExactlyOnce, fx);
            return;
        }
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let attachment = session.attachment;
        let inflight = session.outgoing.as_mut().map(|o| &mut o.inflight);
        let recorded = inflight.and_then(|inflight| inflight.release(packet_id));
        let reason = match recorded {
            Some(_) => ReasonCode::Success,
            None => ReasonCode::PacketIdentifierNotFound,
        };
        let mut commit = Commit::Done;
        if let Some(Recorded::Now(queued)) = &recorded {
            if fx.is_durable() && session.is_durable() {
                let (client, sequence) = (&session.client, queued.sequence);
                commit = fx.store(StoreOp::Release { client, sequence });
            }
        }
        if let Some(sequence) = self.commits.pending(commit) {
            let inflight = &mut session.outgoing().inflight;
            inflight.delay_release(packet_id, sequence);
        }
        let reply = Reply::PubRel { packet_id, reason };
        let after = AfterCommit::Reply {
            session: id,
            attachment,
            reply,
        };
        self.after(now, commit, after, fx);
    }

    /// The exchange of a QoS 2 message is over.
    pub fn pubcomp(
        &mut self,
        now: Millis,
        id: SessionId,
        packet_id: u16,
        _reason: ReasonCode,
        fx: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let completed = session
            .outgoing
            .as_mut()
            .and_then(|o| o.inflight.complete(packet_id));
        let Some(sequence) = completed else {
            return;
        };
        if fx.is_durable() && session.is_durable() {
            fx.store(StoreOp::Dequeue {
                client: &session.client,
                sequence,
            });
        }
        self.window_opened(now, id, fx);
    }

    fn acknowledged(
        &mut self,
        now: Millis,
        id: SessionId,
        packet_id: u16,
        qos: Qos,
        fx: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let outgoing = session.outgoing.as_mut();
        let Some(queued) = outgoing.and_then(|o| o.inflight.acknowledge(packet_id, qos)) else {
            return;
        };
        if fx.is_durable() && session.is_durable() {
            let (client, sequence) = (&session.client, queued.sequence);
            fx.store(StoreOp::Dequeue { client, sequence });
        }
        self.window_opened(now, id, fx);
    }

    fn window_opened(&mut self, now: Millis, id: SessionId, fx: &mut impl Effects) {
        self.pump(now, id, fx);
        self.continue_replay(id);
    }
}
