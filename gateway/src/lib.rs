//! The gateway process: sockets, timers, command line, configuration, metrics.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`auth`] | who may come in |
//! | [`node`] | all shards of this process: start, snapshots, drain, join |
//! | [`shard`] | one shard's thread: the loop, the socket drivers, timers, hand-over |

pub mod auth;
pub mod node;
pub mod shard;
