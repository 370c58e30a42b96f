//! From queue to window to connection: how deliveries leave a session.

use tidegate_codec::{Ack, Delivery, Millis, Qos, ReasonCode};

use super::inflight::{InFlight, Inflight, Stage};
use super::offline_queue::{OfflineQueue, Queued};
use super::Session;
use crate::commits::Commits;
use crate::config::ShardConfig;
use crate::counters::{Counters, DropReason};
use crate::effects::{DeliveryOutcome, Effects};
use crate::key::{ClientKey, ConnectionId};
use crate::planted::{is_planted, Defect};
use crate::restore::Taken;
use crate::store_op::{Commit, CommitSequence, ExchangeId, StoreOp, StoredDelivery};

/// What a session has not got rid of yet. Boxed while it holds anything.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) inflight: Inflight,
    pub(crate) queue: OfflineQueue,
    pub(crate) next_sequence: u64,
    /// Messages of exchanges that were open when the process ended which the session had already: each is sent
    /// on once more, and not taken again.
    pub(crate) taken: Vec<Taken>,
}

impl Outgoing {
    /// Messages in the queue and in the window.
    fn held(&self) -> (usize, usize) {
        (self.queue.len(), self.inflight.len())
    }

    fn take_sequence(&mut self) -> u64 {
        self.next_sequence += 1;
        self.next_sequence - 1
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.inflight.is_empty() && self.queue.is_empty() && self.taken.is_empty()
    }
}

/// What sending needs besides the session.
pub(crate) struct Sending<'a, E> {
    pub(crate) now: Millis,
    pub(crate) config: &'a ShardConfig,
    pub(crate) counters: &'a mut Counters,
    pub(crate) commits: &'a mut Commits,
    pub(crate) fx: &'a mut E,
}

/// One delivery a session is offered, before anything is copied for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer<'a> {
    pub(crate) message: &'a tidegate_codec::Message,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) subscription_ids: &'a [u32],
    pub(crate) group: Option<&'a std::rc::Rc<crate::envelope::GroupName>>,
    /// Asked for at the pace of the session, so even QoS 0 waits instead of being dropped.
    pub(crate) paced: bool,
    pub(crate) exchange: Option<&'a ExchangeId>,
}

impl Offer<'_> {
    fn enqueue<'b>(&'b self, client: &'b ClientKey, sequence: u64) -> StoreOp<'b> {
        StoreOp::Enqueue {
            client,
            sequence,
            delivery: StoredDelivery {
                message: self.message,
                qos: self.qos,
                retain: self.retain,
                subscription_ids: self.subscription_ids,
                group: self.group.map(|group| &**group),
            },
            exchange: self.exchange.copied(),
        }
    }

    fn queued(&self, sequence: u64) -> Queued {
        Queued {
            message: self.message.clone(),
            qos: self.qos,
            retain: self.retain,
            subscription_ids: super::offline_queue::SubscriptionIds::from_slice(
                self.subscription_ids,
            ),
            group: self.group.cloned(),
            sequence,
        }
    }
}

impl Session {
    /// Sends at once where nothing waits before it, else queues. Answers when the session is responsible for it.
    pub(crate) fn offer<E: Effects>(&mut self, offer: Offer<'_>, s: &mut Sending<'_, E>) -> Commit {
        if offer.message.expired(s.now) {
            s.counters.drop_one(DropReason::Expired);
            return Commit::Done;
        }
        if self.took(&offer) {
            return Commit::Done;
        }
        let waits = self
            .outgoing
            .as_ref()
            .is_some_and(|outgoing| !outgoing.queue.is_empty());
        match self.connection {
            Some(connection) if !waits => match offer.qos {
                Qos::AtMostOnce => self.offer_qos0(connection, offer, s),
                _ => self.offer_acknowledged(connection, offer, s),
            },
            Some(_) => self.enqueue(offer, s),
            // QoS 0 is for those who are there [MQTT-3.1.2-5 leaves it to the server].
            None if offer.qos == Qos::AtMostOnce => Commit::Done,
            None => self.enqueue(offer, s),
        }
    }

    fn offer_qos0<E: Effects>(
        &mut self,
        connection: ConnectionId,
        offer: Offer<'_>,
        s: &mut Sending<'_, E>,
    ) -> Commit {
        let outcome = match self.blocked {
            true => DeliveryOutcome::Full,
            false => s.fx.deliver(connection, &offer_delivery(&offer, 0, s.now)),
        };
        match outcome {
            DeliveryOutcome::Written => {}
            DeliveryOutcome::TooLarge => s.counters.drop_one(DropReason::PacketTooLarge),
            DeliveryOutcome::Full => {
                self.blocked = true;
                if offer.paced {
                    return self.enqueue(offer, s);
                }
                s.counters.drop_one(DropReason::SlowSubscriber);
            }
        }
        Commit::Done
    }

    /// Whether the session had this message before the process started. It comes again once.
    fn took(&mut self, offer: &Offer<'_>) -> bool {
        let (Some(outgoing), Some(exchange)) = (&mut self.outgoing, offer.exchange) else {
            return false;
        };
        let group = offer.group.map(|group| &**group);
        let same = |taken: &Taken| taken.exchange == *exchange && taken.group.as_ref() == group;
        let at = outgoing.taken.iter().position(same);
        at.map(|at| outgoing.taken.swap_remove(at)).is_some()
    }

    fn offer_acknowledged<E: Effects>(
        &mut self,
        connection: ConnectionId,
        offer: Offer<'_>,
        s: &mut Sending<'_, E>,
    ) -> Commit {
        let (blocked, window, durable) = (
            self.blocked,
            usize::from(self.window),
            self.is_durable() && s.fx.is_durable(),
        );
        let outgoing = self.outgoing.get_or_insert_default();
        let inflight = &mut outgoing.inflight;
        if blocked || inflight.len() >= window || !inflight.all_sent() {
            return self.enqueue(offer, s);
        }
        let packet_id = inflight.next_packet_id();
        if durable && offer.qos == Qos::ExactlyOnce {
            let sequence = outgoing.take_sequence();
            let queued = offer.queued(sequence);
            s.fx.store(offer.enqueue(&self.client, sequence));
            let commit = self.assign_packet_id(packet_id, queued, s);
            self.pump(s);
            return commit;
        }
        match s
            .fx
            .deliver(connection, &offer_delivery(&offer, packet_id, s.now))
        {
            DeliveryOutcome::Written => {}
            DeliveryOutcome::TooLarge => {
                s.counters.drop_one(DropReason::PacketTooLarge);
                return Commit::Done;
            }
            DeliveryOutcome::Full => {
                self.blocked = true;
                return self.enqueue(offer, s);
            }
        }
        let sequence = outgoing.take_sequence();
        outgoing
            .inflight
            .push_sent(packet_id, offer.queued(sequence));
        if !durable {
            return Commit::Done;
        }
        let client = &self.client;
        s.fx.store(offer.enqueue(client, sequence));
        s.fx.store(StoreOp::AssignPacketId {
            client,
            sequence,
            packet_id,
        })
    }

    /// A durable session's delivery enters the window. A QoS 2 packet id leaves once the store has it.
    fn assign_packet_id<E: Effects>(
        &mut self,
        packet_id: u16,
        queued: Queued,
        s: &mut Sending<'_, E>,
    ) -> Commit {
        let (client, sequence) = (&self.client, queued.sequence);
        let commit = s.fx.store(StoreOp::AssignPacketId {
            client,
            sequence,
            packet_id,
        });
        let leaves_after = match queued.qos {
            Qos::ExactlyOnce if !is_planted(Defect::UnstoredPacketId) => s.commits.pending(commit),
            _ => None,
        };
        let inflight = &mut self.outgoing().inflight;
        inflight.push_unsent(packet_id, queued, leaves_after);
        commit
    }

    /// Puts it behind everything that waits; at the bound the oldest goes.
    fn enqueue<E: Effects>(&mut self, offer: Offer<'_>, s: &mut Sending<'_, E>) -> Commit {
        let size = offer.message.size() as u64;
        if s.counters.queued_bytes + size > s.config.memory_bytes_max {
            s.counters.drop_one(DropReason::MemoryBudget);
            return Commit::Done;
        }
        let durable = self.is_durable() && s.fx.is_durable();
        let outgoing = self.outgoing.get_or_insert_default();
        let full = |queue: &OfflineQueue| {
            queue.len() >= s.config.queue_messages_max as usize
                || queue.bytes() + size > s.config.queue_bytes_max
        };
        if offer.qos == Qos::AtMostOnce && full(&outgoing.queue) {
            // QoS 0 must not push out what was acknowledged to its publisher.
            s.counters.drop_one(DropReason::SlowSubscriber);
            return Commit::Done;
        }
        while full(&outgoing.queue) {
            let Some(oldest) = outgoing.queue.pop() else {
                s.counters.drop_one(DropReason::QueueFull);
                return Commit::Done;
            };
            leave_queue(&oldest, s.counters);
            s.counters.drop_one(DropReason::QueueFull);
            if durable && oldest.qos > Qos::AtMostOnce {
                let sequence = oldest.sequence;
                s.fx.store(StoreOp::Dequeue {
                    client: &self.client,
                    sequence,
                });
            }
        }
        let sequence = outgoing.take_sequence();
        s.counters.queued_messages += 1;
        s.counters.queued_bytes += size;
        let mut queued = offer.queued(sequence);
        // What waits is not measured as a delivery: its time is the client's, not ours.
        queued.message.stamp_read_at(0);
        outgoing.queue.push(queued);
        if !durable || offer.qos == Qos::AtMostOnce {
            return Commit::Done;
        }
        s.fx.store(offer.enqueue(&self.client, sequence))
    }

    /// Sends what the window and the out-queue allow: first what an earlier connection left unacknowledged, in
    /// its order and with DUP [MQTT-4.4.0-1], [MQTT-4.6.0-1], then what waits.
    pub(crate) fn pump<E: Effects>(&mut self, s: &mut Sending<'_, E>) {
        let Some(connection) = self.connection else {
            return;
        };
        let Some(outgoing) = &self.outgoing else {
            return;
        };
        if self.blocked {
            return;
        }
        let waited = !outgoing.queue.is_empty();
        self.blocked = loop {
            let before = self.outgoing().held();
            self.fill_window(s);
            if !(self.send_window(connection, s) && self.send_qos0(connection, s)) {
                break true;
            }
            // What expired in the window or is too large made room for more.
            if self.outgoing().held() == before {
                break false;
            }
        };
        if waited {
            self.tidy();
        }
    }

    /// Gives packet ids to what waits at the front of the queue, as far as the window allows.
    fn fill_window<E: Effects>(&mut self, s: &mut Sending<'_, E>) {
        let window = usize::from(self.window);
        let durable = self.is_durable() && s.fx.is_durable();
        loop {
            let outgoing = self.outgoing();
            let next = outgoing.queue.front().map(|front| front.qos);
            let acknowledged = next.is_some_and(|qos| qos > Qos::AtMostOnce);
            if !acknowledged || outgoing.inflight.len() >= window {
                return;
            }
            let Some(queued) = outgoing.queue.pop() else {
                return;
            };
            leave_queue(&queued, s.counters);
            let packet_id = outgoing.inflight.next_packet_id();
            if !durable {
                outgoing.inflight.push_unsent(packet_id, queued, None);
            } else if queued.message.expired(s.now) {
                s.counters.drop_one(DropReason::Expired);
                self.dequeue(queued.sequence, s);
            } else {
                self.assign_packet_id(packet_id, queued, s);
            }
        }
    }

    /// Sends what the window holds and this connection has not sent. `false`: the out-queue is full.
    fn send_window<E: Effects>(
        &mut self,
        connection: ConnectionId,
        s: &mut Sending<'_, E>,
    ) -> bool {
        let window = usize::from(self.window);
        loop {
            let inflight = &mut self.outgoing().inflight;
            let Some(flying) = inflight.next_unsent() else {
                return true;
            };
            if inflight.sent_count() >= window {
                return true;
            }
            if let Some(sequence) = flying.leaves_after.filter(|&wait| !s.commits.hold(wait)) {
                self.wait_for_commit(sequence, s);
                return true;
            }
            let sequence = flying.sequence();
            match send_flying(connection, flying, s) {
                Some(DeliveryOutcome::Written) => {
                    inflight.mark_sent();
                    continue;
                }
                Some(DeliveryOutcome::Full) => return false,
                Some(DeliveryOutcome::TooLarge) => s.counters.drop_one(DropReason::PacketTooLarge),
                None => s.counters.drop_one(DropReason::Expired),
            }
            inflight.drop_next_unsent();
            self.dequeue(sequence, s);
        }
    }

    fn wait_for_commit<E>(&mut self, sequence: CommitSequence, s: &mut Sending<'_, E>) {
        if !std::mem::replace(&mut self.awaits_commit, true) {
            s.commits.wait(sequence, self.id());
        }
    }

    /// Sends QoS 0 that waited for everything before it. `false`: the out-queue is full.
    fn send_qos0<E: Effects>(&mut self, connection: ConnectionId, s: &mut Sending<'_, E>) -> bool {
        let outgoing = self.outgoing();
        while outgoing.inflight.all_sent() {
            let front = outgoing.queue.front();
            let Some(front) = front.filter(|front| front.qos == Qos::AtMostOnce) else {
                return true;
            };
            if front.message.expired(s.now) {
                s.counters.drop_one(DropReason::Expired);
            } else {
                match s.fx.deliver(connection, &delivery(front, 0, s.now)) {
                    DeliveryOutcome::Written => {}
                    DeliveryOutcome::TooLarge => s.counters.drop_one(DropReason::PacketTooLarge),
                    DeliveryOutcome::Full => return false,
                }
            }
            if let Some(queued) = outgoing.queue.pop() {
                leave_queue(&queued, s.counters);
            }
        }
        true
    }

    /// The store may forget a message of a durable session.
    fn dequeue<E: Effects>(&self, sequence: u64, s: &mut Sending<'_, E>) {
        if self.is_durable() && s.fx.is_durable() {
            let client = &self.client;
            s.fx.store(StoreOp::Dequeue { client, sequence });
        }
    }
}

/// `None`: it expired before it was sent once.
fn send_flying<E: Effects>(
    connection: ConnectionId,
    flying: &InFlight,
    s: &mut Sending<'_, E>,
) -> Option<DeliveryOutcome> {
    let (packet_id, dup) = (flying.packet_id, flying.tried);
    match &flying.stage {
        Stage::Published(queued) if !dup && queued.message.expired(s.now) => None,
        Stage::Published(queued) => {
            let delivery = Delivery {
                dup,
                ..delivery(queued, packet_id, s.now)
            };
            Some(s.fx.deliver(connection, &delivery))
        }
        Stage::Released { .. } => {
            let reason = ReasonCode::Success;
            s.fx.acknowledge(connection, &Ack::PubRel { packet_id, reason });
            Some(DeliveryOutcome::Written)
        }
    }
}

/// Takes a message that left a queue out of the totals.
pub(crate) fn leave_queue(queued: &Queued, counters: &mut Counters) {
    counters.queued_messages -= 1;
    counters.queued_bytes -= queued.message.size() as u64;
}

fn offer_delivery<'a>(offer: &Offer<'a>, packet_id: u16, now: Millis) -> Delivery<'a> {
    Delivery {
        message: offer.message,
        qos: offer.qos,
        retain: offer.retain,
        dup: false,
        packet_id,
        subscription_ids: offer.subscription_ids,
        expiry_seconds: offer.message.expiry_seconds(now),
    }
}

fn delivery(queued: &Queued, packet_id: u16, now: Millis) -> Delivery<'_> {
    Delivery {
        message: &queued.message,
        qos: queued.qos,
        retain: queued.retain,
        dup: false,
        packet_id,
        subscription_ids: queued.subscription_ids.as_slice(),
        expiry_seconds: queued.message.expiry_seconds(now),
    }
}
