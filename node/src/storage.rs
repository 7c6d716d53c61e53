//! What a node keeps on disk: one database, shared by all of its shards.
//!
//! | column family | keys | records |
//! |---|---|---|
//! | `log` | shard, index | `log_entry` |
//! | `vote` | shard, tag | `vote_record`, `purged_record`, `committed_record`, `reach_record` |
//! | `snapshot` | shard, head or generation and number | `snapshot_record` |
//! | `meta` | name | `meta_record` |
//!
//! Every value is in the envelope of `record`: version, kind, payload, checksum over key and
//! value. All of it is written by one thread (`writer`) to the `journal` first, so that one sync serves
//! every shard that has something to write; reads go to memory (`tail`) or straight to the database.
//! Only the chunks of snapshots come another way (`snapshot_store`).
//!
//! Invariants: what was acknowledged is there after any crash, or an error says what is missing;
//! a damaged record stops the replica that it belongs to, and no other; nothing is cut off or
//! skipped to make a start possible; one process uses a directory at a time.

mod ballast;
mod budget;
mod claim;
mod committed_record;
mod corrupt;
mod drop_shard;
mod engine;
mod family;
mod flusher;
mod high_water;
mod journal;
mod layout;
mod log_entry;
mod log_reader;
mod log_sizes;
mod log_store;
mod machine;
mod membership;
mod meta_record;
mod op;
mod open;
mod purged_record;
mod reach_record;
mod record;
mod records;
mod sending;
mod snapshot_record;
mod snapshot_store;
mod space;
mod stats;
mod stored_snapshot;
mod succession;
mod tail;
mod verify;
mod vote_record;
mod writer;

#[cfg(test)]
mod tests;

use std::{io, path::PathBuf, sync::Arc};

use lockstep_model::ShardId;

pub use self::{
    budget::Budget,
    claim::AlreadyOpen,
    corrupt::{CorruptRecord, RecordId},
    drop_shard::DropShardError,
    engine::EngineError,
    log_reader::{LogReader, LogUse, MAX_READ_BYTES, NotInLog},
    log_store::LogStore,
    machine::{
        EffectSink, MachineStore, OutOfOrder, OutdatedSnapshot, SnapshotBuilder, UnreadableBatch,
        UnreadableSnapshot,
    },
    meta_record::{MAX_META_BYTES, MAX_NAME_BYTES, PutMetaError},
    open::OpenError,
    record::Problem,
    records::ReadError,
    snapshot_store::SnapshotUse,
    space::{Level, Space, watch as watch_space},
    stats::{StorageCounts, StorageStats},
    stored_snapshot::StoredSnapshot,
    succession::{Replayed, StageError, Staged, Survey, SurveyError},
    tail::Hole,
    verify::{Verified, VerifyError},
    writer::WriteFailed,
};
use self::{
    claim::{Claims, Part},
    log_reader::ShardLog,
    records::Records,
    writer::Writer,
};

/// What a node says whose storage has stopped.
pub const STORAGE_STOPPED: &str =
    "the storage has stopped after a failed write: see the log, and restart the node";

/// A shard could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenShardError {
    /// It is open.
    #[error(transparent)]
    AlreadyOpen(#[from] AlreadyOpen),
    /// Its records cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An earlier write failed, or the storage is shut down.
    #[error(transparent)]
    Write(#[from] WriteFailed),
    /// The runtime is shutting down.
    #[error("the shard cannot be opened: {0}")]
    Io(#[from] io::Error),
}

/// What everything that is open shares. The last one to go ends the writer.
pub(crate) struct Shared {
    writer: Writer,
    records: Records,
    space: Arc<Space>,
    stats: Arc<StorageStats>,
    claims: Claims,
    /// Where table files are written before the database adopts them.
    scratch: PathBuf,
}

/// A node's storage. Cheap to clone; the directory stays locked until all clones, and all that was
/// opened through them, are gone.
#[derive(Clone)]
pub struct Storage {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Storage")
            .field("records", &self.shared.records)
            .finish_non_exhaustive()
    }
}

impl Storage {
    /// Opens the log of a shard; an empty one if it has none.
    ///
    /// # Errors
    /// Where it is open already, or a record of its ends cannot be read.
    pub async fn log_store(&self, shard: ShardId) -> Result<LogStore, OpenShardError> {
        let claim = self.shared.claims.take(shard, Part::Log)?;
        // An earlier store of the shard may have left something in the queue.
        self.shared.writer.barrier().await?;
        let records = self.shared.records.clone();
        let recover = move || ShardLog::recover(records, shard);
        let recovered = tokio::task::spawn_blocking(recover)
            .await
            .map_err(io::Error::other)?;
        let (log, committed) = recovered?;
        Ok(LogStore::new(
            log,
            committed,
            Arc::clone(&self.shared),
            claim,
        ))
    }

    /// The first damaged record that was found in a shard. Raft's own error, after which its group
    /// has stopped, carries only the words.
    #[must_use]
    pub fn corruption_of(&self, shard: ShardId) -> Option<CorruptRecord> {
        self.shared.records.damage.of(shard)
    }

    /// The first damaged record of each shard that has one.
    #[must_use]
    pub fn corruptions(&self) -> Vec<CorruptRecord> {
        self.shared.records.damage.all()
    }

    /// The writer's counters.
    #[must_use]
    pub fn stats(&self) -> Arc<StorageStats> {
        Arc::clone(&self.shared.stats)
    }

    /// How much room its volume has.
    #[must_use]
    pub fn space(&self) -> Arc<Space> {
        Arc::clone(&self.shared.space)
    }

    /// Why nothing can be written, and what to do; none while it can.
    #[must_use]
    pub fn not_writing(&self) -> Option<String> {
        if self.has_stopped() {
            return Some(STORAGE_STOPPED.to_owned());
        }
        match self.shared.space.level() {
            Level::Ample | Level::Low => None,
            Level::Full => self.shared.space.problem(),
        }
    }

    /// True once a write has failed, or the writer has ended: nothing is written any more.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.shared.stats.read().failures > 0 || self.shared.writer.has_ended()
    }

    /// Writes and syncs all that waits, and takes no more writes. To be called after the replicas
    /// have been shut down. The directory stays locked until everything that was opened is dropped.
    ///
    /// # Errors
    /// Where the last sync failed.
    pub async fn shutdown(&self) -> Result<(), io::Error> {
        let thread = self.shared.writer.stop().await;
        let finish = move || -> Result<(), io::Error> {
            let ended = thread.map_or(Ok(Ok(())), std::thread::JoinHandle::join);
            Ok(ended.map_err(|_| io::Error::other("the storage writer panicked"))??)
        };
        tokio::task::spawn_blocking(finish)
            .await
            .map_err(io::Error::other)?
    }
}
