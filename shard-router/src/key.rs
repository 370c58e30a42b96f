//! What ids, topics and rules are keyed by: an instance and a name. And the handles of things a shard owns.

use std::fmt;

/// A shard of this process, counted from 0. No persistent key contains one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A name space of client ids and topics. Instance 0 is the default one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub u16);

/// A client id in its instance; the key of a session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClientKey {
    pub instance: InstanceId,
    pub client_id: Box<str>,
}

/// A connection slot of the driver of this shard. The generation tells a slot's tenants apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    pub index: u32,
    pub generation: u32,
}

/// A session slot of this shard. A handle that outlived its session is recognised by its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    pub index: u32,
    pub generation: u32,
}
