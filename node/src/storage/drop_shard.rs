//! Deleting a shard's replica from the disk.
//!
//! Invariant: it is all or nothing, and never done to a replica that is open.

use std::{io, sync::Arc};

use lockstep_model::ShardId;

use super::{
    Storage,
    claim::{AlreadyOpen, Part},
    engine::EngineError,
    family::Family,
    op::Op,
    records::shard_range,
    writer::{Durability, WriteFailed},
};

/// A shard's records could not be dropped.
#[derive(Debug, thiserror::Error)]
pub enum DropShardError {
    /// Its replica still runs.
    #[error(transparent)]
    StillOpen(#[from] AlreadyOpen),
    /// The records could not be deleted.
    #[error(transparent)]
    Write(#[from] WriteFailed),
    /// The files could not be dropped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The runtime is shutting down.
    #[error("the shard cannot be dropped: {0}")]
    Io(#[from] io::Error),
}

impl Storage {
    /// Deletes all records of a shard, durably: log, vote and snapshot. To be done only when its
    /// replica is no member of its group any more: a voter that forgets its vote may vote twice.
    ///
    /// # Errors
    /// Where its log or machine is open, or writing fails.
    pub async fn drop_shard(&self, shard: ShardId) -> Result<(), DropShardError> {
        let _log = self.shared.claims.take(shard, Part::Log)?;
        let _machine = self.shared.claims.take(shard, Part::Machine)?;
        let (from, to) = shard_range(shard);
        let families = [Family::Log, Family::Vote, Family::Snapshot];
        let ops = families.map(|family| Op::DeleteRange(family, from.clone(), to.clone()));
        self.shared
            .writer
            .write(ops.into(), Durability::Synced)
            .await?;
        self.shared.records.damage.forget(shard);
        let engine = Arc::clone(&self.shared.records.engine);
        let drop_tables = move || engine.drop_tables(Family::Snapshot, &from, &to);
        tokio::task::spawn_blocking(drop_tables)
            .await
            .map_err(io::Error::other)??;
        Ok(())
    }
}
