//! How far the store is, and which sessions wait for it before they send on.

use std::collections::VecDeque;

use crate::key::SessionId;
use crate::store_op::{Commit, CommitSequence};

#[derive(Debug, Default)]
pub(crate) struct Commits {
    upto: Option<CommitSequence>,
    /// Each session stands here once at most. Nearly in order of the sequence; one that stands behind a later one
    /// waits a little longer than it must.
    senders: VecDeque<(CommitSequence, SessionId)>,
}

impl Commits {
    pub(crate) fn hold(&self, sequence: CommitSequence) -> bool {
        self.upto.is_some_and(|upto| sequence <= upto)
    }

    /// What has to be waited for, if anything.
    pub(crate) fn pending(&self, commit: Commit) -> Option<CommitSequence> {
        match commit {
            Commit::Pending(sequence) if !self.hold(sequence) => Some(sequence),
            _ => None,
        }
    }

    pub(crate) fn advance(&mut self, upto: CommitSequence) {
        self.upto = self.upto.max(Some(upto));
    }

    pub(crate) fn wait(&mut self, sequence: CommitSequence, session: SessionId) {
        self.senders.push_back((sequence, session));
    }

    /// The next session that may send on.
    pub(crate) fn next_sender(&mut self) -> Option<SessionId> {
        let &(sequence, session) = self.senders.front()?;
        if !self.hold(sequence) {
            return None;
        }
        self.senders.pop_front();
        Some(session)
    }

    pub(crate) fn len(&self) -> usize {
        self.senders.len()
    }
}
