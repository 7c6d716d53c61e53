//! A file that comes into being whole.
//!
//! Invariant: a file under the name that was asked for is complete and on the disk, readable by its
//! owner alone, and never takes the place of another. What is being written has a name of its own, and is
//! removed if it comes to nothing.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process,
    time::{SystemTime, UNIX_EPOCH},
};

/// Reading and writing for the owner: a backup says who holds what.
const OWNER_ONLY: u32 = 0o600;

/// A file that has not got its name yet.
#[derive(Debug)]
pub(crate) struct NewFile {
    name: PathBuf,
    unfinished: Unfinished,
}

/// Removes what was not finished. Once it has its proper name, that one stays.
#[derive(Debug)]
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // What cannot be removed has a name that says what it is.
        let _gone = fs::remove_file(&self.0);
    }
}

impl NewFile {
    /// Begins, beside where it will be.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is one of the name; or if the directory cannot be
    /// written.
    pub(crate) fn create(name: &Path) -> io::Result<(Self, File)> {
        if name.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        // Numbers of processes come again, in containers all the time.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_nanos());
        let mut own = name.as_os_str().to_owned();
        own.push(format!(".{}-{now}.part", process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(OWNER_ONLY)
            .open(&own)?;
        let new = Self {
            name: name.to_owned(),
            unfinished: Unfinished(own.into()),
        };
        Ok((new, file))
    }

    /// Gives it its name, durably. `file` is the one that was created.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if there is one of the name meanwhile; or if the disk fails.
    pub(crate) fn finish(self, file: &File) -> io::Result<()> {
        file.sync_all()?;
        // Unlike renaming, this never replaces a file.
        fs::hard_link(&self.unfinished.0, &self.name)?;
        drop(self.unfinished);
        let parent = self.name.parent().filter(|path| *path != Path::new(""));
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all_and_replaces_none() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join("monday.backup");
        let count = || fs::read_dir(dir.path()).unwrap().count();
        let (given_up, _) = NewFile::create(&name).unwrap();
        assert!(!name.exists());
        drop(given_up);
        assert_eq!(count(), 0);

        let (first, mut file) = NewFile::create(&name).unwrap();
        let (second, late) = NewFile::create(&name).unwrap();
        file.write_all(b"whole").unwrap();
        first.finish(&file).unwrap();
        let kind = second.finish(&late).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::AlreadyExists);
        let kind = NewFile::create(&name).unwrap_err().kind();
        assert_eq!(kind, io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&name).unwrap(), b"whole");
        assert_eq!(count(), 1);
        let mode = name.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, OWNER_ONLY);
    }
}
