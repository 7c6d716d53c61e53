//! What is left of a cluster, and putting another one in its place: for nodes that are stopped.
//!
//! Invariants: looking changes nothing; what is staged is seen by nobody until it is put in place,
//! and that happens to all shards and the node's own records at once, durably, or not at all.

use std::io;

use bytes::Bytes;
use lockstep_model::{Batch, Machine, ShardId};
use tokio::task::spawn_blocking;

use super::{
    Storage,
    claim::{AlreadyOpen, Claim, Part},
    committed_record,
    corrupt::RecordId,
    family::Family,
    log_reader::ShardLog,
    machine::empty,
    meta_record,
    op::Op,
    purged_record,
    record::Problem,
    records::{ReadError, shard_range},
    snapshot_record::{SnapshotHead, encode_head, head_key},
    snapshot_store::{self, Origin, store_chunks},
    vote_record,
    writer::{Durability, WriteFailed},
};
use crate::raft::types::{BatchBytes, Entry, LogId, Payload, SnapshotMeta, StoredMembership, Vote};

/// How many bytes of entries are in memory at a time.
const PIECE_BYTES: usize = 4 << 20;

/// What a replica has on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Its vote.
    pub vote: Option<Vote>,
    /// The end of its log or, if that is empty, of its snapshot.
    pub last: LogId,
    /// Up to where the log is purged.
    pub purged: Option<LogId>,
    /// What its snapshot covers.
    pub snapshot: Option<LogId>,
}

/// A replica's state with all of its log applied, entries included that it does not know to be
/// committed: they may have been acknowledged.
#[derive(Debug)]
pub struct Replayed {
    /// The state.
    pub machine: Machine,
    /// Up to where.
    pub last: LogId,
    /// The last memberships of its group that it has, in their order, at most two. Only the last can be
    /// uncommitted (dissertation, section 4.1), so one of them is that by which entries are committed.
    pub memberships: Vec<StoredMembership>,
}

/// A replica could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// It is open.
    #[error(transparent)]
    Open(#[from] AlreadyOpen),
    /// A record cannot be trusted.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is no such replica.
    #[error("shard {0} has no replica here")]
    Absent(ShardId),
}

/// A replica that is to take a shard's place.
#[derive(Debug)]
pub struct Staged {
    shard: ShardId,
    head: SnapshotHead,
    last: LogId,
    vote: Vote,
    _claims: [Claim; 2],
}

/// Why nothing was staged, or put in place.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The replica is open.
    #[error(transparent)]
    Open(#[from] AlreadyOpen),
    /// The disk cannot be read or written.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The disk cannot be written.
    #[error(transparent)]
    Write(#[from] WriteFailed),
    /// What is to be put in place is older than what is there.
    #[error("shard {0} has a later snapshot already")]
    Later(ShardId),
    /// The runtime is shutting down.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Storage {
    /// What a shard's replica has; none if there is nothing of it. Blocks.
    ///
    /// # Errors
    /// If it is open, or a record of its ends cannot be trusted.
    pub fn survey(&self, shard: ShardId) -> Result<Option<Survey>, SurveyError> {
        let _log = self.shared.claims.take(shard, Part::Log)?;
        let records = &self.shared.records;
        let (log, _) = ShardLog::recover(records.clone(), shard)?;
        let head = snapshot_store::current_head(records, shard)?;
        let snapshot = head.and_then(|head| head.meta.last_log_id);
        let state = log.tail.lock().state();
        let vote = *log.vote.lock();
        Ok(state.last_log_id.max(snapshot).map(|last| Survey {
            vote,
            last,
            purged: state.last_purged_log_id,
            snapshot,
        }))
    }

    /// Reads a shard's snapshot and applies its whole log to it. Blocks.
    ///
    /// # Errors
    /// If it is open, there is no such replica, or a record cannot be trusted.
    pub fn replay(&self, shard: ShardId) -> Result<Replayed, SurveyError> {
        let _log = self.shared.claims.take(shard, Part::Log)?;
        let _machine = self.shared.claims.take(shard, Part::Machine)?;
        let records = &self.shared.records;
        let mut machine = empty(shard);
        let mut last = None;
        let mut memberships = Vec::new();
        if let Some((head, bytes)) = snapshot_store::load(records, shard)? {
            machine = Machine::restore(&bytes).map_err(|error| {
                let generation = head.generation.0;
                let record = RecordId::Snapshot { shard, generation };
                records.corrupt(record, Problem::Content(error.to_string()))
            })?;
            last = head.meta.last_log_id;
            memberships.push(head.meta.last_membership);
        }
        let (log, _) = ShardLog::recover(records.clone(), shard)?;
        let mut next = last.map_or(0, |last| last.index.saturating_add(1));
        let missing = |index| {
            let record = RecordId::LogEntry { shard, index };
            records.corrupt(record, Problem::Missing)
        };
        let purged = log.tail.lock().state().last_purged_log_id;
        if purged.is_some_and(|purged| purged.index >= next) {
            return Err(missing(next).into());
        }
        loop {
            let entries = log.read_blocking(next, u64::MAX, PIECE_BYTES)?;
            if entries.is_empty() {
                break;
            }
            for entry in entries {
                if entry.log_id.index != next {
                    return Err(missing(next).into());
                }
                next += 1;
                last = Some(entry.log_id);
                let applied = apply(&mut machine, &mut memberships, entry);
                applied.map_err(|what| {
                    let index = next - 1;
                    records.corrupt(RecordId::LogEntry { shard, index }, Problem::Content(what))
                })?;
            }
        }
        Ok(Replayed {
            machine,
            last: last.ok_or(SurveyError::Absent(shard))?,
            memberships,
        })
    }

    /// Writes a replica that is to take the place of a shard's, beside it.
    ///
    /// # Errors
    /// If the shard's replica is open or later, or the disk fails.
    pub async fn stage(
        &self,
        shard: ShardId,
        last: LogId,
        membership: StoredMembership,
        state: Bytes,
        vote: Vote,
    ) -> Result<Staged, StageError> {
        let claims = [
            self.shared.claims.take(shard, Part::Log)?,
            self.shared.claims.take(shard, Part::Machine)?,
        ];
        let (records, scratch) = (self.shared.records.clone(), self.shared.scratch.clone());
        let meta = SnapshotMeta {
            last_log_id: Some(last),
            last_membership: membership,
        };
        let store = move || store_chunks(&records, shard, meta, &state, &scratch, Origin::Received);
        let head = spawn_blocking(store).await.map_err(io::Error::other)??;
        Ok(Staged {
            shard,
            head: head.ok_or(StageError::Later(shard))?,
            last,
            vote,
            _claims: claims,
        })
    }

    /// Puts what was staged in the place of what is there, deletes the replicas of `dropped`, and
    /// sets records of the node, all at once.
    ///
    /// # Errors
    /// If the disk fails. Then it was done or not, but not in part.
    pub async fn put_in_place(
        &self,
        staged: &[Staged],
        dropped: &[ShardId],
        records: &[(&str, Vec<u8>)],
    ) -> Result<(), StageError> {
        // What earlier replicas have promised binds none of the new cluster, whose groups are others.
        let mut ops = vec![Op::DeleteRange(
            Family::Vote,
            shard_range(ShardId(0)).0,
            shard_range(ShardId(u32::MAX)).1,
        )];
        for shard in dropped {
            let (from, to) = shard_range(*shard);
            let families = [Family::Log, Family::Snapshot];
            ops.extend(families.map(|family| Op::DeleteRange(family, from.clone(), to.clone())));
        }
        for Staged {
            shard,
            head,
            last,
            vote,
            _claims: _,
        } in staged
        {
            let (from, to) = shard_range(*shard);
            ops.push(Op::DeleteRange(Family::Log, from, to));
            let mut put =
                |family, key: &[u8], value| ops.push(Op::Put(family, key.to_vec(), value));
            let key = head_key(*shard);
            put(Family::Snapshot, &key, encode_head(&key, head));
            let key = vote_record::key(*shard);
            put(Family::Vote, &key, vote_record::encode(&key, vote));
            let key = purged_record::key(*shard);
            put(Family::Vote, &key, purged_record::encode(&key, last));
            let key = committed_record::key(*shard);
            put(Family::Vote, &key, committed_record::encode(&key, last));
        }
        for (name, bytes) in records {
            let key = name.as_bytes();
            let value = meta_record::encode(key, bytes);
            ops.push(Op::Put(Family::Meta, key.to_vec(), value));
        }
        Ok(self.shared.writer.write(ops, Durability::Synced).await?)
    }
}

fn apply(
    machine: &mut Machine,
    memberships: &mut Vec<StoredMembership>,
    entry: Entry,
) -> Result<(), String> {
    match entry.payload {
        Payload::Blank => {}
        Payload::Normal(BatchBytes(bytes)) => {
            let batch = Batch::decode(&bytes).map_err(|error| error.to_string())?;
            // Whoever waits for an effect is gone.
            let _ = machine.apply(batch);
        }
        Payload::Membership(members) => {
            let before = memberships.pop();
            memberships.clear();
            memberships.extend(before);
            memberships.push(StoredMembership::new(Some(entry.log_id), members));
        }
    }
    Ok(())
}
