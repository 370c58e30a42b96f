//! Messages that wait for a session whose client is away, slow, or has its window full.

use std::collections::VecDeque;
use std::rc::Rc;

use tidegate_codec::{Message, Qos};

use crate::envelope::GroupName;

/// Subscription identifiers of one delivery; nearly always none or one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum SubscriptionIds {
    #[default]
    None,
    One(u32),
    Many(Box<[u32]>),
}

impl SubscriptionIds {
    pub(crate) fn from_slice(ids: &[u32]) -> Self {
        match ids {
            [] => SubscriptionIds::None,
            [id] => SubscriptionIds::One(*id),
            ids => SubscriptionIds::Many(ids.into()),
        }
    }

    pub(crate) fn as_slice(&self) -> &[u32] {
        match self {
            SubscriptionIds::None => &[],
            SubscriptionIds::One(id) => std::slice::from_ref(id),
            SubscriptionIds::Many(ids) => ids,
        }
    }
}

/// A delivery that has not left yet.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) message: Message,
    pub(crate) qos: Qos,
    pub(crate) retain: bool,
    pub(crate) subscription_ids: SubscriptionIds,
    /// Set where it came through a share group, to which it returns if the session ends.
    pub(crate) group: Option<Rc<GroupName>>,
    /// Counts up within the session; the key of the message in the store.
    pub(crate) sequence: u64,
}

/// Oldest first. Bounded in messages and bytes by its owner, which drops the oldest.
#[derive(Debug, Default)]
pub(crate) struct OfflineQueue {
    messages: VecDeque<Queued>,
    bytes: u64,
}

impl OfflineQueue {
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn front(&self) -> Option<&Queued> {
        self.messages.front()
    }

    pub(crate) fn push(&mut self, queued: Queued) {
        self.bytes += queued.message.size() as u64;
        self.messages.push_back(queued);
    }

    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let queued = self.messages.pop_front()?;
        self.bytes -= queued.message.size() as u64;
        if self.messages.is_empty() {
            // A queue that was long once must not hold its memory for ever.
            self.messages = VecDeque::new();
        }
        Some(queued)
    }
}
