//! What threads share here, named in one place: `tests/loom` puts models of it in its stead, and so drives the doorbell
//! and the mailboxes through every order in which their steps can happen.

pub(crate) use std::sync::atomic::{fence, AtomicBool, AtomicU64, Ordering};

pub(crate) use crossbeam_channel::{bounded, Receiver, Sender};
