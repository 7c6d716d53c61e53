//! Opening the storage in a directory.
//!
//! Invariant: one process has a directory open; nothing in it is touched before it is locked, and
//! nothing is repaired or cut off to make opening possible.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Shared, Storage,
    claim::Claims,
    corrupt::Damage,
    engine::{Engine, EngineError},
    family::Family,
    high_water::{self, HighWater},
    journal::{Journal, JournalError},
    meta_record,
    op::Op,
    records::{ReadError, Records},
    stats::StorageStats,
    writer::Writer,
};

/// The layout of all of it: column families, keys, journal. A node opens only this one. Layout 1 had
/// RocksDB's log instead of a journal, layout 2 segments without a salt.
const FORMAT: u32 = 3;
/// Held by the process that uses the directory.
const LOCK_FILE: &str = "lock";
/// Where the database is.
const DATABASE_DIR: &str = "db";
/// Where the journal is.
const JOURNAL_DIR: &str = "journal";
/// Where table files are written before the database adopts them. Emptied when opening.
const SCRATCH_DIR: &str = "scratch";

/// The storage could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the directory, or this one does already.
    #[error(
        "{path} is in use by another process: stop that one, or give this one a directory of its own"
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{path} cannot be used: {source}")]
    Io {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Damage that concerns all shards, so that nothing can be trusted.
    #[error(
        "the database in {path} is damaged: {source}. Nothing was changed. Have the node removed from \
         the cluster, empty its data directory, and start it again: it then joins as a new node \
         and fetches everything from its peers"
    )]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What the engine or the journal says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Writes that were acknowledged are not there.
    #[error(
        "the journal in {path} ends at write group {found}, but {acknowledged} was acknowledged: it was \
         cut off or damaged. A node that has forgotten its votes must not vote \
         again: have it removed from the cluster, empty its data directory, and start it again: it \
         then joins as a new node and fetches everything from its peers"
    )]
    LostWrites {
        /// The directory.
        path: PathBuf,
        /// The last group that was acknowledged.
        acknowledged: u64,
        /// The last group that is there.
        found: u64,
    },
    /// The engine failed otherwise.
    #[error("the database in {path} cannot be opened: {source}")]
    Engine {
        /// The directory.
        path: PathBuf,
        /// What the engine says.
        source: EngineError,
    },
    /// A record of the node cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Another version of the software laid the database out.
    #[error(
        "the database in {path} has layout {found}; this version reads layout {FORMAT} only: run the \
         version that wrote it"
    )]
    Format {
        /// The directory.
        path: PathBuf,
        /// The layout that was found.
        found: String,
    },
}

impl Storage {
    /// Opens the storage in a directory, or creates it. Replays the journal, so it may take some
    /// seconds after a crash. Blocks.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing is repaired or cut off to avoid one.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let io_error = |path: &Path| {
            let path = path.to_path_buf();
            move |source| OpenError::Io { path, source }
        };
        fs::create_dir_all(dir).map_err(io_error(dir))?;
        let lock = lock(dir)?;
        let scratch = dir.join(SCRATCH_DIR);
        match fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error(&scratch)(error));
            }
            Ok(()) | Err(_) => {}
        }
        fs::create_dir(&scratch).map_err(io_error(&scratch))?;

        let path = dir.join(DATABASE_DIR);
        let engine = Engine::open(&path, lock).map_err(|source| {
            let path = path.clone();
            if source.is_corruption() {
                let source = Box::new(source);
                OpenError::Damaged { path, source }
            } else {
                OpenError::Engine { path, source }
            }
        })?;
        let records = Records {
            engine: Arc::new(engine),
            damage: Damage::new(&path),
        };
        sync_dir(dir).map_err(io_error(dir))?;
        let (journal, high_water) = replay(&records, dir, &path)?;
        let stats = Arc::new(StorageStats::default());
        let writer = Writer::start(
            Arc::clone(&records.engine),
            Arc::clone(&stats),
            high_water,
            journal,
        )
        .map_err(io_error(dir))?;
        let claims = Claims::default();
        let shared = Shared {
            writer,
            records,
            stats,
            claims,
            scratch,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    let failed = |source| OpenError::Io {
        path: path.clone(),
        source,
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: dir.to_path_buf(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Makes a new directory itself durable: the engine syncs only what is in its own.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()?;
    match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Brings the database up to date, and checks that all that was acknowledged is there.
fn replay(records: &Records, dir: &Path, path: &Path) -> Result<(Journal, HighWater), OpenError> {
    let engine_error = |source| OpenError::Engine {
        path: path.to_path_buf(),
        source,
    };
    let is_new = is_new(records, path)?;
    let (high_water, acknowledged) = HighWater::open(dir).map_err(|error| OpenError::Io {
        path: high_water::path(dir),
        source: io::Error::other(error),
    })?;
    let flushed = meta_record::read_group(records)?;
    let directory = dir.join(JOURNAL_DIR);
    let acknowledged = acknowledged.unwrap_or_default();
    let mut journal = Journal::open(&directory, flushed, acknowledged, |group, ops| {
        let applied = records.engine.apply(group, ops.iter());
        applied.map_err(engine_error)
    })?;
    if is_new && meta_record::read(records, meta_record::FORMAT)?.is_none() {
        let key = meta_record::FORMAT.as_bytes();
        let value = meta_record::encode(key, &FORMAT.to_be_bytes());
        let note = [Op::Put(Family::Meta, key.to_vec(), value)];
        let noted = journal.append(note.iter());
        let group = noted
            .and_then(|group| journal.sync().map(|()| group))
            .map_err(|source| OpenError::Io {
                path: directory,
                source,
            })?;
        records
            .engine
            .apply(group, note.iter())
            .map_err(engine_error)?;
        // A version that knows no journal is to find it too.
        records.engine.flush().map_err(engine_error)?;
    }
    Ok((journal, high_water))
}

impl From<JournalError> for OpenError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Io { path, source } => Self::Io { path, source },
            JournalError::Lost {
                path,
                acknowledged,
                found,
            } => Self::LostWrites {
                path,
                acknowledged,
                found,
            },
            JournalError::Damaged { ref path, .. } | JournalError::Missing { ref path, .. } => {
                Self::Damaged {
                    path: path.clone(),
                    source: Box::new(error),
                }
            }
        }
    }
}

/// Checks the layout of the database; true if it has none yet.
fn is_new(records: &Records, path: &Path) -> Result<bool, OpenError> {
    match meta_record::read(records, meta_record::FORMAT)? {
        Some(found) if found == FORMAT.to_be_bytes() => Ok(false),
        Some(found) => {
            let found = <[u8; 4]>::try_from(found.as_slice()).map_or_else(
                |_| format!("{found:?}"),
                |found| u32::from_be_bytes(found).to_string(),
            );
            Err(OpenError::Format {
                path: path.to_path_buf(),
                found,
            })
        }
        None => Ok(true),
    }
}
