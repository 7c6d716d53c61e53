//! One file of the journal.
//!
//! Invariant: where a frame is written, the file has been written before, so that a sync changes no
//! metadata; and the file's first frame is durable before any other is written.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::frame;
use crate::storage::{high_water::Group, op::Op};

/// A new file is filled with zeros in such steps, each with the sync of the frame that needs it:
/// once for some thousand small groups.
pub(super) const STEP_BYTES: usize = 1 << 20;
/// A file that is not needed at present, kept to be written over.
const SPARE: &str = "spare";
const EXTENSION: &str = "log";

/// One use of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation {
    /// Counted from 1.
    pub(super) number: u64,
    /// Drawn for this use, and in each of its frames: what was written before it was drawn cannot look
    /// like one of them.
    pub(super) salt: u64,
}

impl Generation {
    pub(super) fn next(self) -> Self {
        Self {
            number: self.number.saturating_add(1),
            salt: rand::random(),
        }
    }
}

/// The file that is written to.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    generation: Generation,
    /// Where the next frame goes.
    at: u64,
    /// Up to where the file has been written.
    filled: u64,
    step: usize,
}

impl Segment {
    /// Begins a segment after a group, in the spare file if there is one. Everything before must be
    /// durable.
    pub(super) fn begin(
        dir: &Path,
        generation: Generation,
        after: Group,
        step: usize,
    ) -> io::Result<Self> {
        let path = path(dir, generation);
        match fs::rename(dir.join(SPARE), &path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        let filled = file.metadata()?.len();
        let mut segment = Self {
            file,
            generation,
            at: 0,
            filled,
            step,
        };
        let head = frame::Head {
            generation,
            group: after,
            durable: after,
        };
        let mut first = Vec::new();
        frame::write(&mut first, head, std::iter::empty::<&Op>())?;
        // The file has its new name for good before what it had under the old one is written over.
        File::open(dir)?.sync_all()?;
        segment.append(&first)?;
        segment.sync()?;
        Ok(segment)
    }

    pub(super) const fn generation(&self) -> Generation {
        self.generation
    }

    /// Up to where there are frames.
    pub(super) const fn length(&self) -> u64 {
        self.at
    }

    /// Writes a frame behind the others.
    pub(super) fn append(&mut self, frame: &[u8]) -> io::Result<()> {
        let end = self.at + frame.len() as u64;
        while self.filled < end {
            self.file.write_all_at(&vec![0; self.step], self.filled)?;
            self.filled += self.step as u64;
        }
        self.file.write_all_at(frame, self.at)?;
        self.at = end;
        Ok(())
    }

    /// Makes all frames durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// The file of a generation. The salt is in its name, which is durable before any frame is.
pub(super) fn path(dir: &Path, Generation { number, salt }: Generation) -> PathBuf {
    dir.join(format!("{number:016x}-{salt:016x}.{EXTENSION}"))
}

/// The generations that there are files of, ascending.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Generation>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = PathBuf::from(entry?.file_name());
        let stem = name.file_stem().and_then(|stem| stem.to_str());
        let parts = stem.and_then(|stem| stem.split_once('-'));
        let number = |digits| u64::from_str_radix(digits, 16).ok();
        if let Some((first, second)) = parts
            && let (Some(number), Some(salt)) = (number(first), number(second))
            && name.extension().is_some_and(|found| found == EXTENSION)
        {
            found.push(Generation { number, salt });
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes what there is of a segment that could not be begun.
pub(super) fn discard(dir: &Path, generation: Generation) -> io::Result<()> {
    match fs::remove_file(path(dir, generation)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Takes a file out: it becomes the spare one, unless there is one.
pub(super) fn retire(dir: &Path, generation: Generation) -> io::Result<()> {
    let (path, spare) = (path(dir, generation), dir.join(SPARE));
    if spare.try_exists()? {
        fs::remove_file(path)
    } else {
        fs::rename(path, spare)
    }
}
