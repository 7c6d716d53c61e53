//! Opening the storage in a directory.
//!
//! Invariant: one process has a directory open; nothing in it is touched before it is locked, and
//! nothing is repaired or cut off to make opening possible.

use std::{
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
    high_water::{self, Group, HighWater},
    journal::{Database, Journal, JournalError},
    layout::{self, refused},
    meta_record,
    op::Op,
    records::{ReadError, Records},
    space::{self, Space},
    stats::StorageStats,
    writer::Writer,
};

/// The layout of all of it: column families, keys, journal. A node opens only this one. Layout 1 had
/// RocksDB's log instead of a journal, layout 2 segments without a salt.
const FORMAT: u32 = 3;
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

impl OpenError {
    /// True if there is no room on the volume: it may be tried again when there is.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Io { source, .. } => space::is_full(source),
            Self::Engine { source, .. } | Self::Read(ReadError::Engine(source)) => source.is_full(),
            Self::InUse { .. }
            | Self::Damaged { .. }
            | Self::LostWrites { .. }
            | Self::Read(ReadError::Corrupt(_))
            | Self::Format { .. } => false,
        }
    }
}

impl Storage {
    /// Opens the storage in a directory, with the usual budget for logs.
    ///
    /// # Errors
    /// As [`Storage::open_with`].
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, None)
    }

    /// Opens the storage in a directory, or creates it. Replays the journal, so it may take some
    /// seconds after a crash. Blocks. All shards' logs are to have `log_budget` bytes on disk, or what is
    /// usual: see [`super::Budget`].
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing is repaired or cut off to avoid one.
    pub fn open_with(dir: &Path, log_budget: Option<u64>) -> Result<Self, OpenError> {
        let layout = layout::make(dir)?;
        let space = Space::open(dir, log_budget).map_err(|source| OpenError::Io {
            path: dir.to_owned(),
            source,
        })?;
        let segment = space.budget().segment;
        let space = Arc::new(space);
        let path = layout.database.clone();
        let engine = Engine::open(&path, segment, layout.lock).map_err(|source| {
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
        let (mut journal, high_water) = replay(&records, dir, &layout.journal, &path)?;
        journal.set_segment_bytes(segment);
        let stats = Arc::new(StorageStats::default());
        let writer = Writer::start(
            Arc::clone(&records.engine),
            Arc::clone(&space),
            Arc::clone(&stats),
            high_water,
            journal,
        )
        .map_err(refused(dir))?;
        let claims = Claims::default();
        let shared = Shared {
            writer,
            records,
            space,
            stats,
            claims,
            scratch: layout.scratch,
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

/// The database, while the journal is replayed into it.
struct Replaying<'a> {
    engine: &'a Engine,
    path: &'a Path,
}

impl Replaying<'_> {
    fn failed(&self, source: EngineError) -> OpenError {
        OpenError::Engine {
            path: self.path.to_path_buf(),
            source,
        }
    }
}

impl Database for Replaying<'_> {
    type Error = OpenError;

    fn apply(&mut self, group: Group, ops: &[Op]) -> Result<(), OpenError> {
        let applied = self.engine.apply(group, ops.iter());
        applied.map_err(|source| self.failed(source))
    }

    fn flush(&mut self) -> Result<(), OpenError> {
        self.engine.flush().map_err(|source| self.failed(source))
    }
}

/// Brings the database up to date, and checks that all that was acknowledged is there.
fn replay(
    records: &Records,
    dir: &Path,
    journal: &Path,
    database: &Path,
) -> Result<(Journal, HighWater), OpenError> {
    let is_new = is_new(records, database)?;
    let (high_water, acknowledged) = HighWater::open(dir).map_err(|error| OpenError::Io {
        path: high_water::path(dir),
        source: io::Error::other(error),
    })?;
    let flushed = meta_record::read_group(records)?;
    let acknowledged = acknowledged.unwrap_or_default();
    let mut replaying = Replaying {
        engine: &records.engine,
        path: database,
    };
    let directory = journal;
    let mut journal = Journal::open(directory, flushed, acknowledged, &mut replaying)?;
    if is_new && meta_record::read(records, meta_record::FORMAT)?.is_none() {
        let key = meta_record::FORMAT.as_bytes();
        let value = meta_record::encode(key, &FORMAT.to_be_bytes());
        let note = [Op::Put(Family::Meta, key.to_vec(), value)];
        let noted = journal.append(note.iter());
        let group = noted
            .and_then(|group| journal.sync().map(|()| group))
            .map_err(refused(directory))?;
        replaying.apply(group, &note)?;
        // A version that knows no journal is to find it too.
        replaying.flush()?;
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
            JournalError::Damaged { ref path, .. }
            | JournalError::Missing { ref path, .. }
            | JournalError::Gone { ref path, .. } => Self::Damaged {
                path: path.clone(),
                source: Box::new(error),
            },
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
