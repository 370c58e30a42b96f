//! Share groups at the slice owner: how many members live on which shard, and which shard is next.

use crate::envelope::MemberChange;
use crate::key::{InstanceId, ShardId};
use crate::topic_tree::TopicTree;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Members {
    shard: ShardId,
    online: u32,
    total: u32,
}

#[derive(Debug)]
struct Group {
    share_name: Box<str>,
    shards: Vec<Members>,
    /// Counts messages; whose turn it is follows from it.
    turn: u32,
}

/// Share groups of the topics this shard owns.
#[derive(Debug, Default)]
pub(crate) struct SharedGroups {
    tree: TopicTree<Vec<Group>>,
}

impl SharedGroups {
    /// Filters with a group.
    pub(crate) fn len(&self) -> usize {
        self.tree.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    pub(crate) fn change(
        &mut self,
        instance: InstanceId,
        filter: &str,
        share_name: &str,
        shard: ShardId,
        change: MemberChange,
    ) {
        let (node, groups) = self.tree.insert(instance, filter);
        let at = groups
            .iter()
            .position(|group| *group.share_name == *share_name)
            .unwrap_or_else(|| {
                groups.push(Group {
                    share_name: share_name.into(),
                    shards: Vec::new(),
                    turn: 0,
                });
                groups.len() - 1
            });
        groups[at].change(shard, change);
        if groups[at].shards.is_empty() {
            groups.swap_remove(at);
        }
        if groups.is_empty() {
            self.tree.remove(node);
        }
    }

    /// For each group that matches `topic`: its share name, its filter's node text is asked by the caller.
    pub(crate) fn pick(
        &mut self,
        instance: InstanceId,
        topic: &str,
        mut picked: impl FnMut(&str, String, ShardId),
    ) {
        let mut nodes = Vec::new();
        self.tree
            .matches(instance, topic, |node, _| nodes.push(node));
        for node in nodes {
            let filter = self.tree.filter(node);
            for group in self.tree.get_mut(node).into_iter().flatten() {
                if let Some(shard) = group.next() {
                    picked(&group.share_name, filter.clone(), shard);
                }
            }
        }
    }

    /// The next shard for one group; `None` when it has no members any more.
    pub(crate) fn pick_again(
        &mut self,
        instance: InstanceId,
        filter: &str,
        share_name: &str,
    ) -> Option<ShardId> {
        let node = self.tree.find(instance, filter)?;
        let mut groups = self.tree.get_mut(node)?.iter_mut();
        groups
            .find(|group| *group.share_name == *share_name)?
            .next()
    }
}

impl Group {
    fn change(&mut self, shard: ShardId, change: MemberChange) {
        let at = self
            .shards
            .iter()
            .position(|members| members.shard == shard);
        let at = at.unwrap_or_else(|| {
            self.shards.push(Members {
                shard,
                online: 0,
                total: 0,
            });
            self.shards.len() - 1
        });
        let members = &mut self.shards[at];
        match change {
            MemberChange::Joined => {
                members.total += 1;
                members.online += 1;
            }
            MemberChange::Left { online } => {
                members.total -= 1;
                members.online -= u32::from(online);
            }
            MemberChange::Online => members.online += 1,
            MemberChange::Offline => members.online -= 1,
        }
        if members.total == 0 {
            self.shards.swap_remove(at);
        }
    }

    /// Online members take turns over all shards, in proportion; without any, those who are away do.
    fn next(&mut self) -> Option<ShardId> {
        self.turn = self.turn.wrapping_add(1);
        let online: u32 = self.shards.iter().map(|members| members.online).sum();
        let weight = |members: &Members| {
            if online > 0 {
                members.online
            } else {
                members.total
            }
        };
        let all: u32 = self.shards.iter().map(weight).sum();
        let mut turn = self.turn.checked_rem(all)?;
        for members in &self.shards {
            if turn < weight(members) {
                return Some(members.shard);
            }
            turn -= weight(members);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: InstanceId = InstanceId(0);

    fn groups(changes: &[(u16, MemberChange)]) -> SharedGroups {
        let mut groups = SharedGroups::default();
        for &(shard, change) in changes {
            groups.change(HERE, "a/+", "g", ShardId(shard), change);
        }
        groups
    }

    fn turns(groups: &mut SharedGroups, count: usize) -> Vec<u16> {
        let mut shards: Vec<_> = (0..count)
            .map(|_| groups.pick_again(HERE, "a/+", "g").expect("a member").0)
            .collect();
        shards.sort_unstable();
        shards
    }

    #[test]
    fn shards_take_turns_in_proportion_to_their_online_members() {
        use MemberChange::{Joined, Offline};
        let mut groups = groups(&[
            (0, Joined),
            (0, Joined),
            (1, Joined),
            (2, Joined),
            (2, Offline),
        ]);
        assert_eq!(turns(&mut groups, 6), [0, 0, 0, 0, 1, 1]);
    }

    #[test]
    fn those_who_are_away_take_turns_when_nobody_is_here() {
        use MemberChange::{Joined, Offline};
        let mut groups = groups(&[(0, Joined), (0, Offline), (3, Joined), (3, Offline)]);
        assert_eq!(turns(&mut groups, 4), [0, 0, 3, 3]);
    }

    #[test]
    fn a_group_without_members_is_forgotten() {
        use MemberChange::{Joined, Left, Offline};
        let mut groups = groups(&[
            (0, Joined),
            (0, Left { online: true }),
            (1, Joined),
            (1, Offline),
        ]);
        groups.change(HERE, "a/+", "g", ShardId(1), Left { online: false });
        assert!(groups.is_empty());
        assert_eq!(groups.pick_again(HERE, "a/+", "g"), None);
    }

    #[test]
    fn each_group_that_matches_is_picked_once() {
        let mut groups = groups(&[(0, MemberChange::Joined)]);
        groups.change(HERE, "a/b", "h", ShardId(1), MemberChange::Joined);
        let mut picked = Vec::new();
        groups.pick(HERE, "a/b", |name, filter, shard| {
            picked.push((name.to_owned(), filter, shard.0))
        });
        picked.sort();
        assert_eq!(
            picked,
            [
                ("g".into(), "a/+".into(), 0),
                ("h".into(), "a/b".to_owned(), 1)
            ]
        );
    }
}
