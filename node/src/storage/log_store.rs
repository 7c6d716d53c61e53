//! One shard's log and vote, as Raft writes them.
//!
//! Invariant: votes, appends, truncations and purges of the shard reach the disk in the order in
//! which Raft issued them (see "IO Ordering in Raft", openraft `docs/protocol/io_ordering.md`): one
//! queue carries them all. Entries can be read as soon as [`LogStore::append`] returns, and Raft is
//! told that they are durable only when they are.

use std::{io, sync::Arc};

use openraft::{OptionalSend, storage::RaftLogStorage};

use super::{
    Shared,
    claim::Claim,
    committed_record,
    family::Family,
    log_entry,
    log_reader::{LogReader, LogUse, ShardLog},
    op::Op,
    purged_record, vote_record,
    writer::{Durability, Request},
};
use crate::{
    crash::{self, Point},
    raft::types::{Entry, IoFlushed, LogId, LogState, TypeConfig, Vote},
};

/// The log of one shard. There is one writer of it, Raft's core; readers are [`LogReader`]s.
pub struct LogStore {
    log: Arc<ShardLog>,
    shared: Arc<Shared>,
    committed: Option<LogId>,
    /// A commit mark to be written along with the next append: by itself it is not worth a write,
    /// for a replica that starts with an older one only applies less before it hears its leader.
    unsaved_commit: Option<LogId>,
    _claim: Claim,
}

impl LogStore {
    /// The store over a recovered log.
    pub(crate) fn new(
        log: ShardLog,
        committed: Option<LogId>,
        shared: Arc<Shared>,
        claim: Claim,
    ) -> Self {
        Self {
            log: Arc::new(log),
            shared,
            committed,
            unsaved_commit: None,
            _claim: claim,
        }
    }

    /// How far the log of an earlier replica on this node reached; see
    /// [`crate::replica::eligibility`].
    #[must_use]
    pub fn reach(&self) -> Option<LogId> {
        self.log.reach
    }

    /// What it takes on disk.
    #[must_use]
    pub fn usage(&self) -> LogUse {
        LogUse::new(Arc::clone(&self.log))
    }

    fn commit_mark(&mut self, next_index: u64) -> Option<Op> {
        let upto = self
            .unsaved_commit
            .take_if(|upto| upto.index < next_index)?;
        let key = committed_record::key(self.log.shard);
        let value = committed_record::encode(&key, &upto);
        Some(Op::Put(Family::Vote, key.to_vec(), value))
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState, io::Error> {
        Ok(self.log.tail.lock().state())
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader::new(Arc::clone(&self.log))
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let key = vote_record::key(self.log.shard);
        let put = Op::Put(Family::Vote, key.to_vec(), vote_record::encode(&key, vote));
        self.shared
            .writer
            .write(vec![put], Durability::Synced)
            .await?;
        crash::point(Point::VoteSaved);
        *self.log.vote.lock() = Some(*vote);
        Ok(())
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.committed = committed;
        self.unsaved_commit = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let next = entries
            .last()
            .map_or(0, |entry| entry.log_id.index.saturating_add(1));
        let mut ops: Vec<Op> = entries
            .iter()
            .map(|entry| {
                let key = log_entry::key(self.log.shard, entry.log_id.index);
                Op::Put(Family::Log, key.to_vec(), log_entry::encode(&key, entry))
            })
            .collect();
        self.log
            .tail
            .lock()
            .append(entries)
            .map_err(|hole| io::Error::new(io::ErrorKind::InvalidInput, hole))?;
        self.log.grown(next, &ops);
        ops.extend(self.commit_mark(next));
        let log = Arc::clone(&self.log);
        let done = Box::new(move |result: Result<(), _>| {
            if result.is_ok() {
                log.tail.lock().written(next);
            }
            callback.io_completed(result.map_err(io::Error::from));
        });
        let request = Request {
            ops,
            durability: Durability::Synced,
            done,
        };
        Ok(self.shared.writer.submit(request).await?)
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let keep = last_log_id.map_or(0, |last| last.index.saturating_add(1));
        let before = self.log.tail.lock().state();
        let Some(last) = before.last_log_id.filter(|last| last.index >= keep) else {
            return Ok(());
        };
        self.log.tail.lock().truncate_after(last_log_id);
        self.log.sizes.lock().truncate(keep);
        let removed = Op::DeleteRange(
            Family::Log,
            log_entry::key(self.log.shard, keep).to_vec(),
            log_entry::key_after(self.log.shard, last.index),
        );
        self.shared
            .writer
            .write(vec![removed], Durability::Synced)
            .await?;
        self.log.tail.lock().truncated(keep);
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let shard = self.log.shard;
        let before = self.log.tail.lock().state().last_purged_log_id;
        if before.is_some_and(|purged| purged.index >= upto.index) {
            return Ok(());
        }
        self.log.tail.lock().purge(upto);
        self.log.sizes.lock().purge(upto.index);
        // Only what is new: ranges that lie side by side are cheap to skip, overlapping ones are not.
        let first = before.map_or(0, |purged| purged.index.saturating_add(1));
        let key = purged_record::key(shard);
        let ops = vec![
            Op::DeleteRange(
                Family::Log,
                log_entry::key(shard, first).to_vec(),
                log_entry::key_after(shard, upto.index),
            ),
            Op::Put(
                Family::Vote,
                key.to_vec(),
                purged_record::encode(&key, &upto),
            ),
        ];
        let request = Request {
            ops,
            durability: Durability::Ordered,
            done: Box::new(|_| {}),
        };
        Ok(self.shared.writer.submit(request).await?)
    }
}
