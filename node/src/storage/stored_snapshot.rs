//! A snapshot on disk, read piece by piece while it is sent.
//!
//! Invariant: it is there until this is dropped, whatever snapshots are made meanwhile; and as long
//! its shard is not dropped.

use std::{fmt, io, sync::Arc};

use bytes::Bytes;
use lockstep_model::ShardId;
use tokio::task::spawn_blocking;

use super::{
    claim::Claim,
    corrupt::RecordId,
    family::Family,
    record::Problem,
    records::{ReadError, Records},
    sending::Pin,
    snapshot_record::{CHUNK_BYTES, SnapshotHead, chunk_key, decode_chunk},
};

/// See the module.
pub struct StoredSnapshot {
    shard: ShardId,
    head: SnapshotHead,
    records: Records,
    pin: Pin,
    _claim: Arc<Claim>,
}

impl fmt::Debug for StoredSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredSnapshot")
            .field("shard", &self.shard)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}

impl StoredSnapshot {
    pub(super) fn new(
        shard: ShardId,
        head: SnapshotHead,
        records: Records,
        pin: Pin,
        claim: Arc<Claim>,
    ) -> Self {
        Self {
            shard,
            head,
            records,
            pin,
            _claim: claim,
        }
    }

    pub(super) const fn head(&self) -> &SnapshotHead {
        &self.head
    }

    /// Its size in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.head.bytes
    }

    /// What begins at `offset`, up to the end of a chunk; empty at the end.
    ///
    /// # Errors
    /// If it is damaged, or cannot be read.
    pub async fn read(&self, offset: u64) -> Result<Bytes, io::Error> {
        if offset >= self.head.bytes {
            return Ok(Bytes::new());
        }
        let (number, within) = (offset / CHUNK_BYTES as u64, offset % CHUNK_BYTES as u64);
        let (shard, generation) = (self.shard, self.head.generation);
        let records = self.records.clone();
        let number = u32::try_from(number).map_err(io::Error::other)?;
        let read = move || -> Result<Bytes, ReadError> {
            let key = chunk_key(shard, generation, number);
            let record = || RecordId::chunk(shard, generation, number);
            let decode =
                |key: &[u8], value: &[u8]| decode_chunk(key, value).map(Bytes::copy_from_slice);
            let chunk = records.get(Family::Snapshot, &key, record(), decode)?;
            chunk
                .filter(|chunk| chunk.len() as u64 > within)
                .ok_or_else(|| records.corrupt(record(), Problem::Missing))
        };
        let mut chunk = spawn_blocking(read).await.map_err(io::Error::other)??;
        Ok(chunk.split_off(usize::try_from(within).map_err(io::Error::other)?))
    }

    /// To be told while it is sent: see [`super::sending`].
    pub fn progressed(&self) {
        self.pin.progressed();
    }
}
