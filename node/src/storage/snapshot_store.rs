//! The current snapshot of one shard, on disk.
//!
//! A new snapshot is written beside the old one as a table file of its own, which RocksDB adopts
//! whole and durably: it passes neither through the journal nor through the memtables, so the logs'
//! syncs do not wait for it. Then one synced record, the head, switches to it. Then the
//! old one is removed.
//!
//! Invariant: after a crash at any point, [`SnapshotStore::load`] gives the old or the new snapshot
//! whole. Chunks that no head names are removed when the next snapshot is written, unless they are
//! being sent.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use lockstep_model::{DecodeError, ShardId};
use tokio::{sync::Mutex, task::spawn_blocking};

use super::{
    Shared,
    claim::Claim,
    corrupt::RecordId,
    engine::Engine,
    family::Family,
    op::Op,
    record::Problem,
    records::{ReadError, Records, shard_range},
    sending::Sending,
    snapshot_record::{
        CHUNK_BYTES, Generation, SnapshotHead, chunk_key, decode_chunk, decode_head, encode_chunk,
        encode_head, generation_key, head_key, parse_chunk_key,
    },
    stored_snapshot::StoredSnapshot,
    writer::Durability,
};
use crate::{
    crash::{self, Point},
    raft::types::SnapshotMeta,
};

/// Where a snapshot comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was taken of this replica's machine.
    Built,
    /// The leader sent it.
    Received,
}

impl Origin {
    const fn chunk_written(self) -> Point {
        match self {
            Self::Built => Point::SnapshotBuildChunk,
            Self::Received => Point::SnapshotInstallChunk,
        }
    }

    const fn all_written(self) -> Point {
        match self {
            Self::Built => Point::SnapshotSwitch,
            Self::Received => Point::SnapshotInstallSwitch,
        }
    }
}

/// Whether a snapshot became the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// It did.
    Yes,
    /// A later one was there.
    LaterOneExists,
}

/// See the module.
pub(crate) struct SnapshotStore {
    shard: ShardId,
    shared: Arc<Shared>,
    claim: Arc<Claim>,
    sending: Arc<Sending>,
    /// The size of the current one.
    bytes: Arc<AtomicU64>,
    /// One snapshot is written at a time: a built one and an installed one may meet.
    writing: Mutex<()>,
}

impl SnapshotStore {
    /// Of a shard whose machine was claimed.
    pub(crate) fn new(shard: ShardId, shared: Arc<Shared>, claim: Claim) -> Self {
        Self {
            shard,
            shared,
            claim: Arc::new(claim),
            sending: Arc::default(),
            bytes: Arc::default(),
            writing: Mutex::new(()),
        }
    }

    /// Makes a snapshot the current one, durably, unless a later one is.
    ///
    /// # Errors
    /// Where it could not be written; the old one is then still the current one.
    pub(crate) async fn save(
        &self,
        meta: SnapshotMeta,
        bytes: Bytes,
        origin: Origin,
    ) -> Result<Kept, io::Error> {
        let _alone = self.writing.lock().await;
        let size = bytes.len() as u64;
        let (shared, shard) = (Arc::clone(&self.shared), self.shard);
        let stored = spawn_blocking(move || {
            store_chunks(
                &shared.records,
                shard,
                meta,
                &bytes,
                &shared.scratch,
                origin,
            )
        });
        let Some(head) = stored.await.map_err(io::Error::other)?? else {
            return Ok(Kept::LaterOneExists);
        };
        crash::point(origin.all_written());
        let generation = head.generation;
        let key = head_key(shard);
        let put = Op::Put(Family::Snapshot, key.to_vec(), encode_head(&key, &head));
        self.shared
            .writer
            .write(vec![put], Durability::Synced)
            .await?;
        self.bytes.store(size, Ordering::Relaxed);
        self.sending.made();
        self.remove_before(self.sending.removable(generation))
            .await?;
        Ok(Kept::Yes)
    }

    /// What a shard's snapshots take, and hold up.
    pub(crate) fn usage(&self) -> SnapshotUse {
        SnapshotUse {
            sending: Arc::clone(&self.sending),
            bytes: Arc::clone(&self.bytes),
        }
    }

    /// True while no new snapshot should be made, because one is on its way to a follower.
    pub(crate) fn is_sending(&self) -> bool {
        self.sending.holds()
    }

    /// The current snapshot, to be read piece by piece.
    pub(crate) async fn current(&self) -> Result<Option<StoredSnapshot>, io::Error> {
        let (records, shard) = (self.shared.records.clone(), self.shard);
        let (sending, claim) = (Arc::clone(&self.sending), Arc::clone(&self.claim));
        let find = move || -> Result<_, ReadError> {
            let pinned = sending.pin(|| current_head(&records, shard), |head| head.generation)?;
            Ok(pinned.map(|(head, pin)| StoredSnapshot::new(shard, head, records, pin, claim)))
        };
        Ok(spawn_blocking(find).await.map_err(io::Error::other)??)
    }

    /// The current snapshot, every record of it verified.
    pub(crate) async fn load(&self) -> Result<Option<(SnapshotHead, Bytes)>, io::Error> {
        let (records, shard) = (self.shared.records.clone(), self.shard);
        let loaded = spawn_blocking(move || load(&records, shard));
        let loaded = loaded.await.map_err(io::Error::other)??;
        let size = loaded.as_ref().map_or(0, |(head, _)| head.bytes);
        self.bytes.store(size, Ordering::Relaxed);
        Ok(loaded)
    }

    /// Reports that the content of a stored snapshot makes no sense.
    pub(crate) fn unreadable(&self, generation: Generation, error: &DecodeError) -> ReadError {
        let record = RecordId::Snapshot {
            shard: self.shard,
            generation: generation.0,
        };
        self.shared
            .records
            .corrupt(record, Problem::Content(error.to_string()))
    }

    async fn remove_before(&self, generation: Generation) -> Result<(), io::Error> {
        let (records, shard) = (self.shared.records.clone(), self.shard);
        let from = generation_key(shard, Generation::default());
        let to = generation_key(shard, generation);
        let range = (from.clone(), to.clone());
        let drop_tables = move || -> Result<bool, ReadError> {
            records.engine.drop_tables(Family::Snapshot, &from, &to)?;
            let mut rest = records.engine.iterate(Family::Snapshot, from, to)?;
            rest.seek_to_first();
            Ok(rest.valid())
        };
        if spawn_blocking(drop_tables)
            .await
            .map_err(io::Error::other)??
        {
            let (from, to) = range;
            let rest = Op::DeleteRange(Family::Snapshot, from, to);
            self.shared
                .writer
                .write(vec![rest], Durability::Ordered)
                .await?;
        }
        Ok(())
    }
}

/// What a shard's snapshots take, and hold up. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SnapshotUse {
    sending: Arc<Sending>,
    bytes: Arc<AtomicU64>,
}

impl SnapshotUse {
    /// The size of the current one; 0 if there is none.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// True while no new one should be made, because one is on its way to a follower.
    #[must_use]
    pub fn is_sending(&self) -> bool {
        self.sending.holds()
    }

    /// The next one is made although one is on its way.
    pub fn overrule(&self) {
        self.sending.overrule();
    }
}

/// Stores the chunks of a new generation and gives the head that is to name them; none if the
/// current snapshot is a later one.
pub(crate) fn store_chunks(
    records: &Records,
    shard: ShardId,
    meta: SnapshotMeta,
    bytes: &Bytes,
    scratch: &Path,
    origin: Origin,
) -> Result<Option<SnapshotHead>, ReadError> {
    let current = current_head(records, shard)?;
    if current
        .as_ref()
        .is_some_and(|head| head.meta.last_log_id > meta.last_log_id)
    {
        return Ok(None);
    }
    let latest = latest_generation(records, shard)?;
    let generation = latest
        .max(current.map_or_else(Generation::default, |head| head.generation))
        .next();
    let chunks = bytes.chunks(CHUNK_BYTES).zip(0..).map(|(chunk, number)| {
        let key = chunk_key(shard, generation, number);
        let value = encode_chunk(&key, chunk);
        (key, value)
    });
    if !bytes.is_empty() {
        let table = table_path(scratch, shard, generation);
        let wrote = || crash::point(origin.chunk_written());
        let adopted = Engine::write_table(&table, chunks, wrote)
            .and_then(|()| records.engine.adopt_table(Family::Snapshot, &table));
        if let Err(error) = adopted {
            // What there is of it must not take the room that it lacked. It may not be there at all.
            let _ = fs::remove_file(&table);
            return Err(error.into());
        }
    }
    let chunks = u32::try_from(bytes.len().div_ceil(CHUNK_BYTES)).unwrap_or(u32::MAX);
    Ok(Some(SnapshotHead {
        generation,
        chunks,
        bytes: bytes.len() as u64,
        meta,
    }))
}

fn table_path(scratch: &Path, shard: ShardId, generation: Generation) -> PathBuf {
    scratch.join(format!("snapshot-{shard}-{}.sst", generation.0))
}

pub(crate) fn current_head(
    records: &Records,
    shard: ShardId,
) -> Result<Option<SnapshotHead>, ReadError> {
    records.get(
        Family::Snapshot,
        &head_key(shard),
        RecordId::SnapshotHead { shard },
        decode_head,
    )
}

/// The highest generation that has a chunk, whether or not a head names it.
fn latest_generation(records: &Records, shard: ShardId) -> Result<Generation, ReadError> {
    let record = || RecordId::SnapshotHead { shard };
    let from = generation_key(shard, Generation::default());
    let (_, to) = shard_range(shard);
    let mut chunks = records.engine.iterate(Family::Snapshot, from, to)?;
    chunks.seek_to_last();
    let Some(key) = chunks.key() else {
        records.check_end(record(), chunks.status())?;
        return Ok(Generation::default());
    };
    let (generation, _) =
        parse_chunk_key(key).map_err(|problem| records.corrupt(record(), problem))?;
    Ok(generation)
}

/// Reads the current snapshot. One iterator sees head and chunks as they were at one moment.
pub(crate) fn load(
    records: &Records,
    shard: ShardId,
) -> Result<Option<(SnapshotHead, Bytes)>, ReadError> {
    let head_record = || RecordId::SnapshotHead { shard };
    let (from, to) = shard_range(shard);
    let mut found = records.engine.iterate(Family::Snapshot, from, to)?;
    let key = head_key(shard);
    found.seek(key);
    let Some((_, value)) = found.item().filter(|(found, _)| *found == key) else {
        records.check_end(head_record(), found.status())?;
        return Ok(None);
    };
    let head =
        decode_head(&key, value).map_err(|problem| records.corrupt(head_record(), problem))?;

    let mut bytes = Vec::with_capacity(usize::try_from(head.bytes).unwrap_or(0));
    found.seek(generation_key(shard, head.generation));
    for number in 0..head.chunks {
        let record = || RecordId::chunk(shard, head.generation, number);
        let key = chunk_key(shard, head.generation, number);
        let Some((_, value)) = found.item().filter(|(found, _)| *found == key) else {
            records.check_end(record(), found.status())?;
            return Err(records.corrupt(record(), Problem::Missing));
        };
        let chunk =
            decode_chunk(&key, value).map_err(|problem| records.corrupt(record(), problem))?;
        bytes.extend_from_slice(chunk);
        found.next();
    }
    if bytes.len() as u64 != head.bytes {
        let problem = Problem::Malformed("its chunks do not add up to its size");
        return Err(records.corrupt(head_record(), problem));
    }
    Ok(Some((head, bytes.into())))
}
