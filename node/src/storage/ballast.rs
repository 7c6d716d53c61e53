//! A file that only takes room, to be removed when there is none.
//!
//! Invariant: where the file has its size, the file system has the blocks for it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate};

/// Its name in the data directory, which people may see who look for what fills a disk.
const FILE: &str = "ballast";

/// See the module.
#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
    size: u64,
}

impl Ballast {
    /// In a directory; made by [`Ballast::make`].
    pub(crate) fn new(dir: &Path, size: u64) -> Self {
        Self {
            path: dir.join(FILE),
            size,
        }
    }

    /// The size of the file that is there.
    pub(crate) fn bytes(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |found| found.len())
    }

    /// Takes the room, unless it has it. A file system that cannot reserve room has no ballast: nothing
    /// depends on it but how far a full disk gets by itself.
    pub(crate) fn make(&self) {
        if self.bytes() == self.size {
            return;
        }
        if let Err(error) = self.try_make() {
            tracing::debug!(%error, path = %self.path.display(), "no disk space is reserved");
            self.give_up();
        }
    }

    fn try_make(&self) -> io::Result<()> {
        let file = File::create(&self.path)?;
        fallocate(&file, FallocateFlags::empty(), 0, self.size)?;
        Ok(())
    }

    /// Gives the room back; true if there was any.
    pub(crate) fn give_up(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }
}
