//! Filters → values, matched by topic: an arena of nodes and one flat hash table for all edges.
//!
//! A node is one level of one filter. One table keyed by (parent, level) instead of a map in each node keeps a
//! node small: most nodes of a fleet's tree have a single child, and an empty map in each would outweigh them.

use ahash::RandomState;
use hashbrown::HashTable;

use crate::key::InstanceId;

/// A node of a [`TopicTree`]; stays the same while the node has a value or children.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

const NONE: u32 = u32::MAX;

#[derive(Debug)]
struct Node<V> {
    parent: u32,
    /// Children of any kind; a node without children and without a value is removed.
    children: u32,
    /// The child of level `+`, so that matching need not look it up.
    plus: u32,
    /// The child of level `#`.
    hash: u32,
    level: Box<str>,
    value: Option<V>,
}

/// Filters of all instances with a value each. Owned by one shard.
#[derive(Debug)]
pub(crate) struct TopicTree<V> {
    nodes: Vec<Node<V>>,
    free: Vec<u32>,
    edges: HashTable<u32>,
    hasher: RandomState,
    values: usize,
}

impl<V> Default for TopicTree<V> {
    fn default() -> Self {
        TopicTree {
            nodes: Vec::new(),
            free: Vec::new(),
            edges: HashTable::new(),
            // Fixed keys would let a peer choose levels that collide; these are random once a process.
            hasher: RandomState::new(),
            values: 0,
        }
    }
}

impl<V> TopicTree<V> {
    /// Filters that have a value.
    pub(crate) fn len(&self) -> usize {
        self.values
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values == 0
    }

    pub(crate) fn find(&self, instance: InstanceId, filter: &str) -> Option<NodeId> {
        let mut node = self.child(NONE, root_level(instance).as_str())?;
        for level in filter.split('/') {
            node = self.child(node, level)?;
        }
        self.nodes[node as usize]
            .value
            .is_some()
            .then_some(NodeId(node))
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&V> {
        self.nodes.get(node.0 as usize)?.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut V> {
        self.nodes.get_mut(node.0 as usize)?.value.as_mut()
    }

    /// The filter of a node, put together again.
    pub(crate) fn filter(&self, node: NodeId) -> String {
        let mut levels = Vec::new();
        let mut at = node.0;
        while self.nodes[at as usize].parent != NONE {
            levels.push(&*self.nodes[at as usize].level);
            at = self.nodes[at as usize].parent;
        }
        levels.reverse();
        levels.join("/")
    }

    /// The node of a filter, made where there is none.
    pub(crate) fn insert(&mut self, instance: InstanceId, filter: &str) -> (NodeId, &mut V)
    where
        V: Default,
    {
        let mut node = self.child_or_new(NONE, root_level(instance).as_str());
        for level in filter.split('/') {
            node = self.child_or_new(node, level);
        }
        let value = &mut self.nodes[node as usize].value;
        if value.is_none() {
            self.values += 1;
        }
        (NodeId(node), value.get_or_insert_with(V::default))
    }

    /// Takes a filter's value out and removes what nothing hangs on any more.
    pub(crate) fn remove(&mut self, node: NodeId) -> Option<V> {
        let value = self.nodes.get_mut(node.0 as usize)?.value.take()?;
        self.values -= 1;
        let mut at = node.0;
        while at != NONE {
            let this = &self.nodes[at as usize];
            if this.children > 0 || this.value.is_some() {
                break;
            }
            let parent = this.parent;
            self.unlink(at);
            at = parent;
        }
        Some(value)
    }

    /// Calls `found` for the value of each filter that matches `topic`, each once.
    pub(crate) fn matches<'a>(
        &'a self,
        instance: InstanceId,
        topic: &str,
        mut found: impl FnMut(NodeId, &'a V),
    ) {
        if self.values == 0 {
            return;
        }
        let Some(root) = self.child(NONE, root_level(instance).as_str()) else {
            return;
        };
        // Wildcards at the root do not match topics that begin with `$` [MQTT-4.7.2-1].
        self.walk(root, Some(topic), !topic.starts_with('$'), &mut found);
    }

    /// `rest` is what of the topic lies below `at`, `None` behind its last level. Recursion is as deep as the
    /// topic has levels, which codecs bound.
    fn walk<'a>(
        &'a self,
        at: u32,
        rest: Option<&str>,
        wildcards: bool,
        found: &mut impl FnMut(NodeId, &'a V),
    ) {
        let node = &self.nodes[at as usize];
        if wildcards && node.hash != NONE {
            self.report(node.hash, found);
        }
        let Some(rest) = rest else {
            self.report(at, found);
            return;
        };
        if node.children == 0 {
            return;
        }
        let (level, below) = match memchr_slash(rest) {
            Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
            None => (rest, None),
        };
        if wildcards && node.plus != NONE {
            self.walk(node.plus, below, true, found);
        }
        if let Some(child) = self.child(at, level) {
            self.walk(child, below, true, found);
        }
    }

    fn report<'a>(&'a self, at: u32, found: &mut impl FnMut(NodeId, &'a V)) {
        if let Some(value) = &self.nodes[at as usize].value {
            found(NodeId(at), value);
        }
    }

    fn child(&self, parent: u32, level: &str) -> Option<u32> {
        let hash = self.hasher.hash_one((parent, level));
        let same = |&at: &u32| {
            let node = &self.nodes[at as usize];
            node.parent == parent && *node.level == *level
        };
        self.edges.find(hash, same).copied()
    }

    fn child_or_new(&mut self, parent: u32, level: &str) -> u32 {
        if let Some(child) = self.child(parent, level) {
            return child;
        }
        let node = Node {
            parent,
            children: 0,
            plus: NONE,
            hash: NONE,
            level: level.into(),
            value: None,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 filter levels")
            }
        };
        let (nodes, hasher) = (&self.nodes, &self.hasher);
        let rehash = |&at: &u32| {
            let node = &nodes[at as usize];
            hasher.hash_one((node.parent, &*node.level))
        };
        self.edges
            .insert_unique(hasher.hash_one((parent, level)), at, rehash);
        if parent != NONE {
            let above = &mut self.nodes[parent as usize];
            above.children += 1;
            match level {
                "+" => above.plus = at,
                "#" => above.hash = at,
                _ => {}
            }
        }
        at
    }

    fn unlink(&mut self, at: u32) {
        let node = &mut self.nodes[at as usize];
        let level = std::mem::take(&mut node.level);
        let parent = node.parent;
        let hash = self.hasher.hash_one((parent, &*level));
        if let Ok(edge) = self.edges.find_entry(hash, |&other| other == at) {
            edge.remove();
        }
        self.free.push(at);
        if parent != NONE {
            let above = &mut self.nodes[parent as usize];
            above.children -= 1;
            match &*level {
                "+" => above.plus = NONE,
                "#" => above.hash = NONE,
                _ => {}
            }
        }
    }
}

/// The level above all filters of an instance. Children of no node are found by it alone.
fn root_level(instance: InstanceId) -> RootLevel {
    RootLevel(
        instance
            .0
            .to_be_bytes()
            .map(|byte| [b'a' + (byte >> 4), b'a' + (byte & 15)]),
    )
}

struct RootLevel([[u8; 2]; 2]);

impl RootLevel {
    fn as_str(&self) -> &str {
        std::str::from_utf8(self.0.as_flattened()).expect("letters only")
    }
}

fn memchr_slash(text: &str) -> Option<usize> {
    text.as_bytes().iter().position(|&byte| byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: InstanceId = InstanceId(0);

    /// Every filter against every topic, by the plain matcher.
    fn naive(filters: &[String], topic: &str) -> Vec<String> {
        let mut found: Vec<_> = filters
            .iter()
            .filter(|f| tidegate_codec::topic::matches(f, topic))
            .cloned()
            .collect();
        found.sort();
        found
    }

    fn matched(tree: &TopicTree<String>, topic: &str) -> Vec<String> {
        let mut found = Vec::new();
        tree.matches(HERE, topic, |node, value| {
            assert_eq!(&tree.filter(node), value);
            found.push(value.clone());
        });
        found.sort();
        found
    }

    /// A repeatable stream of numbers.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }

        fn path(&mut self, levels: &[&str]) -> String {
            let count = 1 + self.below(4);
            let parts: Vec<_> = (0..count)
                .map(|_| levels[self.below(levels.len() as u64) as usize])
                .collect();
            parts.join("/")
        }
    }

    #[test]
    fn the_tree_agrees_with_the_naive_matcher_while_filters_come_and_go() {
        let mut numbers = Numbers(42);
        let mut tree = TopicTree::<String>::default();
        let mut filters: Vec<String> = Vec::new();
        for _ in 0..4_000 {
            let mut filter = numbers.path(&["a", "b", "c", "", "+", "$x"]);
            if numbers.below(4) == 0 {
                filter.push_str("/#");
            }
            match filters.iter().position(|known| *known == filter) {
                Some(at) => {
                    let node = tree.find(HERE, &filter).expect("known");
                    assert_eq!(tree.remove(node), Some(filters.swap_remove(at)));
                }
                None => {
                    *tree.insert(HERE, &filter).1 = filter.clone();
                    filters.push(filter);
                }
            }
            let topic = numbers.path(&["a", "b", "c", "", "$x", "d"]);
            assert_eq!(matched(&tree, &topic), naive(&filters, &topic), "{topic}");
            assert_eq!(tree.len(), filters.len());
        }
    }

    #[test]
    fn memory_returns_when_all_filters_are_gone() {
        let mut tree = TopicTree::<String>::default();
        let nodes: Vec<_> = (0..100)
            .map(|i| tree.insert(HERE, &format!("a/{i}/+/#")).0)
            .collect();
        for node in nodes {
            tree.remove(node);
        }
        assert!(tree.is_empty() && tree.edges.is_empty());
        assert_eq!(tree.free.len(), tree.nodes.len());
    }

    #[test]
    fn instances_do_not_see_each_other() {
        let mut tree = TopicTree::<String>::default();
        *tree.insert(InstanceId(1), "a").1 = "a".into();
        assert_eq!(matched(&tree, "a"), Vec::<String>::new());
        assert!(tree.find(HERE, "a").is_none());
    }

    #[test]
    fn hash_matches_its_parent_level() {
        let mut tree = TopicTree::<String>::default();
        *tree.insert(HERE, "a/#").1 = "a/#".into();
        assert_eq!(matched(&tree, "a"), ["a/#"]);
        assert_eq!(matched(&tree, "a/b/c"), ["a/#"]);
        assert_eq!(matched(&tree, "ab"), Vec::<String>::new());
    }
}
