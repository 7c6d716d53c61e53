//! Deleting a shard's replica from the disk.
//!
//! Invariants: it is all or nothing, and never done to a replica that is open. What the replica has
//! promised is kept: its vote, and how far its log reached, which bind the next replica of the shard on
//! this node (see [`crate::replica::eligibility`]).

use std::{io, sync::Arc};

use lockstep_model::ShardId;

use super::{
    Storage,
    claim::{AlreadyOpen, Part},
    committed_record,
    corrupt::RecordId,
    engine::EngineError,
    family::Family,
    log_reader::ShardLog,
    op::Op,
    purged_record, reach_record,
    records::{ReadError, Records, shard_range},
    snapshot_store,
    writer::{Durability, WriteFailed},
};

/// A shard's records could not be dropped.
#[derive(Debug, thiserror::Error)]
pub enum DropShardError {
    /// Its replica still runs.
    #[error(transparent)]
    StillOpen(#[from] AlreadyOpen),
    /// What has to be kept could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
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
    /// Deletes a shard's log and snapshot, durably. To be done only when its replica is no member of its
    /// group any more. Its vote stays, and how far its log reached.
    ///
    /// # Errors
    /// Where its log or machine is open, what has to be kept cannot be read, or writing fails.
    pub async fn drop_shard(&self, shard: ShardId) -> Result<(), DropShardError> {
        let _log = self.shared.claims.take(shard, Part::Log)?;
        // What an earlier store of the shard has left in the queue counts too.
        self.shared.writer.barrier().await?;
        let records = self.shared.records.clone();
        let kept = tokio::task::spawn_blocking(move || kept(records, shard));
        let kept = kept.await.map_err(io::Error::other)??;
        self.delete(shard, kept).await
    }

    /// Deletes all of a shard, durably, also what binds later replicas: for a node that begins anew under
    /// another id.
    ///
    /// # Errors
    /// Where its log or machine is open, or writing fails.
    pub async fn forget_shard(&self, shard: ShardId) -> Result<(), DropShardError> {
        let _log = self.shared.claims.take(shard, Part::Log)?;
        let (from, to) = shard_range(shard);
        let all = Op::DeleteRange(Family::Vote, from, to);
        self.delete(shard, vec![all]).await
    }

    /// True if there is a log or a snapshot of a shard, or a part of one. Blocks.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn has_replica(&self, shard: ShardId) -> Result<bool, ReadError> {
        let records = &self.shared.records;
        let (from, to) = shard_range(shard);
        let parts = [
            (Family::Log, RecordId::Log { shard }),
            (Family::Snapshot, RecordId::SnapshotHead { shard }),
        ];
        for (family, record) in parts {
            let mut found = records.engine.iterate(family, from.clone(), to.clone())?;
            found.seek_to_first();
            if found.valid() {
                return Ok(true);
            }
            records.check_end(record, found.status())?;
        }
        Ok(false)
    }

    async fn delete(&self, shard: ShardId, mut ops: Vec<Op>) -> Result<(), DropShardError> {
        let _machine = self.shared.claims.take(shard, Part::Machine)?;
        let (from, to) = shard_range(shard);
        let families = [Family::Log, Family::Snapshot];
        ops.extend(families.map(|family| Op::DeleteRange(family, from.clone(), to.clone())));
        self.shared.writer.write(ops, Durability::Synced).await?;
        self.shared.records.damage.forget(shard);
        let engine = Arc::clone(&self.shared.records.engine);
        let drop_tables = move || engine.drop_tables(Family::Snapshot, &from, &to);
        tokio::task::spawn_blocking(drop_tables)
            .await
            .map_err(io::Error::other)??;
        Ok(())
    }
}

/// What makes the small records of a shard those of a replica that is gone. Where they cannot be read,
/// nothing may be deleted: the votes that the replica gave would be forgotten.
fn kept(records: Records, shard: ShardId) -> Result<Vec<Op>, ReadError> {
    let snapshot = snapshot_store::current_head(&records, shard)?;
    let covered = snapshot.and_then(|head| head.meta.last_log_id);
    let (log, _) = ShardLog::recover(records, shard)?;
    let end = log.tail.lock().state().last_log_id;
    let delete = |key: [u8; 5]| Op::DeleteRange(Family::Vote, key.to_vec(), after(&key));
    let mut ops = vec![
        delete(purged_record::key(shard)),
        delete(committed_record::key(shard)),
    ];
    if let Some(reach) = end.max(covered).max(log.reach) {
        let key = reach_record::key(shard);
        let value = reach_record::encode(&key, &reach);
        ops.push(Op::Put(Family::Vote, key.to_vec(), value));
    }
    Ok(ops)
}

/// The first key after this one.
fn after(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
