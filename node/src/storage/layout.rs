//! What a data directory is made of, made so that a loss of power does not take it away.
//!
//! A file that is synced is lost all the same if the directory that names it was not. So what the journal
//! is written to is named before it is written to: each level above the data directory that had to be
//! made, the data directory, and all that is in it.
//!
//! Invariant: once [`make`] has returned, every entry that leads to the journal, the high-water mark and
//! the database is durable, also those that were made by a process that died before it synced them.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
};

use super::{high_water, open::OpenError};

/// Held by the process that uses the directory.
const LOCK_FILE: &str = "lock";
/// Where the database is.
const DATABASE_DIR: &str = "db";
/// Where the journal is.
const JOURNAL_DIR: &str = "journal";
/// Where table files are written before the database adopts them. Emptied when opening.
const SCRATCH_DIR: &str = "scratch";

/// A data directory that has all its files.
#[derive(Debug)]
pub(super) struct Layout {
    /// Locks the directory until it is closed.
    pub(super) lock: File,
    pub(super) database: PathBuf,
    pub(super) journal: PathBuf,
    pub(super) scratch: PathBuf,
}

/// Locks a data directory, and makes what is missing of it. What is there stays as it is, but for what
/// was left in the scratch directory.
///
/// # Errors
/// If another process has it, or the file system refuses.
pub(super) fn make(dir: &Path) -> Result<Layout, OpenError> {
    make_with(dir, &mut |level| File::open(level)?.sync_all())
}

/// `sync` makes the entries of a directory durable.
fn make_with(
    dir: &Path,
    sync: &mut impl FnMut(&Path) -> io::Result<()>,
) -> Result<Layout, OpenError> {
    make_levels(dir, sync)?;
    let lock = lock(dir)?;
    let scratch = dir.join(SCRATCH_DIR);
    match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(refused(&scratch)(error));
        }
        Ok(()) | Err(_) => {}
    }
    let [database, journal] = [DATABASE_DIR, JOURNAL_DIR].map(|name| dir.join(name));
    for inner in [&scratch, &database, &journal] {
        make_one(inner)?;
    }
    high_water::create(dir).map_err(refused(&high_water::path(dir)))?;
    sync(dir).map_err(refused(dir))?;
    Ok(Layout {
        lock,
        database,
        journal,
        scratch,
    })
}

/// Makes a directory with all levels above it, each durable before the next.
fn make_levels(
    dir: &Path,
    sync: &mut impl FnMut(&Path) -> io::Result<()>,
) -> Result<(), OpenError> {
    // A relative path has levels that it does not name.
    let dir = std::path::absolute(dir).map_err(refused(dir))?;
    let mut levels = dir.ancestors().peekable();
    let mut missing = Vec::new();
    while let Some(level) = levels.next_if(|level| !level.exists()) {
        missing.push(level);
    }
    // The deepest one that is there may be the work of a process that died before it synced.
    if let Some(deepest) = levels.next() {
        let real = fs::canonicalize(deepest).map_err(refused(deepest))?;
        sync_above(&real, sync)?;
    }
    for level in missing.into_iter().rev() {
        make_one(level)?;
        sync_above(level, sync)?;
    }
    Ok(())
}

fn sync_above(
    level: &Path,
    sync: &mut impl FnMut(&Path) -> io::Result<()>,
) -> Result<(), OpenError> {
    match level.parent() {
        Some(above) => sync(above).map_err(refused(above)),
        None => Ok(()),
    }
}

fn make_one(dir: &Path) -> Result<(), OpenError> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made.map_err(refused(dir)),
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(refused(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: dir.to_path_buf(),
        }),
        Err(TryLockError::Error(source)) => Err(refused(&path)(source)),
    }
}

/// The error of a file or directory that the file system refuses.
pub(super) fn refused(path: &Path) -> impl Fn(io::Error) -> OpenError {
    let path = path.to_path_buf();
    move |source| OpenError::Io {
        path: path.clone(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What a directory names.
    fn entries(dir: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(dir).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    /// Makes it, and gives what was named by each directory that was synced, when it was.
    fn synced(dir: &Path) -> Vec<(PathBuf, BTreeSet<String>)> {
        let mut synced = Vec::new();
        make_with(dir, &mut |level| {
            synced.push((fs::canonicalize(level)?, entries(level)));
            Ok(())
        })
        .unwrap();
        synced
    }

    fn has(named: &[&str]) -> BTreeSet<String> {
        named.iter().map(|name| (*name).to_owned()).collect()
    }

    const ALL: [&str; 5] = ["db", "high-water", "journal", "lock", "scratch"];

    #[test]
    fn every_level_that_is_made_is_synced_and_the_files_before_they_are_used() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let dir = root.join("a/b");
        let above = root.parent().unwrap().to_path_buf();
        let found = synced(&dir);
        assert_eq!(found[0].0, above, "the level that was there");
        let expected = [
            (root.clone(), has(&["a"])),
            (root.join("a"), has(&["b"])),
            (dir.clone(), has(&ALL)),
        ];
        assert_eq!(found[1..], expected);
        assert!(entries(&dir.join("journal")).is_empty());
        // Once more, as after a crash: nothing says that those were synced.
        let expected = [(root.join("a"), has(&["b"])), (dir.clone(), has(&ALL))];
        assert_eq!(synced(&dir), expected);
    }

    #[test]
    fn a_relative_path_has_levels_that_it_does_not_name() {
        let here = fs::canonicalize(".").unwrap();
        let name = format!("layout-test-{}", std::process::id());
        let found = synced(Path::new(&name));
        fs::remove_dir_all(&name).unwrap();
        let levels: Vec<_> = found.into_iter().map(|(level, _)| level).collect();
        let above = here.parent().unwrap().to_path_buf();
        assert_eq!(levels, [above, here.clone(), here.join(&name)]);
    }

    #[test]
    fn a_file_in_the_place_of_a_directory_is_named() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("journal"), b"").unwrap();
        let error = make(root.path()).unwrap_err();
        let named = matches!(&error, OpenError::Io { path, .. } if path.ends_with("journal"));
        assert!(named, "{error}");
    }
}
