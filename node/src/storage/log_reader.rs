//! One shard's log and vote, as Raft reads them.
//!
//! Invariant: a read sees the log as it was at one moment: all of a range that the log then had,
//! without a hole, or an error. Entries are taken from memory where they are there, and from the
//! engine below; the engine's view is fixed while the tail is locked, so that neither a purge nor a
//! truncation can come between the two.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    sync::Arc,
};

use futures::{Stream, TryStreamExt, stream};
use lockstep_model::ShardId;
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::Mutex;

use super::{
    committed_record,
    corrupt::RecordId,
    family::Family,
    log_entry,
    log_sizes::LogSizes,
    op::Op,
    purged_record, reach_record,
    record::Problem,
    records::{ReadError, Records, shard_range},
    tail::{Found, Tail},
    vote_record,
};
use crate::raft::types::{Entry, LogId, TypeConfig, Vote};

/// Most bytes that one replication read gives (or one entry, if that is larger): a message to a
/// follower is about as large.
pub const MAX_READ_BYTES: usize = 1 << 20;

/// An entry that has to be read is not in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "log entry {index} of shard {shard} is to be applied, and the log has entries {} to {} only: the replica \
     stops, because what it would go on with is not its shard's state",
    .has.start,
    .has.end.saturating_sub(1)
)]
pub struct NotInLog {
    /// Whose log.
    pub shard: ShardId,
    /// The entry.
    pub index: u64,
    /// What the log has.
    pub has: Range<u64>,
}

/// What the writer and the readers of a shard's log share.
#[derive(Debug)]
pub(crate) struct ShardLog {
    pub(crate) shard: ShardId,
    pub(crate) records: Records,
    pub(crate) tail: Mutex<Tail>,
    pub(crate) sizes: Mutex<LogSizes>,
    pub(crate) vote: Mutex<Option<Vote>>,
    /// How far the log of an earlier replica on this node reached.
    pub(crate) reach: Option<LogId>,
}

impl ShardLog {
    /// Finds the ends of a shard's log, its vote and its commit mark, and how large its entries are: reads
    /// all of it once, as applying it again does.
    pub(crate) fn recover(
        records: Records,
        shard: ShardId,
    ) -> Result<(Self, Option<LogId>), ReadError> {
        let vote = records.get(
            Family::Vote,
            &vote_record::key(shard),
            RecordId::Vote { shard },
            vote_record::decode,
        )?;
        let purged = records.get(
            Family::Vote,
            &purged_record::key(shard),
            RecordId::Purged { shard },
            purged_record::decode,
        )?;
        let committed = records.get(
            Family::Vote,
            &committed_record::key(shard),
            RecordId::Committed { shard },
            committed_record::decode,
        )?;
        let reach = records.get(
            Family::Vote,
            &reach_record::key(shard),
            RecordId::Reach { shard },
            reach_record::decode,
        )?;
        let ends = find_ends(&records, shard, purged)?;
        let (first, last) = match ends {
            Some((first, last)) => (first, Some(last)),
            None => (
                purged.map_or(0, |purged| purged.index.saturating_add(1)),
                None,
            ),
        };
        let tail = Mutex::new(Tail::of_written(purged, last, first));
        let sizes = Mutex::new(measure(&records, shard, first)?);
        Ok((
            Self {
                shard,
                records,
                tail,
                sizes,
                vote: Mutex::new(vote),
                reach,
            },
            committed,
        ))
    }

    /// Counts entries that were put at the end, of which `next` is to follow the last.
    pub(crate) fn grown(&self, next: u64, entries: &[Op]) {
        let mut sizes = self.sizes.lock();
        let first = next.saturating_sub(entries.len() as u64);
        for (index, entry) in (first..).zip(entries) {
            sizes.push(index, entry.bytes());
        }
    }

    /// The entries of `from..to` that the log has, as many as fit in `limit` bytes, at least one.
    async fn read(
        self: &Arc<Self>,
        from: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, io::Error> {
        let found = self.tail.lock().read(from, to, limit);
        match found {
            Found::InMemory(entries) => Ok(entries),
            Found::Below { .. } => {
                let log = Arc::clone(self);
                let read = move || log.read_blocking(from, to, limit);
                Ok(tokio::task::spawn_blocking(read)
                    .await
                    .map_err(io::Error::other)??)
            }
        }
    }

    /// Like [`ShardLog::read`], but what is not there at `from` is an error.
    async fn read_all_of(
        self: &Arc<Self>,
        from: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, io::Error> {
        let entries = self.read(from, to, limit).await?;
        if entries.first().map(|entry| entry.log_id.index) == Some(from) {
            return Ok(entries);
        }
        let missing = NotInLog {
            shard: self.shard,
            index: from,
            has: self.tail.lock().indexes(),
        };
        Err(io::Error::new(io::ErrorKind::InvalidData, missing))
    }

    /// Like [`ShardLog::read`], on a thread that may wait for the disk.
    pub(crate) fn read_blocking(
        &self,
        from: u64,
        to: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, ReadError> {
        let tail = self.tail.lock();
        let (from, to, then) = match tail.read(from, to, limit) {
            Found::InMemory(entries) => return Ok(entries),
            Found::Below { from, to, then } => (from, to, then),
        };
        let (lower, upper) = (
            log_entry::key(self.shard, from).to_vec(),
            log_entry::key(self.shard, to).to_vec(),
        );
        let mut records = self.records.engine.iterate(Family::Log, lower, upper)?;
        drop(tail);

        let id = |index| RecordId::LogEntry {
            shard: self.shard,
            index,
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        records.seek_to_first();
        while let Some((key, value)) = records.item() {
            if bytes >= limit {
                return Ok(entries);
            }
            let entry = log_entry::decode(key, value)
                .map_err(|problem| self.records.corrupt(id(next), problem))?;
            if entry.log_id.index != next {
                return Err(self.records.corrupt(id(next), Problem::Missing));
            }
            bytes = bytes.saturating_add(log_entry::size_in_memory(&entry));
            next = next.saturating_add(1);
            entries.push(entry);
            records.next();
        }
        self.records.check_end(id(next), records.status())?;
        if next != to {
            return Err(self.records.corrupt(id(next), Problem::Missing));
        }
        for entry in then {
            if bytes >= limit {
                break;
            }
            bytes = bytes.saturating_add(log_entry::size_in_memory(&entry));
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// The first index and the last place of a shard's log, if it has entries. Looks only above what
/// was purged, and so never walks over what is left of it.
fn find_ends(
    records: &Records,
    shard: ShardId,
    purged: Option<LogId>,
) -> Result<Option<(u64, LogId)>, ReadError> {
    let in_log = || RecordId::Log { shard };
    let start = purged.map_or(0, |purged| purged.index.saturating_add(1));
    let (_, upper) = shard_range(shard);
    let lower = log_entry::key(shard, start).to_vec();
    let mut entries = records.engine.iterate(Family::Log, lower, upper)?;

    entries.seek_to_first();
    let Some(key) = entries.key() else {
        records.check_end(in_log(), entries.status())?;
        return Ok(None);
    };
    let first = log_entry::index_of(key).map_err(|problem| records.corrupt(in_log(), problem))?;
    if purged.is_some() && first != start {
        let missing = RecordId::LogEntry {
            shard,
            index: start,
        };
        return Err(records.corrupt(missing, Problem::Missing));
    }
    entries.seek_to_last();
    let Some((key, value)) = entries.item() else {
        records.check_end(in_log(), entries.status())?;
        return Err(records.corrupt(in_log(), Problem::Missing));
    };
    let index = log_entry::index_of(key).map_err(|problem| records.corrupt(in_log(), problem))?;
    let last = log_entry::decode(key, value)
        .map_err(|problem| records.corrupt(RecordId::LogEntry { shard, index }, problem))?;
    Ok(Some((first, last.log_id)))
}

/// The sizes of the entries from one on.
fn measure(records: &Records, shard: ShardId, first: u64) -> Result<LogSizes, ReadError> {
    let in_log = || RecordId::Log { shard };
    let (_, upper) = shard_range(shard);
    let lower = log_entry::key(shard, first).to_vec();
    let mut entries = records.engine.iterate(Family::Log, lower, upper)?;
    let mut sizes = LogSizes::default();
    entries.seek_to_first();
    while let Some((key, value)) = entries.item() {
        let index =
            log_entry::index_of(key).map_err(|problem| records.corrupt(in_log(), problem))?;
        sizes.push(index, key.len() + value.len());
        entries.next();
    }
    records.check_end(in_log(), entries.status())?;
    Ok(sizes)
}

/// What a shard's log takes on disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogUse(Arc<ShardLog>);

impl LogUse {
    pub(crate) const fn new(log: Arc<ShardLog>) -> Self {
        Self(log)
    }

    /// All of it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.sizes.lock().sum()
    }

    /// What comes after an index.
    #[must_use]
    pub fn bytes_above(&self, index: Option<u64>) -> u64 {
        self.0.sizes.lock().above(index)
    }

    /// The last index that is to go if at most so many bytes are to stay; none if all may stay.
    #[must_use]
    pub fn surplus(&self, keep: u64) -> Option<u64> {
        self.0.sizes.lock().surplus(keep)
    }
}

/// Reads one shard's log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogReader {
    log: Arc<ShardLog>,
}

impl LogReader {
    pub(crate) const fn new(log: Arc<ShardLog>) -> Self {
        Self { log }
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let Range { start, end } = half_open(&range, 0..u64::MAX);
        self.log.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.log.read(start, end, MAX_READ_BYTES).await
    }

    /// Reads as it is consumed, [`MAX_READ_BYTES`] at a time: what a replica has to apply after a
    /// restart need not fit in memory at once. This is what is applied, and openraft takes all of the
    /// range for applied when the stream ends: so an entry that is not there is an error.
    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let log = Arc::clone(&self.log);
        let Range { start, end } = half_open(&range, log.tail.lock().indexes());
        let pieces = stream::try_unfold(start, move |from| {
            let log = Arc::clone(&log);
            async move {
                if from >= end {
                    return Ok(None);
                }
                let entries = log.read_all_of(from, end, MAX_READ_BYTES).await?;
                let next = from.saturating_add(entries.len() as u64);
                Ok::<_, io::Error>(Some((entries, next)))
            }
        });
        pieces
            .map_ok(|entries| stream::iter(entries.into_iter().map(Ok)))
            .try_flatten()
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(*self.log.vote.lock())
    }
}

/// A range whose open ends are those of `all`.
fn half_open(range: &impl RangeBounds<u64>, all: Range<u64>) -> Range<u64> {
    let from = match range.start_bound() {
        Bound::Included(from) => *from,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => all.start,
    };
    let to = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(to) => *to,
        Bound::Unbounded => all.end,
    };
    from..to
}
