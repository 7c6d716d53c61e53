//! A small file system of a node's own, which can be filled up.
//!
//! Invariant: it is gone when this is dropped; nothing else is ever filled.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
};

/// What is allocated at a time, ever less, to take the very last block.
const STEPS: [u64; 4] = [16 << 20, 1 << 20, 64 << 10, 4 << 10];
/// Takes the room.
const FILLER: &str = "filler";

/// A mounted file system.
#[derive(Debug)]
pub(super) struct Volume(PathBuf);

impl Volume {
    /// Mounts one of so many mebibytes, in memory, on a directory.
    ///
    /// # Errors
    /// If this process may not mount, or there is no `mount`.
    pub(super) fn mount(dir: &Path, mib: u64) -> anyhow::Result<Self> {
        let size = format!("size={mib}m");
        let mut command = Command::new("mount");
        let asked = command.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir);
        let done = asked.output().context("there is no mount command")?;
        if !done.status.success() {
            let words = String::from_utf8_lossy(&done.stderr);
            bail!("a file system cannot be mounted here: {}", words.trim());
        }
        Ok(Self(dir.to_owned()))
    }

    /// Takes all that is free.
    ///
    /// # Errors
    /// If the file system refuses for another reason than that.
    pub(super) fn fill(&self) -> io::Result<()> {
        let filler = File::options()
            .create(true)
            .append(true)
            .open(self.0.join(FILLER))?;
        let mut size = filler.metadata()?.len();
        for step in STEPS {
            loop {
                match fallocate(&filler, FallocateFlags::empty(), size, step) {
                    Ok(()) => size += step,
                    Err(Errno::NOSPC) => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    /// Gives back what [`Volume::fill`] has taken.
    ///
    /// # Errors
    /// If nothing was taken.
    pub(super) fn relieve(&self) -> io::Result<()> {
        fs::remove_file(self.0.join(FILLER))
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // Lazily, because a process that was just killed may still have files open.
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            crate::console::say(format_args!("{} stays mounted", self.0.display()));
        }
    }
}

/// Why no file system can be mounted here; none if one can.
#[must_use]
pub fn obstacle() -> Option<String> {
    let dir = match tempfile::tempdir() {
        Ok(dir) => dir,
        Err(error) => return Some(error.to_string()),
    };
    let mounted = Volume::mount(dir.path(), 1);
    mounted.err().map(|error| format!("{error:#}"))
}
