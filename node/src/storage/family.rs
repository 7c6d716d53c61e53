//! The column families of a node's database, by role.
//!
//! Invariant: names and codes are a disk format; a family is never renamed, a code never reused, and no
//! family holds another's kinds of record.

/// A column family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Family {
    /// Log entries of all shards.
    Log,
    /// The small records of each shard's log: vote, purge mark, commit mark.
    Vote,
    /// The current snapshot of each shard.
    Snapshot,
    /// Records of the node itself.
    Meta,
}

impl Family {
    /// All of them.
    pub(crate) const ALL: [Self; 4] = [Self::Log, Self::Vote, Self::Snapshot, Self::Meta];

    /// Its name on disk.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Log => "log",
            Self::Vote => "vote",
            Self::Snapshot => "snapshot",
            Self::Meta => "meta",
        }
    }

    /// What stands for it in the journal.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Log => 1,
            Self::Vote => 2,
            Self::Snapshot => 3,
            Self::Meta => 4,
        }
    }

    /// The family that a code stands for, if any does.
    pub(crate) fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.code() == code)
    }
}
