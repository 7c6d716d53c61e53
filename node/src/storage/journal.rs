//! The node's write-ahead log: every group of changes, in order, before the database has it.
//!
//! RocksDB's own log grows with each write, so that each sync commits the file's new length as
//! well: on ext4 that is a second round to the device. It can write over old files instead, but
//! then it cannot tell the end of the log from damage in the middle of it (facebook/rocksdb#12918
//! is one of the consequences). This log writes over old files, as etcd's does over files that were
//! made in advance, and can tell: each [`frame`] says which segment it belongs to, which group it
//! is, and up to which group all was durable when it was written. RocksDB writes no log; it flushes
//! its tables in the background ([`super::flusher`]), after which the segments before are reused.
//!
//! Invariants: a group that was synced is found again when opening, or opening fails; one that was
//! not is found whole or not at all, and then nothing after it either; a group is applied to the
//! database in the order in which it was written. What was found is durable before anything is appended,
//! whatever became of the syncs of those who wrote it: the database has it in files by then. Nothing is
//! appended behind an end that was found: each opening begins a segment, so what a crash left behind an
//! end is never taken for more.

mod frame;
mod replay;
mod segment;

use std::{
    io,
    path::{Path, PathBuf},
};

use self::segment::{Generation, Segment};
use super::{high_water::Group, op::Op};

/// A segment that has come so far is followed by another. Twice the log's memtables, so that these
/// and not the segments decide when tables are written.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The journal cannot be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What was durable is not there as it was written.
    #[error("{path} is damaged at byte {at}: group {group} was written there and cannot be read")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        at: usize,
        /// What should be there.
        group: u64,
    },
    /// It ends before what was acknowledged.
    #[error("{path} ends at group {found}, and group {acknowledged} was acknowledged")]
    Lost {
        /// The directory.
        path: PathBuf,
        /// The last group that was acknowledged.
        acknowledged: u64,
        /// The last group that is there.
        found: u64,
    },
    /// A segment that the database still needs is gone.
    #[error("{path} begins after group {begins}, and the database ends at group {database}")]
    Missing {
        /// The oldest segment.
        path: PathBuf,
        /// The group before its first.
        begins: u64,
        /// The last group that the database has.
        database: u64,
    },
    /// There are no segments at all.
    #[error(
        "{path} has no segment, and the database ends at group {database}: its files were deleted or lost"
    )]
    Gone {
        /// The directory.
        path: PathBuf,
        /// The last group that the database has.
        database: u64,
    },
}

/// What the journal's groups are applied to when it is opened.
pub(crate) trait Database {
    /// Why it could not be brought up to date.
    type Error: From<JournalError>;

    /// Takes the changes of the next group.
    ///
    /// # Errors
    /// If it refuses.
    fn apply(&mut self, group: Group, ops: &[Op]) -> Result<(), Self::Error>;

    /// Makes all that was applied durable, without the journal.
    ///
    /// # Errors
    /// If the device refuses.
    fn flush(&mut self) -> Result<(), Self::Error>;
}

/// How large segments are.
#[derive(Clone, Copy, Debug)]
struct Limits {
    segment_bytes: u64,
    step_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            step_bytes: segment::STEP_BYTES,
        }
    }
}

/// The open journal.
#[derive(Debug)]
pub(crate) struct Journal {
    dir: PathBuf,
    limits: Limits,
    active: Segment,
    /// Those before the active one, oldest first: the database may not have all that is in them.
    old: Vec<Generation>,
    /// The last group that was written, and the last one that is durable.
    written: Group,
    durable: Group,
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens the journal in a directory, or begins it in an empty one, whose entry must be durable.
    /// `flushed` is the last group that the database has by itself; it is given those after it, in order.
    /// `acknowledged` must be among them.
    ///
    /// # Errors
    /// Where it cannot be read, or the database refuses; it is left as it was found.
    pub(crate) fn open<D: Database>(
        dir: &Path,
        flushed: Group,
        acknowledged: Group,
        database: &mut D,
    ) -> Result<Self, D::Error> {
        Self::open_with(dir, flushed, acknowledged, Limits::default(), database)
    }

    fn open_with<D: Database>(
        dir: &Path,
        flushed: Group,
        acknowledged: Group,
        limits: Limits,
        database: &mut D,
    ) -> Result<Self, D::Error> {
        let failed = |source| JournalError::Io {
            path: dir.to_owned(),
            source,
        };
        let found = replay::replay(dir, flushed, |group, ops| database.apply(group, ops))?;
        let last = found.last.max(flushed);
        if acknowledged > last {
            return Err(JournalError::Lost {
                path: dir.to_owned(),
                acknowledged: acknowledged.0,
                found: last.0,
            }
            .into());
        }
        // Each group has come to the database through a segment.
        if found.segments.is_empty() && flushed > Group::default() {
            return Err(JournalError::Gone {
                path: dir.to_owned(),
                database: flushed.0,
            }
            .into());
        }
        if last > flushed {
            database.flush()?;
        }
        let generation = found.newest.next();
        let active = Segment::begin(dir, generation, last, limits.step_bytes).map_err(failed)?;
        let mut journal = Self {
            dir: dir.to_owned(),
            limits,
            active,
            old: found.segments,
            written: last,
            durable: last,
            buffer: Vec::new(),
        };
        journal.release().map_err(failed)?;
        Ok(journal)
    }

    /// Writes the next group: it survives the death of this process, and of the machine once it is
    /// synced.
    ///
    /// # Errors
    /// If the device refuses; nothing may be written after that. If it has no room, nothing of the group
    /// counts, and it may be appended again.
    pub(crate) fn append<'o>(&mut self, ops: impl Iterator<Item = &'o Op>) -> io::Result<Group> {
        let group = self.written.next();
        self.buffer.clear();
        let head = frame::Head {
            generation: self.active.generation(),
            group,
            durable: self.durable,
        };
        frame::write(&mut self.buffer, head, ops)?;
        self.active.append(&self.buffer)?;
        self.written = group;
        Ok(group)
    }

    /// Makes all that was written durable.
    ///
    /// # Errors
    /// If the device refuses; nothing may be written after that.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.active.sync()?;
        self.durable = self.written;
        Ok(())
    }

    /// From now on a segment that has come so far is followed by another.
    pub(crate) const fn set_segment_bytes(&mut self, bytes: u64) {
        self.limits.segment_bytes = bytes;
    }

    /// True if it is time for another segment.
    pub(crate) const fn is_full(&self) -> bool {
        self.active.length() >= self.limits.segment_bytes
    }

    /// Goes on in another segment.
    ///
    /// # Errors
    /// If the device refuses; nothing may be written after that. If it has no room for another segment, the
    /// present one goes on, and this may be tried again.
    pub(crate) fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        let generation = self.active.generation().next();
        let begun = Segment::begin(&self.dir, generation, self.written, self.limits.step_bytes);
        let next = begun.or_else(|error| {
            segment::discard(&self.dir, generation)?;
            Err(error)
        })?;
        self.old.push(self.active.generation());
        self.active = next;
        Ok(())
    }

    /// The database has by itself what was written before the active segment was begun: the older
    /// ones may be reused. Must be called before another rotation.
    ///
    /// # Errors
    /// If the file system refuses; what is left is released the next time.
    pub(crate) fn release(&mut self) -> io::Result<()> {
        // From the oldest, so that those that are left follow each other.
        while let Some(oldest) = self.old.first() {
            segment::retire(&self.dir, *oldest)?;
            self.old.remove(0);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
