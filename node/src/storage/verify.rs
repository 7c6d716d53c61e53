//! Reads all that a shard has on disk, and checks every record.
//!
//! Invariant: it changes nothing.

use std::ops::Range;

use lockstep_model::{Machine, ShardId};

use super::{
    Storage,
    claim::{AlreadyOpen, Part},
    corrupt::RecordId,
    log_reader::ShardLog,
    record::Problem,
    records::{ReadError, Records},
    snapshot_store,
};

/// What was read and found right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Log entries, without a hole between the first and the last.
    pub entries: u64,
    /// Bytes of the current snapshot.
    pub snapshot_bytes: u64,
}

/// A shard could not be verified, or was found damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// It is open: its records change.
    #[error(transparent)]
    Open(#[from] AlreadyOpen),
    /// A record cannot be trusted, or cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// How many bytes of entries are in memory at a time.
const PIECE_BYTES: usize = 4 << 20;

impl Storage {
    /// Reads and checks everything that a shard has on disk. Blocks.
    ///
    /// # Errors
    /// Where the shard is open, or the first record that cannot be trusted.
    pub fn verify(&self, shard: ShardId) -> Result<Verified, VerifyError> {
        let _log = self.shared.claims.take(shard, Part::Log)?;
        let _machine = self.shared.claims.take(shard, Part::Machine)?;
        Ok(verify(&self.shared.records, shard)?)
    }
}

fn verify(records: &Records, shard: ShardId) -> Result<Verified, ReadError> {
    let mut verified = Verified::default();
    let (log, _) = ShardLog::recover(records.clone(), shard)?;
    let Range {
        start: mut next,
        end,
    } = log.tail.lock().indexes();
    while next < end {
        let entries = log.read_blocking(next, end, PIECE_BYTES)?;
        if entries.is_empty() {
            let record = RecordId::LogEntry { shard, index: next };
            return Err(records.corrupt(record, Problem::Missing));
        }
        next = next.saturating_add(entries.len() as u64);
        verified.entries += entries.len() as u64;
    }
    if let Some((head, bytes)) = snapshot_store::load(records, shard)? {
        verified.snapshot_bytes = head.bytes;
        Machine::restore(&bytes).map_err(|error| {
            let record = RecordId::Snapshot {
                shard,
                generation: head.generation.0,
            };
            records.corrupt(record, Problem::Content(error.to_string()))
        })?;
    }
    Ok(verified)
}
