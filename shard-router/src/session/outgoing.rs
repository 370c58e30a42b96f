//! From queue to window to connection: how deliveries leave a session.

use tidegate_codec::{Ack, Delivery, Millis, Qos, ReasonCode};

use super::inflight::{InFlight, Inflight, Stage};
use super::offline_queue::{OfflineQueue, Queued};
use super::Session;
use crate::config::ShardConfig;
use crate::counters::{Counters, DropReason};
use crate::effects::{DeliveryOutcome, Effects};
use crate::key::ConnectionId;
use crate::store_op::{Commit, StoreOp};

/// What a session has not got rid of yet. Boxed while it holds anything.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    pub(crate) inflight: Inflight,
    pub(crate) queue: OfflineQueue,
    next_sequence: u64,
}

impl Outgoing {
    pub(crate) fn is_idle(&self) -> bool {
        self.inflight.is_empty() && self.queue.is_empty()
    }
}

/// What sending needs besides the session.
pub(crate) struct Sending<'a, E> {
    pub(crate) now: Millis,
    pub(crate) config: &'a ShardConfig,
    pub(crate) counters: &'a mut Counters,
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
}

impl Offer<'_> {
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

    fn offer_acknowledged<E: Effects>(
        &mut self,
        connection: ConnectionId,
        offer: Offer<'_>,
        s: &mut Sending<'_, E>,
    ) -> Commit {
        let (blocked, window, durable) =
            (self.blocked, usize::from(self.window), self.is_durable());
        let outgoing = self.outgoing.get_or_insert_default();
        let inflight = &mut outgoing.inflight;
        if blocked || inflight.len() >= window || !inflight.all_sent() {
            return self.enqueue(offer, s);
        }
        let packet_id = inflight.next_packet_id();
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
        let sequence = outgoing.next_sequence;
        outgoing.next_sequence += 1;
        outgoing
            .inflight
            .push_sent(packet_id, offer.queued(sequence));
        if !(durable && s.fx.is_durable()) {
            return Commit::Done;
        }
        let client = &self.client;
        s.fx.store(StoreOp::Enqueue {
            client,
            sequence,
            qos: offer.qos,
            message: offer.message,
        });
        s.fx.store(StoreOp::AssignPacketId {
            client,
            sequence,
            packet_id,
        })
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
        let sequence = outgoing.next_sequence;
        outgoing.next_sequence += 1;
        s.counters.queued_messages += 1;
        s.counters.queued_bytes += size;
        let mut queued = offer.queued(sequence);
        // What waits is not measured as a delivery: its time is the client's, not ours.
        queued.message.stamp_read_at(0);
        outgoing.queue.push(queued);
        if !durable || offer.qos == Qos::AtMostOnce {
            return Commit::Done;
        }
        let (client, qos, message) = (&self.client, offer.qos, offer.message);
        s.fx.store(StoreOp::Enqueue {
            client,
            sequence,
            qos,
            message,
        })
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
        self.blocked = !(self.resend(connection, s) && self.send_queued(connection, s));
        if waited {
            self.tidy();
        }
    }

    /// `false`: the out-queue is full.
    fn resend<E: Effects>(&mut self, connection: ConnectionId, s: &mut Sending<'_, E>) -> bool {
        let window = usize::from(self.window);
        let inflight = &mut self.outgoing().inflight;
        while inflight.sent_count() < window {
            let Some(InFlight { packet_id, stage }) = inflight.next_unsent() else {
                return true;
            };
            let packet_id = *packet_id;
            let outcome = match stage {
                Stage::Published(queued) => {
                    let delivery = Delivery {
                        dup: true,
                        ..delivery(queued, packet_id, s.now)
                    };
                    s.fx.deliver(connection, &delivery)
                }
                Stage::Released { .. } => {
                    let reason = ReasonCode::Success;
                    s.fx.acknowledge(connection, &Ack::PubRel { packet_id, reason });
                    DeliveryOutcome::Written
                }
            };
            match outcome {
                DeliveryOutcome::Written => inflight.mark_sent(),
                DeliveryOutcome::Full => return false,
                DeliveryOutcome::TooLarge => {
                    s.counters.drop_one(DropReason::PacketTooLarge);
                    inflight.drop_next_unsent();
                }
            }
        }
        true
    }

    /// `false`: the out-queue is full.
    fn send_queued<E: Effects>(
        &mut self,
        connection: ConnectionId,
        s: &mut Sending<'_, E>,
    ) -> bool {
        let window = usize::from(self.window);
        let durable = self.is_durable() && s.fx.is_durable();
        let outgoing = self.outgoing.get_or_insert_default();
        while let Some(front) = outgoing.queue.front() {
            let acknowledged = front.qos > Qos::AtMostOnce;
            let room = outgoing.inflight.all_sent() && outgoing.inflight.len() < window;
            if acknowledged && !room {
                return true;
            }
            let mut packet_id = 0;
            let outcome = if front.message.expired(s.now) {
                s.counters.drop_one(DropReason::Expired);
                None
            } else {
                if acknowledged {
                    packet_id = outgoing.inflight.next_packet_id();
                }
                Some(s.fx.deliver(connection, &delivery(front, packet_id, s.now)))
            };
            if outcome == Some(DeliveryOutcome::Full) {
                return false;
            }
            let Some(queued) = outgoing.queue.pop() else {
                return true;
            };
            leave_queue(&queued, s.counters);
            let (client, sequence) = (&self.client, queued.sequence);
            if acknowledged && outcome == Some(DeliveryOutcome::Written) {
                outgoing.inflight.push_sent(packet_id, queued);
                if durable {
                    s.fx.store(StoreOp::AssignPacketId {
                        client,
                        sequence,
                        packet_id,
                    });
                }
            } else if acknowledged && durable {
                s.fx.store(StoreOp::Dequeue { client, sequence });
            }
            if outcome == Some(DeliveryOutcome::TooLarge) {
                s.counters.drop_one(DropReason::PacketTooLarge);
            }
        }
        true
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
