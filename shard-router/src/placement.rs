//! Which shard is home to a client, and which one owns a topic or a filter.

use ahash::RandomState;

use crate::key::{InstanceId, ShardId};

/// Levels of a topic whose hash names its slice owner. Two, because fleets put the tenant or the kind first and
/// the device second; deeper would replicate more filters, shallower would put a whole fleet on one shard.
pub const SLICE_LEVELS: usize = 2;

/// Where a filter is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterOwner {
    One(ShardId),
    /// A wildcard stands within the first levels: every shard keeps it.
    All,
}

/// The same on every shard of a process; seeded anew each start, so no peer can aim at one shard.
#[derive(Clone, Debug)]
pub struct Placement {
    shards: u16,
    hasher: RandomState,
}

impl Placement {
    /// `shards` from 1; a fixed `seed` makes the placement repeatable (simulation).
    pub fn new(shards: u16, seed: u64) -> Self {
        assert!(shards > 0, "a process has at least one shard");
        let hasher =
            RandomState::with_seeds(seed, !seed, seed.rotate_left(17), 0x7469_6465_6761_7465);
        Placement { shards, hasher }
    }

    pub fn shards(&self) -> u16 {
        self.shards
    }

    pub fn home_shard(&self, instance: InstanceId, client_id: &str) -> ShardId {
        self.reduce(self.hasher.hash_one((instance.0, client_id)))
    }

    pub fn slice_owner(&self, instance: InstanceId, topic: &str) -> ShardId {
        if self.shards == 1 {
            return ShardId(0);
        }
        self.reduce(self.hasher.hash_one((instance.0, slice_key(topic))))
    }

    /// `filter` without its share name.
    pub fn owner_of_filter(&self, instance: InstanceId, filter: &str) -> FilterOwner {
        if slice_key(filter)
            .split('/')
            .any(|level| level == "+" || level == "#")
        {
            return FilterOwner::All;
        }
        FilterOwner::One(self.slice_owner(instance, filter))
    }

    fn reduce(&self, hash: u64) -> ShardId {
        // Multiply-shift: the upper half of a 64 bit product spreads evenly over any count.
        ShardId(((u128::from(hash) * u128::from(self.shards)) >> 64) as u16)
    }
}

/// The first levels of a topic or filter; an empty leading level does not count, so `/a/b/c` has the key `a/b`.
///
/// `a/#` also matches `a`, whose key is shorter; that filter has its wildcard within the first levels and is
/// kept everywhere, so the owner of `a` knows it too. `a/b/#` and `a/b` have the same key.
fn slice_key(topic: &str) -> &str {
    let topic = topic.strip_prefix('/').unwrap_or(topic);
    match memchr_nth_slash(topic, SLICE_LEVELS) {
        Some(end) => &topic[..end],
        None => topic,
    }
}

fn memchr_nth_slash(topic: &str, nth: usize) -> Option<usize> {
    topic
        .bytes()
        .enumerate()
        .filter(|&(_, b)| b == b'/')
        .nth(nth - 1)
        .map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_kept_where_every_topic_it_matches_is_owned() {
        let placement = Placement::new(8, 7);
        let topics = [
            "a", "a/b", "/a/b", "a/b/c", "a/b/c/d", "/", "", "a/", "//x", "x", "a/c/b",
        ];
        let filters = [
            "a", "a/b", "/a/b/#", "a/b/+", "a/b/#", "a/b/c/#", "/", "a/", "//x", "a/+/b", "#", "+",
        ];
        for filter in filters {
            let FilterOwner::One(owner) = placement.owner_of_filter(InstanceId(0), filter) else {
                continue;
            };
            for topic in topics {
                if tidegate_codec::topic::matches(filter, topic) {
                    assert_eq!(
                        placement.slice_owner(InstanceId(0), topic),
                        owner,
                        "{filter} {topic}"
                    );
                }
            }
        }
        assert_eq!(
            placement.owner_of_filter(InstanceId(0), "a/+/b"),
            FilterOwner::All
        );
        assert_eq!(
            placement.owner_of_filter(InstanceId(0), "/a/#"),
            FilterOwner::All
        );
        assert!(matches!(
            placement.owner_of_filter(InstanceId(0), "a/b/#"),
            FilterOwner::One(_)
        ));
    }

    #[test]
    fn clients_spread_over_all_shards() {
        let placement = Placement::new(8, 7);
        let mut counts = [0; 8];
        for i in 0..8_000 {
            counts[placement
                .home_shard(InstanceId(0), &format!("client-{i}"))
                .index()] += 1;
        }
        assert!(
            counts.iter().all(|&n| (800..1_200).contains(&n)),
            "{counts:?}"
        );
    }
}
