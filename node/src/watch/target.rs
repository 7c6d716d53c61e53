//! Which locks a watch is about.
//!
//! Invariant: a name and a prefix are within the bounds of names.

use lockstep_model::{LockName, id::MAX_LOCK_NAME_BYTES, locks::change::Change, shard::Shard};
use lockstep_proto::raft::v1::watch_shard_request as pb;

/// One lock, or many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// This one.
    Name(LockName),
    /// All whose names begin so.
    Prefix(String),
}

impl Target {
    /// All locks whose names begin so. None if no name can.
    #[must_use]
    pub fn prefix(prefix: String) -> Option<Self> {
        (prefix.len() <= MAX_LOCK_NAME_BYTES).then_some(Self::Prefix(prefix))
    }

    /// True if the watch is about this lock.
    #[must_use]
    pub fn takes(&self, name: &LockName) -> bool {
        match self {
            Self::Name(own) => own == name,
            Self::Prefix(prefix) => name.as_str().starts_with(prefix),
        }
    }

    /// The present holds of these locks.
    #[must_use]
    pub fn present(&self, shard: &Shard) -> Vec<Change> {
        match self {
            Self::Name(name) => shard.present(name),
            Self::Prefix(prefix) => shard.present_with_prefix(prefix).collect(),
        }
    }

    /// As nodes say it to each other.
    #[must_use]
    pub fn to_wire(&self) -> pb::Target {
        match self {
            Self::Name(name) => pb::Target::Name(name.as_str().to_owned()),
            Self::Prefix(prefix) => pb::Target::Prefix(prefix.clone()),
        }
    }

    /// What another node said; none if it is out of bounds.
    #[must_use]
    pub fn from_wire(target: Option<pb::Target>) -> Option<Self> {
        match target? {
            pb::Target::Name(name) => LockName::new(&name).ok().map(Self::Name),
            pb::Target::Prefix(prefix) => Self::prefix(prefix),
        }
    }
}
