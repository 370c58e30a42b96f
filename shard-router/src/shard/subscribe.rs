//! Subscriptions: entered at home first, then at the slice owner, then acknowledged.
//!
//! So everything that is published after a SUBACK finds the filter at both places.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use tidegate_codec::mqtt::subscribe::{
    RequestedSubscription, RetainHandling, Subscribe, SubscriptionOptions, Unsubscribe,
};
use tidegate_codec::topic::{self, TopicFilter};
use tidegate_codec::{Ack, Millis, Qos, ReasonCode};

use super::{AfterCommit, Reply, Shard};
use crate::effects::Effects;
use crate::envelope::{Envelope, GroupName, MemberChange};
use crate::home::Subscriber;
use crate::key::{InstanceId, SessionId, ShardId};
use crate::placement::FilterOwner;
use crate::planted::{is_planted, Defect};
use crate::session::{PauseReasons, PendingSubscribe, Replay, Subscription};
use crate::store_op::{Commit, StoreOp};

/// What one filter of a SUBSCRIBE came to.
struct Granted {
    reason: ReasonCode,
    /// Shards that have to answer before SUBACK.
    outstanding: u32,
    replay: Option<Replay>,
}

impl Shard {
    /// A client subscribes. SUBACK follows when every slice owner has the filters; reading pauses meanwhile, so
    /// a session has one SUBSCRIBE outstanding.
    pub fn subscribe(
        &mut self,
        now: Millis,
        id: SessionId,
        subscribe: Subscribe,
        fx: &mut impl Effects,
    ) {
        if self.sessions.get(id).is_none() {
            return;
        }
        let mut outstanding = 0;
        let mut pending = PendingSubscribe {
            packet_id: subscribe.packet_id,
            reasons: Vec::with_capacity(subscribe.subscriptions.len()),
            replays: VecDeque::new(),
            commit: Commit::Done,
        };
        let subscription_id = subscribe.subscription_id.and_then(NonZeroU32::new);
        for requested in &subscribe.subscriptions {
            let granted = self.subscribe_one(id, requested, subscription_id, fx);
            pending.reasons.push(granted.reason);
            outstanding += granted.outstanding;
            pending.replays.extend(granted.replay);
            if !granted.reason.is_error() {
                pending.commit = self.put_subscription(id, requested, subscription_id, fx);
            }
        }
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.unanswered += outstanding;
        if session.unanswered == 0 || is_planted(Defect::EarlySubAck) {
            self.finish_subscribe(now, id, pending, fx);
            return;
        }
        session.pending_subscribe = Some(Box::new(pending));
        self.pause(id, PauseReasons::SUBSCRIBE, fx);
    }

    fn subscribe_one(
        &mut self,
        id: SessionId,
        requested: &RequestedSubscription,
        subscription_id: Option<NonZeroU32>,
        fx: &mut impl Effects,
    ) -> Granted {
        let refused = |reason| Granted {
            reason,
            outstanding: 0,
            replay: None,
        };
        let Ok(filter) = &requested.filter else {
            return refused(ReasonCode::TopicFilterInvalid);
        };
        if self.is_denied(filter) {
            return refused(ReasonCode::NotAuthorized);
        }
        let instance = self.instance_of(id);
        let owner = self.placement.owner_of_filter(instance, filter.filter());
        let options = requested.options;
        let existed = self.replace_subscription(id, filter, options, subscription_id);
        if !existed {
            if self.over_quota(id, owner) {
                return refused(ReasonCode::QuotaExceeded);
            }
            self.enter_subscription(id, filter, owner, options, subscription_id);
        }
        let replay = wants_retained(filter, options, existed).then(|| Replay {
            filter: filter.filter().into(),
            options,
            subscription_id,
            owners: self.replay_owners(owner),
            after: None,
            cancelled: false,
        });
        let mut outstanding = 0;
        if !existed || replay.is_some() {
            outstanding = self.tell_owners(instance, id, filter, owner, existed, fx);
        }
        let reason = match options.maximum_qos {
            Qos::AtMostOnce => ReasonCode::Success,
            Qos::AtLeastOnce => ReasonCode::GrantedQos1,
            Qos::ExactlyOnce => ReasonCode::GrantedQos2,
        };
        Granted {
            reason,
            outstanding,
            replay,
        }
    }

    /// A denied filter also covers what is narrower, wildcards read as plain names.
    fn is_denied(&self, filter: &TopicFilter) -> bool {
        self.config
            .denied
            .iter()
            .any(|denied| topic::matches(denied.filter(), filter.filter()))
    }

    pub(super) fn instance_of(&self, id: SessionId) -> InstanceId {
        self.sessions
            .get(id)
            .map(|session| session.client.instance)
            .unwrap_or_default()
    }

    fn over_quota(&self, id: SessionId, owner: FilterOwner) -> bool {
        let Some(session) = self.sessions.get(id) else {
            return true;
        };
        let replicated = session
            .subscriptions
            .iter()
            .filter(|s| s.replicated)
            .count();
        session.subscriptions.len() >= self.config.subscriptions_max as usize
            || (owner == FilterOwner::All
                && replicated >= self.config.replicated_filters_max as usize)
    }

    fn all_of(&self, owner: FilterOwner) -> Vec<ShardId> {
        match owner {
            FilterOwner::One(shard) => vec![shard],
            FilterOwner::All => (0..self.placement.shards()).map(ShardId).collect(),
        }
    }

    /// Whom a replay asks. What the others had kept when they had the filter comes with their answer.
    fn replay_owners(&self, owner: FilterOwner) -> Vec<(ShardId, u64)> {
        let until = |shard| {
            if shard == self.id {
                self.retained.kept()
            } else {
                0
            }
        };
        let owners = self.all_of(owner).into_iter();
        owners.map(|shard| (shard, until(shard))).collect()
    }

    /// Gives a subscription the session already has its new options [MQTT-3.8.4-3]. `false`: it has none.
    fn replace_subscription(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        options: SubscriptionOptions,
        subscription_id: Option<NonZeroU32>,
    ) -> bool {
        let Some(at) = self.find_subscription(id, filter) else {
            return false;
        };
        let session = self
            .sessions
            .get(id)
            .expect("a session whose subscription was found");
        let Subscription {
            node,
            position,
            group,
            ..
        } = session.subscriptions[at];
        let subscribers = self
            .home
            .get_mut(node)
            .expect("a subscription names a live node");
        let subscriber = &mut subscribers.list(group)[position as usize];
        subscriber.options = options;
        subscriber.subscription_id = subscription_id;
        true
    }

    /// The index of a filter among a session's subscriptions.
    fn find_subscription(&mut self, id: SessionId, filter: &TopicFilter) -> Option<usize> {
        let session = self.sessions.get(id)?;
        let node = self.home.find(session.client.instance, filter.filter())?;
        let subscribers = self.home.get(node)?;
        session.subscriptions.iter().position(|subscription| {
            subscription.node == node
                && match (subscription.group, filter.share_name()) {
                    (None, None) => true,
                    (Some(group), Some(name)) => {
                        *subscribers.groups[group as usize].name.share_name == *name
                    }
                    _ => false,
                }
        })
    }

    pub(super) fn enter_subscription(
        &mut self,
        id: SessionId,
        filter: &TopicFilter,
        owner: FilterOwner,
        options: SubscriptionOptions,
        subscription_id: Option<NonZeroU32>,
    ) {
        let instance = self.instance_of(id);
        let (node, subscribers) = self.home.insert(instance, filter.filter());
        let group = filter
            .share_name()
            .map(|name| subscribers.group_index(name, filter.filter()));
        let list = subscribers.list(group);
        let position = list.len() as u32;
        list.push(Subscriber {
            session: id.index,
            subscription_id,
            options,
        });
        let replicated = owner == FilterOwner::All;
        if let Some(session) = self.sessions.get_mut(id) {
            session.subscriptions.push(Subscription {
                node,
                position,
                group,
                replicated,
            });
            self.counters.subscriptions += 1;
        }
    }

    /// Tells the slice owners of a subscription, one they have only so that they answer. Answers how many will.
    fn tell_owners(
        &mut self,
        instance: InstanceId,
        session: SessionId,
        filter: &TopicFilter,
        owner: FilterOwner,
        again: bool,
        fx: &mut impl Effects,
    ) -> u32 {
        if let Some(share_name) = filter.share_name() {
            let (share_name, filter) = (share_name.into(), filter.filter().into());
            let group = GroupName { share_name, filter };
            return self.tell_member(instance, session, &group, owner, MemberChange::Joined, fx);
        }
        let mut told = 0;
        for shard in self.all_of(owner) {
            // An owner finds its own clients in its home tree.
            if shard != self.id {
                let filter = filter.filter().into();
                self.lanes.post(
                    shard,
                    Envelope::Subscribe {
                        instance,
                        filter,
                        session,
                        again,
                    },
                );
                told += 1;
            }
        }
        told
    }

    /// Tells the owners of a share group's filter what happened to a member here.
    fn tell_member(
        &mut self,
        instance: InstanceId,
        session: SessionId,
        group: &GroupName,
        owner: FilterOwner,
        change: MemberChange,
        _fx: &mut impl Effects,
    ) -> u32 {
        let mut told = 0;
        for shard in self.all_of(owner) {
            if shard == self.id {
                let GroupName { share_name, filter } = group;
                self.groups
                    .change(instance, filter, share_name, shard, change);
            } else {
                let group = group.clone();
                self.lanes.post(
                    shard,
                    Envelope::Member {
                        instance,
                        group,
                        change,
                        session,
                    },
                );
                told += 1;
            }
        }
        told
    }

    /// A session's client came or went: its share groups count who is here.
    pub(super) fn tell_groups(
        &mut self,
        _now: Millis,
        id: SessionId,
        change: MemberChange,
        fx: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let instance = session.client.instance;
        let shared: Vec<_> = session
            .subscriptions
            .iter()
            .filter_map(|subscription| {
                let group = subscription.group? as usize;
                Some(self.home.get(subscription.node)?.groups[group].name.clone())
            })
            .collect();
        for name in shared {
            let owner = self.placement.owner_of_filter(instance, &name.filter);
            self.tell_member(instance, id, &name, owner, change, fx);
        }
    }

    fn put_subscription(
        &mut self,
        id: SessionId,
        requested: &RequestedSubscription,
        subscription_id: Option<NonZeroU32>,
        fx: &mut impl Effects,
    ) -> Commit {
        match (self.sessions.get(id), &requested.filter) {
            (Some(session), Ok(filter)) if session.is_durable() && fx.is_durable() => {
                fx.store(StoreOp::PutSubscription {
                    client: &session.client,
                    filter: filter.text(),
                    options: requested.options,
                    subscription_id: subscription_id.map(NonZeroU32::get),
                })
            }
            _ => Commit::Done,
        }
    }

    /// An owner has a filter of this session's SUBSCRIBE, and had kept so many retained messages by then: these
    /// are replayed, later ones come live [MQTT-3.3.1-12].
    pub(super) fn subscribed(
        &mut self,
        now: Millis,
        id: SessionId,
        (from, until): (ShardId, u64),
        fx: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        // The newest answer counts: those of an earlier connection's SUBSCRIBE come before it.
        let replays = session
            .pending_subscribe
            .iter_mut()
            .flat_map(|p| &mut p.replays);
        for (shard, kept) in replays.flat_map(|replay| &mut replay.owners) {
            if *shard == from {
                *kept = until;
            }
        }
        session.unanswered -= 1;
        if session.unanswered > 0 {
            return;
        }
        if let Some(pending) = session.pending_subscribe.take() {
            self.finish_subscribe(now, id, *pending, fx);
            self.unpause(id, PauseReasons::SUBSCRIBE, fx);
        }
    }

    fn finish_subscribe(
        &mut self,
        now: Millis,
        id: SessionId,
        pending: PendingSubscribe,
        fx: &mut impl Effects,
    ) {
        let PendingSubscribe {
            packet_id,
            reasons,
            replays,
            commit,
            ..
        } = pending;
        self.reply_after(now, commit, id, Reply::SubAck { packet_id, reasons }, fx);
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if !replays.is_empty() {
            session
                .replays
                .get_or_insert_default()
                .waiting
                .extend(replays);
            self.replay(now, id, fx);
        }
    }

    /// A client unsubscribes. Nothing that is published from now on reaches it through the filter
    /// [MQTT-3.10.4-2].
    pub fn unsubscribe(
        &mut self,
        now: Millis,
        id: SessionId,
        unsubscribe: Unsubscribe,
        fx: &mut impl Effects,
    ) {
        let mut reasons = Vec::with_capacity(unsubscribe.filters.len());
        // A filter that is not here may have been left on an earlier connection, and still be in the store.
        let mut commit = match self.sessions.get(id) {
            Some(session) if session.is_durable() => self.last_awaited(),
            _ => Commit::Done,
        };
        for filter in &unsubscribe.filters {
            let Ok(filter) = filter else {
                reasons.push(ReasonCode::TopicFilterInvalid);
                continue;
            };
            let Some(at) = self.find_subscription(id, filter) else {
                reasons.push(ReasonCode::NoSubscriptionExisted);
                continue;
            };
            self.remove_subscription(id, at, true, fx);
            if !filter.is_shared() {
                self.cancel_replay(id, filter.filter());
            }
            reasons.push(ReasonCode::Success);
            if let Some(session) = self.sessions.get(id) {
                if session.is_durable() && fx.is_durable() {
                    let (client, filter) = (&session.client, filter.text());
                    commit = fx.store(StoreOp::DropSubscription { client, filter });
                }
            }
        }
        let packet_id = unsubscribe.packet_id;
        self.reply_after(now, commit, id, Reply::UnsubAck { packet_id, reasons }, fx);
    }

    fn reply_after(
        &mut self,
        now: Millis,
        commit: Commit,
        session: SessionId,
        reply: Reply,
        fx: &mut impl Effects,
    ) {
        let Some(attachment) = self.sessions.get(session).map(|session| session.attachment) else {
            return;
        };
        let after = AfterCommit::Reply {
            session,
            attachment,
            reply,
        };
        self.after(now, commit, after, fx);
    }

    pub(super) fn reply(
        &mut self,
        session: SessionId,
        attachment: u32,
        reply: &Reply,
        fx: &mut impl Effects,
    ) {
        let session = self
            .sessions
            .get(session)
            .filter(|s| s.is_attached_as(attachment));
        let Some(connection) = session.and_then(|session| session.connection) else {
            return;
        };
        let ack = match *reply {
            Reply::SubAck {
                packet_id,
                ref reasons,
            } => Ack::SubAck { packet_id, reasons },
            Reply::UnsubAck {
                packet_id,
                ref reasons,
            } => Ack::UnsubAck { packet_id, reasons },
            Reply::PubRel { packet_id, reason } => Ack::PubRel { packet_id, reason },
            Reply::PubComp { packet_id, reason } => Ack::PubComp { packet_id, reason },
        };
        fx.acknowledge(connection, &ack);
    }

    /// The session ends: every owner forgets it.
    pub(super) fn remove_all_subscriptions(
        &mut self,
        _now: Millis,
        id: SessionId,
        fx: &mut impl Effects,
    ) {
        let online = self
            .sessions
            .get(id)
            .is_some_and(|session| !session.is_durable());
        while self
            .sessions
            .get(id)
            .is_some_and(|session| !session.subscriptions.is_empty())
        {
            self.remove_subscription(id, 0, online, fx);
        }
    }

    /// Takes a subscription out at home and at its owners. `online`: its share group counts it as here.
    fn remove_subscription(
        &mut self,
        id: SessionId,
        at: usize,
        online: bool,
        fx: &mut impl Effects,
    ) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let instance = session.client.instance;
        let Subscription {
            node,
            position,
            group,
            ..
        } = session.subscriptions.swap_remove(at);
        self.counters.subscriptions -= 1;
        let filter = self.home.filter(node);
        let subscribers = self
            .home
            .get_mut(node)
            .expect("a subscription names a live node");
        let share = group.map(|group| subscribers.groups[group as usize].name.clone());
        let list = subscribers.list(group);
        list.swap_remove(position as usize);
        // The entry that took its place has moved; its session must know.
        if let Some(moved) = list.get(position as usize) {
            let moved = self.sessions.at(moved.session);
            let same = |s: &&mut Subscription| s.node == node && s.group == group;
            let entry = moved.subscriptions.iter_mut().find(same);
            entry
                .expect("an entry of the home tree has its session's subscription")
                .position = position;
        }
        if subscribers.is_empty() {
            self.home.remove(node);
        }
        let owner = self.placement.owner_of_filter(instance, &filter);
        if let Some(name) = share {
            if is_planted(Defect::GhostMember) {
                return;
            }
            self.tell_member(
                instance,
                id,
                &name,
                owner,
                MemberChange::Left { online },
                fx,
            );
            return;
        }
        for shard in self.all_of(owner) {
            if shard != self.id {
                let filter = filter.as_str().into();
                self.lanes
                    .post(shard, Envelope::Unsubscribe { instance, filter });
            }
        }
    }
}

/// Whether a subscription starts with the retained messages of its filter (MQTT 5 section 3.8.3.1). A shared one
/// never does (section 4.8.2).
fn wants_retained(filter: &TopicFilter, options: SubscriptionOptions, existed: bool) -> bool {
    !filter.is_shared()
        && match options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendAtNewSubscribe => !existed,
            RetainHandling::DoNotSend => false,
        }
}
