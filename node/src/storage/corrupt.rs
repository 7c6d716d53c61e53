//! What is known about damaged records.
//!
//! Invariant: a damaged record is never skipped, cut off or rewritten: whoever finds it reports it
//! here, and the replica that it belongs to stops. Other replicas of the node go on.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use lockstep_model::ShardId;
use parking_lot::Mutex;

use super::{family::Family, record::Problem, snapshot_record::Generation};

/// A record that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{record} in {path} (column family {family:?}) cannot be trusted: {problem}. {}", .record.remedy())]
pub struct CorruptRecord {
    /// Which record.
    pub record: RecordId,
    /// What is wrong with it.
    pub problem: Problem,
    /// The directory of the database.
    pub path: PathBuf,
    /// The column family that it is in.
    pub family: &'static str,
}

impl CorruptRecord {
    /// The shard whose replica stops; none if the record is the node's own.
    #[must_use]
    pub const fn shard(&self) -> Option<ShardId> {
        self.record.shard()
    }

    /// The damage behind an I/O error that this storage returned, if that is what it is.
    #[must_use]
    pub fn behind(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|source| source.downcast_ref())
    }
}

impl From<CorruptRecord> for io::Error {
    fn from(corrupt: CorruptRecord) -> Self {
        Self::new(io::ErrorKind::InvalidData, corrupt)
    }
}

/// The name of a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordId {
    /// A log entry.
    #[error("log entry {index} of shard {shard}")]
    LogEntry {
        /// Whose.
        shard: ShardId,
        /// Which.
        index: u64,
    },
    /// Something in a shard's log that no entry's key leads to.
    #[error("the log of shard {shard}")]
    Log {
        /// Whose.
        shard: ShardId,
    },
    /// A vote.
    #[error("the vote of shard {shard}")]
    Vote {
        /// Whose.
        shard: ShardId,
    },
    /// A purge mark.
    #[error("the purge mark of shard {shard}")]
    Purged {
        /// Whose.
        shard: ShardId,
    },
    /// A commit mark.
    #[error("the commit mark of shard {shard}")]
    Committed {
        /// Whose.
        shard: ShardId,
    },
    /// How far the log of an earlier replica reached.
    #[error("the reach of an earlier replica of shard {shard}")]
    Reach {
        /// Whose.
        shard: ShardId,
    },
    /// The head of a snapshot.
    #[error("the snapshot head of shard {shard}")]
    SnapshotHead {
        /// Whose.
        shard: ShardId,
    },
    /// A piece of a snapshot.
    #[error("chunk {chunk} of snapshot {generation} of shard {shard}")]
    SnapshotChunk {
        /// Whose.
        shard: ShardId,
        /// Of which snapshot.
        generation: u64,
        /// Which piece.
        chunk: u32,
    },
    /// A snapshot whose records are right and whose content is not.
    #[error("snapshot {generation} of shard {shard}")]
    Snapshot {
        /// Whose.
        shard: ShardId,
        /// Which.
        generation: u64,
    },
    /// A record of the node.
    #[error("the node's record {name:?}")]
    Meta {
        /// Its name.
        name: String,
    },
}

impl RecordId {
    /// The shard that it belongs to.
    #[must_use]
    pub const fn shard(&self) -> Option<ShardId> {
        match self {
            Self::LogEntry { shard, .. }
            | Self::Log { shard }
            | Self::Vote { shard }
            | Self::Purged { shard }
            | Self::Committed { shard }
            | Self::Reach { shard }
            | Self::SnapshotHead { shard }
            | Self::SnapshotChunk { shard, .. }
            | Self::Snapshot { shard, .. } => Some(*shard),
            Self::Meta { .. } => None,
        }
    }

    pub(crate) const fn chunk(shard: ShardId, generation: Generation, chunk: u32) -> Self {
        Self::SnapshotChunk {
            shard,
            generation: generation.0,
            chunk,
        }
    }

    const fn family(&self) -> Family {
        match self {
            Self::LogEntry { .. } | Self::Log { .. } => Family::Log,
            Self::Vote { .. }
            | Self::Purged { .. }
            | Self::Committed { .. }
            | Self::Reach { .. } => Family::Vote,
            Self::SnapshotHead { .. } | Self::SnapshotChunk { .. } | Self::Snapshot { .. } => {
                Family::Snapshot
            }
            Self::Meta { .. } => Family::Meta,
        }
    }

    const fn remedy(&self) -> &'static str {
        match self.shard() {
            Some(_) => {
                "This replica has stopped and neither votes nor serves; the other replicas of this \
                 node go on. Have the replica removed from its group, its records deleted, and \
                 added again: it then fetches everything from its peers"
            }
            None => {
                "The node cannot start. Have it removed from the cluster, empty its data \
                 directory, and start it again: it then joins as a new node and fetches \
                 everything from its peers"
            }
        }
    }
}

/// The first damaged record found in each shard: at most one a shard, so it is bounded.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    path: Arc<Path>,
    found: Arc<Mutex<BTreeMap<ShardId, CorruptRecord>>>,
}

impl Damage {
    pub(crate) fn new(path: &Path) -> Self {
        Self {
            path: path.into(),
            found: Arc::default(),
        }
    }

    /// Notes a damaged record and gives the error to return.
    pub(crate) fn report(&self, record: RecordId, problem: Problem) -> CorruptRecord {
        let corrupt = self.describe(record, problem);
        tracing::error!(shard = corrupt.shard().map(|shard| shard.0), error = %corrupt, "corrupt record");
        if let Some(shard) = corrupt.shard()
            && let Entry::Vacant(vacant) = self.found.lock().entry(shard)
        {
            vacant.insert(corrupt.clone());
        }
        corrupt
    }

    /// The error for a damaged record.
    fn describe(&self, record: RecordId, problem: Problem) -> CorruptRecord {
        let family = record.family().name();
        CorruptRecord {
            record,
            problem,
            path: self.path.to_path_buf(),
            family,
        }
    }

    /// What was found first in a shard.
    pub(crate) fn of(&self, shard: ShardId) -> Option<CorruptRecord> {
        self.found.lock().get(&shard).cloned()
    }

    /// What was found first in each shard.
    pub(crate) fn all(&self) -> Vec<CorruptRecord> {
        self.found.lock().values().cloned().collect()
    }

    /// Forgets a shard whose records are gone.
    pub(crate) fn forget(&self, shard: ShardId) {
        self.found.lock().remove(&shard);
    }
}
