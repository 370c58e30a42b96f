//! The home tree: filters → this shard's own subscribers. Says which clients a message is for.

use std::num::NonZeroU32;
use std::rc::Rc;

use tidegate_codec::mqtt::subscribe::SubscriptionOptions;
use tidegate_codec::Qos;

use crate::envelope::GroupName;
use crate::topic_tree::TopicTree;

/// One session's subscription at one filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscriber {
    /// Slot of the session; the entry is removed before the session is.
    pub(crate) session: u32,
    pub(crate) subscription_id: Option<NonZeroU32>,
    pub(crate) options: SubscriptionOptions,
}

/// This shard's members of one share group.
#[derive(Debug)]
pub(crate) struct LocalGroup {
    pub(crate) name: Rc<GroupName>,
    pub(crate) members: Vec<Subscriber>,
    /// Whose turn it is.
    pub(crate) next: usize,
}

/// Everybody at one filter.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    pub(crate) clients: Vec<Subscriber>,
    /// Emptied groups stay until the filter goes, so that the indexes in sessions hold.
    pub(crate) groups: Vec<LocalGroup>,
}

impl Subscribers {
    pub(crate) fn is_empty(&self) -> bool {
        self.clients.is_empty() && self.groups.iter().all(|group| group.members.is_empty())
    }

    pub(crate) fn group(&mut self, share_name: &str) -> Option<&mut LocalGroup> {
        self.groups
            .iter_mut()
            .find(|group| *group.name.share_name == *share_name)
    }

    /// The group's index, made where there is none.
    pub(crate) fn group_index(&mut self, share_name: &str, filter: &str) -> u32 {
        let known = self
            .groups
            .iter()
            .position(|group| *group.name.share_name == *share_name);
        let index = known.unwrap_or_else(|| {
            let name = GroupName {
                share_name: share_name.into(),
                filter: filter.into(),
            };
            self.groups.push(LocalGroup {
                name: Rc::new(name),
                members: Vec::new(),
                next: 0,
            });
            self.groups.len() - 1
        });
        index as u32
    }

    /// The list a subscription stands in.
    pub(crate) fn list(&mut self, group: Option<u32>) -> &mut Vec<Subscriber> {
        match group {
            None => &mut self.clients,
            Some(index) => &mut self.groups[index as usize].members,
        }
    }
}

pub(crate) type HomeTree = TopicTree<Subscribers>;

/// One session a message is for, all its matching subscriptions taken together.
///
/// A client with overlapping subscriptions gets one copy, at the highest QoS granted, with the identifiers of all
/// of them [MQTT-3.3.4-2], [MQTT-3.3.4-3], [3.1.1 MQTT-3.3.5-1].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Match {
    pub(crate) session: u32,
    pub(crate) maximum_qos: Qos,
    pub(crate) retain_as_published: bool,
    pub(crate) subscription_id: Option<NonZeroU32>,
}

/// The matches of one message, reused from message to message.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub(crate) found: Vec<Match>,
    /// Second and further identifiers: index into `found`, identifier.
    pub(crate) more_ids: Vec<(u32, NonZeroU32)>,
    pub(crate) stamp: u32,
}

impl Matches {
    /// Starts on the next message; stamps of sessions from earlier ones are void.
    pub(crate) fn clear(&mut self) {
        self.found.clear();
        self.more_ids.clear();
        self.stamp = self.stamp.wrapping_add(1);
    }

    /// Joins a further subscription of a session that was found before.
    pub(crate) fn merge(&mut self, at: u32, subscriber: &Subscriber) {
        let found = &mut self.found[at as usize];
        found.maximum_qos = found.maximum_qos.max(subscriber.options.maximum_qos);
        found.retain_as_published |= subscriber.options.retain_as_published;
        match (found.subscription_id, subscriber.subscription_id) {
            (None, id) => found.subscription_id = id,
            (Some(_), Some(id)) => self.more_ids.push((at, id)),
            (Some(_), None) => {}
        }
    }

    pub(crate) fn push(&mut self, subscriber: &Subscriber) -> u32 {
        self.found.push(Match {
            session: subscriber.session,
            maximum_qos: subscriber.options.maximum_qos,
            retain_as_published: subscriber.options.retain_as_published,
            subscription_id: subscriber.subscription_id,
        });
        self.found.len() as u32 - 1
    }

    /// All identifiers of one match, in `ids`.
    pub(crate) fn subscription_ids(&self, at: usize, ids: &mut Vec<u32>) {
        ids.clear();
        ids.extend(self.found[at].subscription_id.map(NonZeroU32::get));
        if !self.more_ids.is_empty() {
            let more = self.more_ids.iter().filter(|(of, _)| *of as usize == at);
            ids.extend(more.map(|(_, id)| id.get()));
        }
    }
}
