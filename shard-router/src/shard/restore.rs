//! A restart: sessions, filters and retained messages come back from the store; what was on its way goes on.

use std::num::NonZeroU32;
use std::rc::Rc;

use tidegate_codec::{Message, Millis, ReasonCode, TopicFilter};

use super::{Parked, Shard};
use crate::effects::Effects;
use crate::envelope::{MemberChange, Origin, Routed};
use crate::key::{InstanceId, SessionId, ShardId};
use crate::placement::FilterOwner;
use crate::restore::{RestoredDelivery, RestoredIncoming, RestoredSession, RestoredSubscription};
use crate::session::inflight::Stage;
use crate::session::offline_queue::{Queued, SubscriptionIds};
use crate::session::Session;
use crate::ticket::Waiter;

impl Shard {
    /// Takes what concerns this shard of a stored session. Every shard is given every session.
    pub fn restore_session(&mut self, stored: &RestoredSession) {
        let instance = stored.client.instance;
        let home = self
            .placement
            .home_shard(instance, &stored.client.client_id);
        for RestoredSubscription { filter, .. } in &stored.subscriptions {
            self.restore_filter(instance, filter, home);
        }
        if home != self.id {
            return;
        }
        let id = self.sessions.insert(stored.client.clone());
        for subscription in &stored.subscriptions {
            let RestoredSubscription {
                filter,
                options,
                subscription_id,
            } = subscription;
            let owner = self.placement.owner_of_filter(instance, filter.filter());
            let subscription_id = subscription_id.and_then(NonZeroU32::new);
            self.enter_subscription(id, filter, owner, *options, subscription_id);
        }
        for incoming in &stored.incoming {
            self.restore_incoming(id, incoming);
        }
        self.counters.sessions_offline += 1;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.stored = true;
        session.expiry_interval = stored.expiry_seconds;
        if !stored.taken.is_empty() {
            session.outgoing().taken.clone_from(&stored.taken);
        }
        for delivery in &stored.deliveries {
            let bytes = restore_delivery(session, delivery);
            self.counters.queued_messages += u64::from(bytes > 0);
            self.counters.queued_bytes += bytes;
        }
        session.will = stored.will.as_ref().map(|(will, _)| Box::new(will.clone()));
        let will_at = stored.will.as_ref().map_or(Millis::NEVER, |&(_, at)| at);
        self.set_timer(id, stored.expires_at, will_at);
    }

    /// A filter at its slice owner, and a share group's member that is away.
    fn restore_filter(&mut self, instance: InstanceId, filter: &TopicFilter, home: ShardId) {
        let owner = self.placement.owner_of_filter(instance, filter.filter());
        if owner != FilterOwner::All && owner != FilterOwner::One(self.id) {
            return;
        }
        if let Some(share_name) = filter.share_name() {
            for change in [MemberChange::Joined, MemberChange::Offline] {
                let groups = &mut self.groups;
                groups.change(instance, filter.filter(), share_name, home, change);
            }
        } else if home != self.id {
            self.slice.subscribe(instance, filter.filter(), home);
        }
    }

    fn restore_incoming(&mut self, id: SessionId, incoming: &RestoredIncoming) {
        let &RestoredIncoming {
            packet_id,
            exchange,
            ref message,
        } = incoming;
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let reason = message.is_none().then_some(ReasonCode::Success);
        session
            .incoming
            .get_or_insert_default()
            .restore(packet_id, reason);
        let Some(message) = message else {
            return;
        };
        let (instance, attachment) = (session.client.instance, session.attachment);
        let Ok(destination) = self.destination(instance, message.topic()) else {
            return;
        };
        let origin = Origin {
            shard: self.id,
            session: id,
        };
        let routed = Routed {
            instance,
            message: message.clone(),
            origin: Some(origin),
            ticket: None,
            exchange: Some(Box::new(exchange)),
        };
        let waiter = Waiter {
            session: id,
            attachment,
            packet_id,
            exactly_once: true,
        };
        self.unsettled.push(Parked {
            routed,
            destination,
            waiter: Some(waiter),
            stored: true,
        });
    }

    /// Takes a stored retained message, if this shard owns its topic. Every shard is given every message.
    pub fn restore_retained(&mut self, instance: InstanceId, message: &Message) {
        if self.placement.slice_owner(instance, message.topic()) == self.id {
            self.retained.keep(instance, message);
        }
    }

    /// Everything is back on all shards: QoS 2 messages that had not reached everybody go on. `run` counts the
    /// starts of the process on this store.
    pub fn restored(&mut self, now: Millis, run: u32, fx: &mut impl Effects) {
        self.next_exchange.run = run;
        // In the order in which they came.
        let mut unsettled = std::mem::take(&mut self.unsettled);
        unsettled.sort_by_key(|parked| parked.routed.exchange.clone());
        for parked in unsettled {
            self.send(now, parked, fx);
        }
    }
}

/// Puts a delivery back where it was. Answers the bytes it takes in the queue, 0 where it is in flight.
fn restore_delivery(session: &mut Session, delivery: &RestoredDelivery) -> u64 {
    let sequence = delivery.sequence;
    let outgoing = session.outgoing();
    outgoing.next_sequence = outgoing.next_sequence.max(sequence + 1);
    let Some(message) = &delivery.message else {
        let packet_id = delivery.packet_id.unwrap_or_default();
        outgoing
            .inflight
            .restore(packet_id, Stage::Released { sequence });
        return 0;
    };
    let queued = Queued {
        message: message.clone(),
        qos: delivery.qos,
        retain: delivery.retain,
        subscription_ids: SubscriptionIds::from_slice(&delivery.subscription_ids),
        group: delivery.group.clone().map(Rc::new),
        sequence,
    };
    match delivery.packet_id {
        Some(packet_id) => {
            let inflight = &mut outgoing.inflight;
            inflight.restore(packet_id, Stage::Published(queued));
            0
        }
        None => {
            let bytes = queued.message.size() as u64;
            outgoing.queue.push(queued);
            bytes
        }
    }
}
