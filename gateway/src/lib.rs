//! The gateway process: sockets, timers, command line, configuration, metrics.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`auth`] | who may come in |
//! | [`config`] | what a node runs with: file, environment and flags, each value with its place |
//! | [`host`] | what this machine gives the process |
//! | [`node`] | all shards of this process: start, snapshots, drain, join |
//! | [`shard`] | one shard's thread: the loop, the socket drivers, timers, hand-over |

pub mod auth;
pub mod config;
pub mod host;
pub mod node;
pub mod shard;
