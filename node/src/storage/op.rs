//! A change of the database.
//!
//! Invariant: a change says all of what it does, and does not depend on what is there.

use super::family::Family;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Sets a key.
    Put(Family, Vec<u8>, Vec<u8>),
    /// Removes the keys from one up to and without another.
    DeleteRange(Family, Vec<u8>, Vec<u8>),
}

impl Op {
    pub(crate) const fn bytes(&self) -> usize {
        match self {
            Self::Put(_, first, second) | Self::DeleteRange(_, first, second) => {
                first.len() + second.len()
            }
        }
    }

    pub(crate) const fn is_entry(&self) -> bool {
        matches!(self, Self::Put(Family::Log, ..))
    }
}
