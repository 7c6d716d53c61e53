//! Reading the journal back.
//!
//! What a crash cut short is told from damage by what comes after it. A group was synced before a
//! later one says so; so where a group cannot be read, and one after it says that it was durable,
//! something durable is damaged. Otherwise it is the end (compare Alagappan et al., "Protocol-Aware
//! Recovery for Consensus-Based Storage", FAST 2018). That the very last of the durable groups are
//! not there, which nothing after them can tell, is for [`crate::storage::high_water`].
//!
//! Invariant: files are only read and synced, except that one which was never begun is taken out.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    JournalError,
    frame::{self, Frame},
    segment::{self, Generation},
};
use crate::storage::{high_water::Group, op::Op};

/// What was found.
pub(super) struct Found {
    /// Those that were begun, oldest first.
    pub(super) segments: Vec<Generation>,
    /// The newest number that a file has; files that were not begun count.
    pub(super) newest: Generation,
    /// The last group; the default if there are no segments.
    pub(super) last: Group,
}

/// A segment's file, read.
struct Read {
    generation: Generation,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Read {
    fn open(dir: &Path, generation: Generation) -> Result<Self, JournalError> {
        let path = segment::path(dir, generation);
        let bytes = fs::read(&path).map_err(failed(&path))?;
        Ok(Self {
            generation,
            path,
            bytes,
        })
    }

    fn frame(&self, at: usize) -> Option<Frame<'_>> {
        frame::read(self.bytes.get(at..)?, self.generation)
    }

    /// The group after which it begins; none if it was never begun.
    fn begins(&self) -> Result<Option<Group>, JournalError> {
        match self.frame(0) {
            Some(first) => Ok(Some(first.head.group)),
            None if self.later(0).next().is_none() => Ok(None),
            None => Err(self.damaged(0, Group(0))),
        }
    }

    /// The frames behind a place where there is none, wherever they begin.
    fn later(&self, at: usize) -> impl Iterator<Item = Frame<'_>> {
        let mark = self.generation.0.to_be_bytes();
        let rest = self.bytes.get(at..).unwrap_or_default();
        let marks = memchr::memmem::find_iter(rest, &mark).map(|found| at + found);
        // A frame's number of its segment is not where it begins.
        let starts: Vec<usize> = marks
            .filter_map(|mark| mark.checked_sub(frame::GENERATION_AT))
            .collect();
        starts.into_iter().filter_map(|start| self.frame(start))
    }

    fn damaged(&self, at: usize, group: Group) -> JournalError {
        JournalError::Damaged {
            path: self.path.clone(),
            at,
            group: group.0,
        }
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Reads all groups after `flushed`, in order.
pub(super) fn replay<E: From<JournalError>>(
    dir: &Path,
    flushed: Group,
    mut apply: impl FnMut(Group, &[Op]) -> Result<(), E>,
) -> Result<Found, E> {
    let files = segment::list(dir).map_err(failed(dir))?;
    let mut found = Found {
        segments: Vec::new(),
        newest: files.last().copied().unwrap_or_default(),
        last: Group::default(),
    };
    let mut next = files
        .first()
        .map(|first| Read::open(dir, *first))
        .transpose()?;
    let mut coming = files.iter().skip(1);
    while let Some(this) = next.take() {
        next = coming
            .next()
            .map(|file| Read::open(dir, *file))
            .transpose()?;
        let Some(begins) = this.begins()? else {
            if next.is_some() {
                return Err(this.damaged(0, found.last).into());
            }
            fs::remove_file(&this.path).map_err(failed(&this.path))?;
            break;
        };
        if found.segments.is_empty() {
            if begins > flushed {
                return Err(JournalError::Missing {
                    path: this.path,
                    begins: begins.0,
                    database: flushed.0,
                }
                .into());
            }
        } else if begins != found.last && begins > flushed {
            return Err(this.damaged(0, begins).into());
        }
        let ends = next.as_ref().map(Read::begins).transpose()?.flatten();
        found.last = read(&this, begins, ends, flushed, &mut apply)?;
        found.segments.push(this.generation);
        // What is read is relied upon from here on, so it must not depend on the page cache.
        let synced = File::open(&this.path).and_then(|file| file.sync_all());
        synced.map_err(failed(&this.path))?;
    }
    Ok(found)
}

/// Reads a segment, up to the group after which the next one begins, if there is one; gives the last
/// group.
fn read<E: From<JournalError>>(
    segment: &Read,
    begins: Group,
    ends: Option<Group>,
    flushed: Group,
    apply: &mut impl FnMut(Group, &[Op]) -> Result<(), E>,
) -> Result<Group, E> {
    let mut at = segment.frame(0).map_or(0, |first| first.length());
    let mut last = begins;
    while ends.is_none_or(|ends| last < ends) {
        let group = last.next();
        let Some(frame) = segment.frame(at).filter(|frame| frame.head.group == group) else {
            let durable = segment.later(at).any(|later| later.head.durable >= group);
            // The database may have come further than what was synced here.
            if ends.is_some_and(|ends| ends > flushed) || durable {
                return Err(segment.damaged(at, group).into());
            }
            break;
        };
        if group > flushed {
            let ops = frame.ops().ok_or_else(|| segment.damaged(at, group))?;
            apply(group, &ops)?;
        }
        at += frame.length();
        last = group;
    }
    Ok(last)
}
