//! What the admin side knows about the process: how far it is, and where its numbers are.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::OnceLock;

use crate::metrics::Metrics;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Starting,
    Serving,
    Draining,
}

const PHASES: [Phase; 3] = [Phase::Starting, Phase::Serving, Phase::Draining];

#[derive(Debug)]
pub(crate) struct State {
    phase: AtomicU8,
    /// Empty until the shards serve.
    metrics: OnceLock<Metrics>,
}

impl State {
    pub(super) fn new() -> State {
        State {
            phase: AtomicU8::new(Phase::Starting as u8),
            metrics: OnceLock::new(),
        }
    }

    pub(super) fn phase(&self) -> Phase {
        PHASES[usize::from(self.phase.load(Ordering::Acquire))]
    }

    /// Phases only go forward: a drain that began while starting stays one.
    pub(super) fn set_phase(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    pub(super) fn metrics(&self) -> Option<&Metrics> {
        self.metrics.get()
    }

    pub(super) fn set_metrics(&self, metrics: Metrics) {
        // A process has one node; a second would be a defect without harm here.
        let _ = self.metrics.set(metrics);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_is_never_taken_back() {
        let state = State::new();
        assert_eq!(state.phase(), Phase::Starting);
        state.set_phase(Phase::Draining);
        state.set_phase(Phase::Serving);
        assert_eq!(state.phase(), Phase::Draining);
    }
}
