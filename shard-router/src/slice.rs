//! This shard's slice of the subscription table: for the topics it owns, which *other* shards have subscribers.
//!
//! The owner's own clients stand in its home tree, which it asks anyway, so it does not list itself. Which clients
//! of a shard a message is for, only that shard knows.

use crate::key::{InstanceId, ShardId};
use crate::topic_tree::TopicTree;

/// Subscriptions at one filter, by shard; short, so a list.
type Counts = Vec<(ShardId, u32)>;

#[derive(Debug, Default)]
pub(crate) struct Slice {
    tree: TopicTree<Counts>,
}

impl Slice {
    /// Filters other shards have subscribers at.
    pub(crate) fn len(&self) -> usize {
        self.tree.len()
    }

    pub(crate) fn subscribe(&mut self, instance: InstanceId, filter: &str, shard: ShardId) {
        let (_, counts) = self.tree.insert(instance, filter);
        match counts.iter_mut().find(|(of, _)| *of == shard) {
            Some((_, count)) => *count += 1,
            None => counts.push((shard, 1)),
        }
    }

    pub(crate) fn unsubscribe(&mut self, instance: InstanceId, filter: &str, shard: ShardId) {
        let Some(node) = self.tree.find(instance, filter) else {
            panic!("shard {shard} left a filter it had not joined");
        };
        let counts = self.tree.get_mut(node).expect("found a moment ago");
        let at = counts.iter().position(|(of, _)| *of == shard);
        let at = at.unwrap_or_else(|| panic!("shard {shard} left a filter it had not joined"));
        counts[at].1 -= 1;
        if counts[at].1 == 0 {
            counts.swap_remove(at);
        }
        if counts.is_empty() {
            self.tree.remove(node);
        }
    }

    /// Every other shard with a subscriber for `topic`, each once, in `found`.
    pub(crate) fn shards_for(&self, instance: InstanceId, topic: &str, found: &mut Vec<ShardId>) {
        found.clear();
        self.tree.matches(instance, topic, |_, counts| {
            for (shard, _) in counts {
                if !found.contains(shard) {
                    found.push(*shard);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: InstanceId = InstanceId(0);

    fn shards_for(slice: &Slice, topic: &str) -> Vec<ShardId> {
        let mut found = Vec::new();
        slice.shards_for(HERE, topic, &mut found);
        found
    }

    #[test]
    fn a_shard_is_named_once_and_until_its_last_subscription_goes() {
        let mut slice = Slice::default();
        slice.subscribe(HERE, "a/+", ShardId(1));
        slice.subscribe(HERE, "a/b", ShardId(1));
        slice.subscribe(HERE, "a/b", ShardId(1));
        slice.subscribe(HERE, "a/b", ShardId(2));
        assert_eq!(shards_for(&slice, "a/b"), [ShardId(1), ShardId(2)]);
        slice.unsubscribe(HERE, "a/+", ShardId(1));
        slice.unsubscribe(HERE, "a/b", ShardId(1));
        assert!(shards_for(&slice, "a/b").contains(&ShardId(1)));
        slice.unsubscribe(HERE, "a/b", ShardId(1));
        assert_eq!(shards_for(&slice, "a/b"), [ShardId(2)]);
        assert_eq!(shards_for(&slice, "a/x"), []);
    }
}
