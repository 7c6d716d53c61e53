//! One replica's state machine, of either kind.
//!
//! Invariant: `apply` is total and deterministic: any decoded batch gives one outcome per command
//! and never panics, and replicas that applied the same batches are equal, byte for byte, in
//! [`Machine::snapshot`].

use crate::{applied::Applied, command::Batch, id::ShardTime, meta::Meta, shard::Shard};

/// The state machine of one replica.
#[expect(
    clippy::large_enum_variant,
    reason = "a replica has one, in its place; a box would cost each access"
)]
#[derive(Clone, Debug)]
pub enum Machine {
    /// Shard 0: nodes, placement, settings.
    Meta(Meta),
    /// A data shard.
    Data(Shard),
}

impl Machine {
    /// Applies one committed batch.
    pub fn apply(&mut self, batch: Batch) -> Applied {
        match self {
            Self::Meta(meta) => meta.apply(batch),
            Self::Data(shard) => shard.apply(batch),
        }
    }

    /// The latest time in its batches; the meta shard has none.
    #[must_use]
    pub const fn now(&self) -> ShardTime {
        match self {
            Self::Meta(_) => ShardTime(0),
            Self::Data(shard) => shard.now(),
        }
    }

    /// Answers a question from the present state.
    #[must_use]
    pub fn query(&self, query: &crate::query::Query) -> crate::query::Answer {
        match self {
            Self::Meta(meta) => meta.query(query),
            Self::Data(shard) => shard.query(query),
        }
    }
}
