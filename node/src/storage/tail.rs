//! The end of one shard's log, in memory.
//!
//! Reads of recent entries - replication to followers that keep up, and apply - are served from
//! here, whether or not the entries are on the device yet.
//!
//! Invariant: the entries held are the last ones of the log, without a gap, and every entry that
//! the engine cannot yet return is among them.

use std::{collections::VecDeque, ops::Range};

use super::log_entry;
use crate::raft::types::{Entry, LogId, LogState};

/// Most entries kept for readers: more than a follower that keeps up is ever behind.
pub(crate) const MAX_ENTRIES: usize = 8_192;
/// Most bytes kept for readers, per shard.
pub(crate) const MAX_BYTES: usize = 8 << 20;

/// An append that does not follow the last entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("log entry {found} was appended where {expected} comes next: a log has no holes")]
pub struct Hole {
    /// What comes next.
    pub expected: u64,
    /// What was appended.
    pub found: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tail {
    purged: Option<LogId>,
    /// The last entry; the last purged one if there is none.
    last: Option<LogId>,
    /// The index of the first entry in the log, if it has any.
    first: u64,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Entries below this index are in the engine.
    written: u64,
}

/// Where the entries of a range are.
#[derive(Debug)]
pub(crate) enum Found {
    /// Here they are.
    InMemory(Vec<Entry>),
    /// `from..to` has to be read from the engine, then follow these.
    Below {
        from: u64,
        to: u64,
        then: Vec<Entry>,
    },
}

impl Tail {
    /// The tail of a log that is wholly in the engine. `first` is its first index, if not empty.
    pub(crate) fn of_written(purged: Option<LogId>, last: Option<LogId>, first: u64) -> Self {
        let last = last.or(purged);
        let written = last.map_or(0, |last| last.index.saturating_add(1));
        Self {
            purged,
            last,
            first,
            entries: VecDeque::new(),
            bytes: 0,
            written,
        }
    }

    /// The first and last place.
    pub(crate) const fn state(&self) -> LogState {
        LogState {
            last_purged_log_id: self.purged,
            last_log_id: self.last,
        }
    }

    /// The indexes that the log has.
    pub(crate) fn indexes(&self) -> Range<u64> {
        let end = self.last.map_or(0, |last| last.index.saturating_add(1));
        self.first..end.max(self.first)
    }

    /// Adds entries at the end.
    ///
    /// # Errors
    /// [`Hole`] where one does not follow; then none is added.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) -> Result<(), Hole> {
        let mut next = self.last.map(|last| last.index.saturating_add(1));
        for entry in &entries {
            let found = entry.log_id.index;
            match next {
                Some(expected) if expected != found => return Err(Hole { expected, found }),
                Some(_) | None => next = Some(found.saturating_add(1)),
            }
        }
        if let (None, Some(entry)) = (self.last, entries.first()) {
            self.first = entry.log_id.index;
        }
        for entry in entries {
            self.bytes += log_entry::size_in_memory(&entry);
            self.last = Some(entry.log_id);
            self.entries.push_back(entry);
        }
        Ok(())
    }

    /// Entries below `index` are in the engine now, and need not be held any longer.
    pub(crate) fn written(&mut self, index: u64) {
        self.written = self.written.max(index);
        while (self.entries.len() > MAX_ENTRIES || self.bytes > MAX_BYTES)
            && self
                .entries
                .front()
                .is_some_and(|entry| entry.log_id.index < self.written)
        {
            self.forget_first();
        }
    }

    /// Removes what comes after a place; all if none is given. The engine still has it, until the
    /// caller has told it and calls [`Tail::truncated`].
    pub(crate) fn truncate_after(&mut self, after: Option<LogId>) {
        let Some(last) = self.last else { return };
        let keep = after.map_or(0, |after| after.index.saturating_add(1));
        if keep > last.index {
            return;
        }
        while self
            .entries
            .back()
            .is_some_and(|entry| entry.log_id.index >= keep)
        {
            if let Some(entry) = self.entries.pop_back() {
                self.bytes = self.bytes.saturating_sub(log_entry::size_in_memory(&entry));
            }
        }
        self.last = if keep > self.first {
            after
        } else {
            self.purged
        };
    }

    /// The engine has no entries at or above `index` any more.
    pub(crate) fn truncated(&mut self, index: u64) {
        self.written = self.written.min(index);
    }

    /// Removes everything up to a place, which may lie beyond the end.
    pub(crate) fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.log_id.index <= upto.index)
        {
            self.forget_first();
        }
        self.purged = Some(upto);
        self.first = self.first.max(upto.index.saturating_add(1));
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
        }
    }

    /// The entries of `from..to` that the log has, as many as fit in `limit` bytes, at least one. Whoever
    /// cannot do without one of them compares: see [`Self::indexes`].
    pub(crate) fn read(&self, from: u64, to: u64, limit: usize) -> Found {
        let end = self.last.map_or(0, |last| last.index.saturating_add(1));
        let from = from.max(self.first);
        let to = to.min(end);
        let held = end.saturating_sub(self.entries.len() as u64);
        if from >= to {
            return Found::InMemory(Vec::new());
        }
        if from >= held {
            return Found::InMemory(self.copy(from - held, to - from, limit));
        }
        let then = if to > held {
            self.copy(0, to - held, limit)
        } else {
            Vec::new()
        };
        Found::Below {
            from,
            to: to.min(held),
            then,
        }
    }

    fn copy(&self, skip: u64, count: u64, limit: usize) -> Vec<Entry> {
        let mut bytes = 0;
        self.entries
            .iter()
            .skip(usize::try_from(skip).unwrap_or(usize::MAX))
            .take(usize::try_from(count).unwrap_or(usize::MAX))
            .take_while(|entry| {
                let fits = bytes < limit;
                bytes += log_entry::size_in_memory(entry);
                fits
            })
            .cloned()
            .collect()
    }

    fn forget_first(&mut self) {
        if let Some(entry) = self.entries.pop_front() {
            self.bytes = self.bytes.saturating_sub(log_entry::size_in_memory(&entry));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{BatchBytes, LeaderId, Payload};

    fn id(index: u64) -> LogId {
        LogId {
            leader_id: LeaderId {
                term: 1,
                node_id: 1,
            },
            index,
        }
    }

    fn entries(range: Range<u64>) -> Vec<Entry> {
        range
            .map(|index| Entry {
                log_id: id(index),
                payload: Payload::Blank,
            })
            .collect()
    }

    fn indexes(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.log_id.index).collect()
    }

    fn in_memory(tail: &Tail, from: u64, to: u64) -> Vec<u64> {
        match tail.read(from, to, usize::MAX) {
            Found::InMemory(entries) => indexes(&entries),
            found @ Found::Below { .. } => panic!("{from}..{to} is not in memory: {found:?}"),
        }
    }

    #[test]
    fn an_append_that_leaves_a_hole_changes_nothing() {
        let mut tail = Tail::of_written(None, None, 0);
        tail.append(entries(1..4)).unwrap();
        assert_eq!(
            tail.append(entries(5..6)),
            Err(Hole {
                expected: 4,
                found: 5
            })
        );
        let gap: Vec<_> = entries(4..5).into_iter().chain(entries(6..7)).collect();
        assert_eq!(
            tail.append(gap),
            Err(Hole {
                expected: 5,
                found: 6
            })
        );
        assert_eq!(tail.state().last_log_id, Some(id(3)));
        assert_eq!(in_memory(&tail, 0, 100), [1, 2, 3]);
    }

    #[test]
    fn only_entries_that_the_engine_has_are_forgotten() {
        let mut tail = Tail::of_written(None, None, 0);
        let many = MAX_ENTRIES as u64 + 10;
        tail.append(entries(0..many)).unwrap();
        tail.written(4);
        let Found::Below {
            from: 0,
            to: 4,
            then,
        } = tail.read(0, 6, usize::MAX)
        else {
            panic!("the first four must have been forgotten, and no more");
        };
        assert_eq!(indexes(&then), [4, 5]);
        tail.written(many);
        assert_eq!(in_memory(&tail, 10, many).len(), MAX_ENTRIES);
    }

    #[test]
    fn what_follows_a_truncation_is_held_until_it_is_written_itself() {
        let mut tail = Tail::of_written(None, None, 0);
        let many = MAX_ENTRIES as u64;
        tail.append(entries(0..many)).unwrap();
        tail.truncate_after(Some(id(9)));
        tail.written(many);
        tail.truncated(10);
        assert_eq!(tail.state().last_log_id, Some(id(9)));
        tail.append(entries(10..many + 20)).unwrap();
        tail.written(0);
        assert_eq!(in_memory(&tail, 10, many + 20).len(), MAX_ENTRIES + 10);
    }

    #[test]
    fn a_truncation_below_what_is_held_leaves_the_rest_to_the_engine() {
        let mut tail = Tail::of_written(Some(id(2)), Some(id(50)), 3);
        tail.append(entries(51..53)).unwrap();
        tail.truncate_after(Some(id(20)));
        tail.truncated(21);
        tail.append(entries(21..23)).unwrap();
        let Found::Below {
            from: 3,
            to: 21,
            then,
        } = tail.read(0, 100, usize::MAX)
        else {
            panic!("3..21 must be read from the engine");
        };
        assert_eq!(indexes(&then), [21, 22]);
        tail.truncate_after(None);
        assert_eq!(
            tail.state().last_log_id,
            Some(id(2)),
            "an empty log ends where it was purged"
        );
    }

    #[test]
    fn a_purge_may_go_beyond_the_end_and_never_back() {
        let mut tail = Tail::of_written(None, None, 0);
        tail.append(entries(0..5)).unwrap();
        tail.purge(id(2));
        assert_eq!(in_memory(&tail, 0, 100), [3, 4]);
        tail.purge(id(20));
        tail.purge(id(4));
        let state = tail.state();
        assert_eq!(
            (state.last_purged_log_id, state.last_log_id),
            (Some(id(20)), Some(id(20)))
        );
        assert!(in_memory(&tail, 0, 100).is_empty());
        tail.append(entries(21..22)).unwrap();
        assert_eq!(in_memory(&tail, 0, 100), [21]);
    }

    #[test]
    fn a_limited_read_gives_at_least_one_entry() {
        let mut tail = Tail::of_written(None, None, 0);
        let big = Payload::Normal(BatchBytes(bytes::Bytes::from(vec![0; 1_000])));
        let entries: Vec<_> = (0..4)
            .map(|index| Entry {
                log_id: id(index),
                payload: big.clone(),
            })
            .collect();
        tail.append(entries).unwrap();
        let count = |limit| match tail.read(0, 4, limit) {
            Found::InMemory(entries) => entries.len(),
            Found::Below { .. } => 0,
        };
        assert_eq!((count(1), count(2_000), count(usize::MAX)), (1, 2, 4));
    }
}
