//! One shard's thread: the loop, the socket drivers, timers, hand-over.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`launch`] | the thread: pinning, executor, report of start and end |
//! | [`worker`] | the loop, its budgets, its sleep |
//! | [`driver`] | the seam to the kernel: ring and epoll |
//! | [`decode`] | bytes → events → the shard's mind |
//! | [`hand_over`] | from a decoded CONNECT to a session on its home shard |
//! | [`effects`] | all connections, and what the mind may ask of them |
//! | [`settle`] | the end of a turn: sends, pauses, closing |
//! | [`connection`] | one connection's slot; [`out_queue`], [`remainder`]: what it borrows while busy |
//! | [`timers`] | the wheel |
//! | [`tally`], [`snapshot`] | what is counted, and its copy for the admin side |

pub(crate) mod bell;
pub(crate) mod clock;
mod connection;
mod decode;
pub(crate) mod driver;
mod effects;
pub(crate) mod hand_over;
pub(crate) mod launch;
pub(crate) mod listener;
mod out_queue;
mod remainder;
mod settle;
#[cfg(test)]
mod simulation;
pub mod snapshot;
mod tally;
mod timers;
pub(crate) mod worker;
