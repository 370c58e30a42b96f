//! A model of the store behind `StoreOp`.

use tidegate_codec::Delivery;
use tidegate_shard_router::store_op::{Commit, StoreOp};

use crate::plan::StoreKind;

#[derive(Debug)]
pub(crate) struct ModelStore {
    kind: StoreKind,
}

impl ModelStore {
    pub(crate) fn new(kind: StoreKind) -> ModelStore {
        ModelStore { kind }
    }

    pub(crate) fn exists(&self) -> bool {
        self.kind != StoreKind::None
    }

    pub(crate) fn take(&mut self, _shard: u16, _op: &StoreOp<'_>) -> Commit {
        Commit::Done
    }

    pub(crate) fn leaves(&mut self, _session: usize, _delivery: &Delivery<'_>) {}
}
