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
//! database in the order in which it was written. Nothing is appended behind an end that was found:
//! each opening begins a segment, so what a crash left behind an end is never taken for more.

mod frame;
mod replay;
mod segment;

use std::{
    fs, io,
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
    /// Opens or creates the journal in a directory. `flushed` is the last group that the database
    /// has by itself; `apply` is given those after it, in order. `acknowledged` must be among them.
    ///
    /// # Errors
    /// Where it cannot be read or `apply` fails; it is left as it was found.
    pub(crate) fn open<E: From<JournalError>>(
        dir: &Path,
        flushed: Group,
        acknowledged: Group,
        apply: impl FnMut(Group, &[Op]) -> Result<(), E>,
    ) -> Result<Self, E> {
        Self::open_with(dir, flushed, acknowledged, Limits::default(), apply)
    }

    fn open_with<E: From<JournalError>>(
        dir: &Path,
        flushed: Group,
        acknowledged: Group,
        limits: Limits,
        apply: impl FnMut(Group, &[Op]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let failed = |source| JournalError::Io {
            path: dir.to_owned(),
            source,
        };
        fs::create_dir_all(dir).map_err(failed)?;
        let found = replay::replay(dir, flushed, apply)?;
        let last = found.last.max(flushed);
        if acknowledged > last {
            return Err(JournalError::Lost {
                path: dir.to_owned(),
                acknowledged: acknowledged.0,
                found: last.0,
            }
            .into());
        }
        let generation = found.newest.next();
        let active = Segment::begin(dir, generation, last, limits.step_bytes).map_err(failed)?;
        Ok(Self {
            dir: dir.to_owned(),
            limits,
            active,
            old: found.segments,
            written: last,
            durable: last,
            buffer: Vec::new(),
        })
    }

    /// Writes the next group: it survives the death of this process, and of the machine once it is
    /// synced.
    ///
    /// # Errors
    /// If the device refuses; nothing may be written after that.
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

    /// True if it is time for another segment.
    pub(crate) const fn is_full(&self) -> bool {
        self.active.length() >= self.limits.segment_bytes
    }

    /// True if there are segments that could be reused if the database had all that is in them.
    pub(crate) const fn has_old(&self) -> bool {
        !self.old.is_empty()
    }

    /// Goes on in another segment.
    ///
    /// # Errors
    /// If the device refuses; nothing may be written after that.
    pub(crate) fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        let generation = self.active.generation().next();
        let next = Segment::begin(&self.dir, generation, self.written, self.limits.step_bytes)?;
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
