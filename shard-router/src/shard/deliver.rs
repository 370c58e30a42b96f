//! From the slice owner to sessions: one envelope a shard, then the clients of each shard; share groups.

use std::rc::Rc;

use tidegate_codec::{Millis, Qos};

use super::publish::POINT_TO_POINT;
use super::Shard;
use crate::counters::DropReason;
use crate::credit::ReleaseId;
use crate::effects::Effects;
use crate::envelope::{Envelope, GroupName, Origin, Routed, SharedDelivery};
use crate::home::Matches;
use crate::key::{InstanceId, ShardId};
use crate::session::outgoing::{Offer, Sending};
use crate::session::Sessions;
use crate::store_op::Commit;

/// How often a message for a share group may come back from shards that had no member left.
const RETURNS_MAX: u8 = 3;

impl Shard {
    /// On the slice owner: to its own clients, to every other shard with subscribers, to one shard a share group.
    /// Answers how many places will each answer `held`.
    pub(super) fn fan_out(
        &mut self,
        now: Millis,
        routed: &Routed,
        publisher: ShardId,
        release: &mut Option<ReleaseId>,
        fx: &mut impl Effects,
    ) -> u16 {
        let mut places = 0;
        if self.deliver_here(now, routed, fx) {
            places += 1;
        }
        if !self.is_alone() {
            // Taken out and put back, because posting needs the rest of the shard.
            let mut shards = std::mem::take(&mut self.found_shards);
            self.slice
                .shards_for(routed.instance, routed.message.topic(), &mut shards);
            for &shard in &shards {
                let sent = self.post_message(
                    shard,
                    Envelope::Deliver(routed.clone()),
                    routed.message.qos(),
                    publisher,
                    release,
                );
                places += u16::from(sent);
            }
            self.found_shards = shards;
        }
        if !self.groups.is_empty() {
            places += self.fan_out_shared(now, routed, publisher, release, fx);
        }
        places
    }

    fn post_message(
        &mut self,
        to: ShardId,
        envelope: Envelope,
        qos: Qos,
        publisher: ShardId,
        release: &mut Option<ReleaseId>,
    ) -> bool {
        if qos > Qos::AtMostOnce {
            self.lanes.post_releasing(to, envelope, publisher, release);
            return true;
        }
        let posted = self.lanes.post_or_drop(to, envelope);
        if !posted {
            self.counters.drop_one(DropReason::MailboxFull);
        }
        posted
    }

    /// On a home shard: to all its sessions with a matching subscription. Answers whether there was one; the
    /// ticket, if any, is then held.
    pub(super) fn deliver_here(
        &mut self,
        now: Millis,
        routed: &Routed,
        fx: &mut impl Effects,
    ) -> bool {
        self.find_matches(routed.instance, routed.message.topic(), routed.origin);
        let message = &routed.message;
        let mut commit = Commit::Done;
        for at in 0..self.matches.found.len() {
            let found = self.matches.found[at];
            self.matches.subscription_ids(at, &mut self.ids);
            let offer = Offer {
                message,
                qos: message.qos().min(found.maximum_qos),
                retain: message.retain() && found.retain_as_published,
                subscription_ids: &self.ids,
                group: None,
                paced: false,
                exchange: routed.exchange.as_deref(),
            };
            let counters = &mut self.counters;
            let mut sending = Sending {
                now,
                config: &self.config,
                counters,
                commits: &mut self.commits,
                fx,
            };
            commit = later(
                commit,
                self.sessions.at(found.session).offer(offer, &mut sending),
            );
        }
        let any = !self.matches.found.is_empty();
        if any {
            self.hold(now, routed.ticket, commit, fx);
        }
        any
    }

    fn find_matches(&mut self, instance: InstanceId, topic: &str, origin: Option<Origin>) {
        let own = origin
            .filter(|origin| origin.shard == self.id)
            .map(|origin| origin.session)
            .filter(|&session| self.sessions.get(session).is_some())
            .map(|session| session.index);
        let (sessions, matches): (&mut Sessions, &mut Matches) =
            (&mut self.sessions, &mut self.matches);
        matches.clear();
        self.home.matches(instance, topic, |_, subscribers| {
            for subscriber in &subscribers.clients {
                // No Local [MQTT-3.8.3-3].
                if subscriber.options.no_local && own == Some(subscriber.session) {
                    continue;
                }
                let session = sessions.at(subscriber.session);
                if session.match_stamp == matches.stamp {
                    matches.merge(session.match_slot, subscriber);
                } else {
                    session.match_stamp = matches.stamp;
                    session.match_slot = matches.push(subscriber);
                }
            }
        });
    }

    /// On the home shard of the client a topic names: past the subscription table, at the publisher's QoS.
    pub(super) fn deliver_to_client(
        &mut self,
        now: Millis,
        routed: &Routed,
        fx: &mut impl Effects,
    ) -> u16 {
        let message = &routed.message;
        let client_id = message
            .topic()
            .strip_prefix(POINT_TO_POINT)
            .unwrap_or_default();
        let found = self.sessions.find(routed.instance, client_id);
        let Some(session) = found.and_then(|id| self.sessions.get_mut(id)) else {
            return 0;
        };
        let counters = &mut self.counters;
        let mut sending = Sending {
            now,
            config: &self.config,
            counters,
            commits: &mut self.commits,
            fx,
        };
        let commit = session.offer(plain_offer(routed, None), &mut sending);
        self.hold(now, routed.ticket, commit, fx);
        1
    }

    fn fan_out_shared(
        &mut self,
        now: Millis,
        routed: &Routed,
        publisher: ShardId,
        release: &mut Option<ReleaseId>,
        fx: &mut impl Effects,
    ) -> u16 {
        let mut picked = Vec::new();
        self.groups.pick(
            routed.instance,
            routed.message.topic(),
            |share_name, filter, shard| {
                let group = GroupName {
                    share_name: share_name.into(),
                    filter: filter.into(),
                };
                picked.push((group, shard));
            },
        );
        let mut places = 0;
        for (group, shard) in picked {
            let shared = Box::new(SharedDelivery {
                routed: routed.clone(),
                group,
                returns: 0,
            });
            if shard == self.id {
                if let Err(shared) = self.deliver_to_member(now, shared, fx) {
                    self.redistribute(now, shared, fx);
                }
                places += 1;
                continue;
            }
            let qos = routed.message.qos();
            let envelope = Envelope::DeliverShared(shared);
            places += u16::from(self.post_message(shard, envelope, qos, publisher, release));
        }
        places
    }

    /// On a home shard: to the next member of a share group. `Err`: no member is left here.
    pub(super) fn deliver_to_member(
        &mut self,
        now: Millis,
        shared: Box<SharedDelivery>,
        fx: &mut impl Effects,
    ) -> Result<(), Box<SharedDelivery>> {
        let Some((member, name)) = self.next_member(&shared) else {
            return Err(shared);
        };
        let routed = &shared.routed;
        let message = &routed.message;
        self.ids.clear();
        self.ids.extend(member.subscription_id.map(|id| id.get()));
        let offer = Offer {
            qos: message.qos().min(member.options.maximum_qos),
            retain: message.retain() && member.options.retain_as_published,
            subscription_ids: &self.ids,
            ..plain_offer(routed, Some(&name))
        };
        let counters = &mut self.counters;
        let mut sending = Sending {
            now,
            config: &self.config,
            counters,
            commits: &mut self.commits,
            fx,
        };
        let commit = self.sessions.at(member.session).offer(offer, &mut sending);
        self.hold(now, routed.ticket, commit, fx);
        Ok(())
    }

    /// Whose turn it is: members that are here and take something, then members that are here, then any.
    fn next_member(
        &mut self,
        shared: &SharedDelivery,
    ) -> Option<(crate::home::Subscriber, Rc<GroupName>)> {
        let node = self
            .home
            .find(shared.routed.instance, &shared.group.filter)?;
        let group = self.home.get_mut(node)?.group(&shared.group.share_name)?;
        let count = group.members.len();
        let mut best = None;
        for offset in 0..count {
            let at = (group.next + offset) % count;
            let session = self.sessions.at(group.members[at].session);
            let rank = match (session.connection, session.blocked) {
                (Some(_), false) => 0,
                (Some(_), true) => 1,
                (None, _) => 2,
            };
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, at));
            }
            if rank == 0 {
                break;
            }
        }
        let (_, at) = best?;
        group.next = at + 1;
        Some((group.members[at], group.name.clone()))
    }

    /// On the slice owner: a message for a share group needs another member. It keeps its ticket; without a
    /// member anywhere it is dropped and counted, and the ticket answered.
    pub(super) fn redistribute(
        &mut self,
        now: Millis,
        mut shared: Box<SharedDelivery>,
        fx: &mut impl Effects,
    ) {
        while shared.returns < RETURNS_MAX {
            shared.returns += 1;
            let (instance, group) = (shared.routed.instance, &shared.group);
            let picked = self
                .groups
                .pick_again(instance, &group.filter, &group.share_name);
            let Some(shard) = picked else {
                break;
            };
            if shard != self.id {
                self.lanes.post(shard, Envelope::DeliverShared(shared));
                return;
            }
            match self.deliver_to_member(now, shared, fx) {
                Ok(()) => return,
                Err(again) => shared = again,
            }
        }
        self.counters.drop_one(DropReason::NoSharedMember);
        self.hold(now, shared.routed.ticket, Commit::Done, fx);
    }
}

fn plain_offer<'a>(routed: &'a Routed, group: Option<&'a Rc<GroupName>>) -> Offer<'a> {
    Offer {
        message: &routed.message,
        qos: routed.message.qos(),
        retain: false,
        subscription_ids: &[],
        group,
        paced: false,
        exchange: routed.exchange.as_deref(),
    }
}

/// The commit that holds last.
fn later(a: Commit, b: Commit) -> Commit {
    match (a, b) {
        (Commit::Done, other) | (other, Commit::Done) => other,
        (Commit::Pending(a), Commit::Pending(b)) => Commit::Pending(a.max(b)),
    }
}
