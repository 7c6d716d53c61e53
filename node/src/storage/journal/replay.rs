//! Reading the journal back.
//!
//! What a crash cut short is told from damage by what comes after it. A group was synced before a
//! later one says so; so where a group cannot be read, and one after it says that it was durable,
//! something durable is damaged. Otherwise it is the end (compare Alagappan et al., "Protocol-Aware
//! Recovery for Consensus-Based Storage", FAST 2018). That the very last of the durable groups are
//! not there, which nothing after them can tell, is for [`crate::storage::high_water`].
//!
//! What is read may be in the page cache alone: pages that the device refused count as clean from then
//! on, so that a later sync of the file says nothing of them (Rebello et al., "Can Applications Recover
//! from fsync Failures?", USENIX ATC 2020). Whoever replays therefore has all of it written anew.
//!
//! Invariant: files are only read, except that one which was never begun is taken out.

use std::{
    fs::{self, File},
    io::{self, Read as _},
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
struct Content {
    generation: Generation,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Content {
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

    /// The frames behind a place where there is none, wherever they begin. Only what has this use's salt
    /// is looked at, so each byte is read once for the salts and checksummed once for the frame that it is
    /// of, whatever clients have written there.
    fn later(&self, at: usize) -> impl Iterator<Item = Frame<'_>> {
        let starts = self.salted(at).into_iter();
        starts.filter_map(|start| self.frame(start))
    }

    /// Where a frame may begin behind a place.
    fn salted(&self, at: usize) -> Vec<usize> {
        let mark = self.generation.salt.to_be_bytes();
        let rest = self.bytes.get(at..).unwrap_or_default();
        let marks = memchr::memmem::find_iter(rest, &mark).map(|found| at + found);
        // The salt is not where a frame begins.
        marks
            .filter_map(|mark| mark.checked_sub(frame::SALT_AT))
            .collect()
    }

    fn damaged(&self, at: usize, group: Group) -> JournalError {
        damaged(self.path.clone(), at, group)
    }
}

const fn damaged(path: PathBuf, at: usize, Group(group): Group) -> JournalError {
    JournalError::Damaged { path, at, group }
}

/// The group after which a segment begins; none if it was never begun.
fn begins(dir: &Path, generation: Generation) -> Result<Option<Group>, JournalError> {
    let path = segment::path(dir, generation);
    let mut first = Vec::with_capacity(frame::HEAD_BYTES);
    let head = File::open(&path)
        .and_then(|file| file.take(frame::HEAD_BYTES as u64).read_to_end(&mut first));
    head.map_err(failed(&path))?;
    if let Some(first) = frame::read(&first, generation) {
        return Ok(Some(first.head.group));
    }
    let all = Content::open(dir, generation)?;
    match all.later(0).next() {
        None => Ok(None),
        Some(_) => Err(all.damaged(0, Group(0))),
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> JournalError {
    move |source| JournalError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Reads all groups after `flushed`, in order. What the database has by itself is not looked at, further
/// than to find where that ends.
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
    let mut begun = Vec::with_capacity(files.len());
    for file in &files {
        begun.push((*file, begins(dir, *file)?));
    }
    let has_all = |(_, begins): &(_, Option<Group>)| begins.is_some_and(|begins| begins <= flushed);
    let first = begun.iter().rposition(has_all).unwrap_or_default();
    let (covered, needed) = begun.split_at(first);
    found.segments.extend(covered.iter().map(|(file, _)| *file));
    let mut coming = needed.iter().peekable();
    // One is read at a time, because they are large.
    while let Some((file, begins)) = coming.next() {
        let next = coming.peek().map(|(_, next)| *next);
        let Some(begins) = *begins else {
            let path = segment::path(dir, *file);
            if next.is_some() {
                return Err(damaged(path, 0, found.last).into());
            }
            fs::remove_file(&path).map_err(failed(&path))?;
            break;
        };
        let this = Content::open(dir, *file)?;
        if begins > flushed {
            if found.segments.is_empty() {
                return Err(JournalError::Missing {
                    path: this.path,
                    begins: begins.0,
                    database: flushed.0,
                }
                .into());
            }
            if begins != found.last {
                return Err(this.damaged(0, begins).into());
            }
        }
        found.last = read(&this, begins, next.flatten(), flushed, &mut apply)?;
        found.segments.push(this.generation);
    }
    Ok(found)
}

/// Reads a segment, up to the group after which the next one begins, if there is one; gives the last
/// group.
fn read<E: From<JournalError>>(
    segment: &Content,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::family::Family;

    /// A frame of the first segment, as far as somebody can make one who does not know its salt.
    fn forged(durable: u64) -> Vec<u8> {
        let generation = Generation { number: 1, salt: 1 };
        let group = Group(durable + 1);
        let durable = Group(durable);
        let head = frame::Head {
            generation,
            group,
            durable,
        };
        let mut bytes = Vec::new();
        frame::write(&mut bytes, head, std::iter::empty::<&Op>()).unwrap();
        bytes
    }

    #[test]
    fn what_clients_write_is_no_frame_and_makes_no_work() {
        let mut value = Vec::new();
        while value.len() < 1 << 20 {
            value.extend_from_slice(&forged(5));
        }
        let generation = Generation::default().next();
        let head = frame::Head {
            generation,
            group: Group(1),
            durable: Group(0),
        };
        let put = Op::Put(Family::Log, b"key".into(), value);
        let mut bytes = Vec::new();
        frame::write(&mut bytes, head, [&put].into_iter()).unwrap();
        // The group was cut short in its first sector.
        bytes[..64].fill(0);
        let torn = Content {
            generation,
            path: PathBuf::new(),
            bytes,
        };
        assert!(torn.frame(0).is_none());
        assert_eq!(torn.salted(0), [] as [usize; 0], "nothing is checksummed");
        assert!(torn.later(0).next().is_none());
    }
}
