//! One shard's mind, sans-io: sessions, the slice of the subscription table, retained messages, mailboxes.
//!
//! A [`Shard`] is a plain value that one thread owns. It reads no clock and no socket: time comes in as
//! [`Millis`](tidegate_codec::Millis), what it wants done to a connection or to the store goes out through
//! [`Effects`], and what crosses to another shard is an [`Envelope`](envelope::Envelope) in a mailbox.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`shard`] | [`Shard`]: owns everything below; the verbs a driver calls |
//! | [`placement`] | which shard is home to a client and owner of a topic |
//! | [`mailbox`] | bounded channels from shard to shard, and the doorbell that wakes a sleeper |

#![forbid(unsafe_code)]

mod commits;
pub mod config;
pub mod counters;
mod credit;
pub mod doorbell;
pub mod effects;
pub mod envelope;
mod epoch;
mod home;
pub mod key;
pub mod mailbox;
pub mod placement;
#[cfg(feature = "planted-defects")]
#[doc(hidden)]
pub mod planted;
#[cfg(not(feature = "planted-defects"))]
mod planted;
pub mod restore;
mod retained;
mod session;
pub mod shard;
mod shared_group;
mod slice;
pub mod store_op;
mod sync;
pub mod ticket;
mod topic_tree;

pub use config::ShardConfig;
pub use counters::{Counters, DropReason};
pub use doorbell::{Doorbell, Wake};
pub use effects::{DeliveryOutcome, Effects};
pub use key::{ConnectionId, InstanceId, SessionId, ShardId};
pub use placement::Placement;
#[doc(hidden)]
pub use shard::Census;
pub use shard::{Connected, Connecting, Departure, Progress, Shard, Step};
