//! The mark that a recovery leaves in each directory.
//!
//! Invariants: it is there before anything of the directory is changed; it says "done" only when every
//! directory of the recovery has been changed, and until then no node starts there. So whoever finds
//! a directory that is done knows that all of them can start.

use std::time::Duration;

use lockstep_model::{ClusterId, Timestamp, session::MAX_SESSION_TTL};

use crate::storage::{ReadError, Storage};

/// Under which key it is kept among the storage's own records.
pub const KEY: &str = "recovery";
/// Version of the encoding below.
const VERSION: u8 = 1;

/// How far a recovery has come in one directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The directory is still as it was.
    Begun,
    /// The directory is part of the new cluster; others may not be yet.
    Placed,
    /// All directories are part of the new cluster.
    Done,
}

/// The mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// How far it is.
    pub stage: Stage,
    /// The cluster that was.
    pub old: ClusterId,
    /// The cluster that is made of it.
    pub new: ClusterId,
    /// By when every session of the old one that was found has run out, in the eyes of its client.
    pub not_before: Timestamp,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// It cannot be read.
    #[error("the data directory cannot be read: {0}")]
    Read(#[from] ReadError),
    /// It means nothing to this version.
    #[error("the mark of a recovery is not readable: run the version that wrote it")]
    Malformed,
    /// It was not finished.
    #[error(
        "a recovery of this data directory was begun and not finished: repeat `lockstep-node recover` with the same directories; if the others went on without this one, empty it to join as a new node"
    )]
    Unfinished,
}

impl Mark {
    /// Reads it; none where nothing was ever recovered.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn load(storage: &Storage) -> Result<Option<Self>, MarkError> {
        let stored = storage.get_meta(KEY)?.filter(|bytes| !bytes.is_empty());
        stored
            .map(|bytes| Self::decode(&bytes).ok_or(MarkError::Malformed))
            .transpose()
    }

    /// The same, where a node is about to start.
    ///
    /// # Errors
    /// If it cannot be read, or the recovery was not finished.
    pub fn of_startable(storage: &Storage) -> Result<Option<Self>, MarkError> {
        let mark = Self::load(storage)?;
        match mark.map(|mark| mark.stage) {
            Some(Stage::Begun | Stage::Placed) => Err(MarkError::Unfinished),
            Some(Stage::Done) | None => Ok(mark),
        }
    }

    /// How much longer the node must grant nothing. Never more than the longest TTL, whatever the
    /// clock says.
    #[must_use]
    pub fn hold_off(&self, now: Timestamp) -> Option<Duration> {
        let left = self
            .not_before
            .0
            .checked_sub(now.0)
            .filter(|left| *left > 0)?;
        Some(Duration::from_millis(left.min(MAX_SESSION_TTL.0)))
    }

    /// The mark as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let stage = match self.stage {
            Stage::Begun => 0,
            Stage::Placed => 1,
            Stage::Done => 2,
        };
        let mut bytes = vec![VERSION, stage];
        bytes.extend_from_slice(&self.old.0);
        bytes.extend_from_slice(&self.new.0);
        bytes.extend_from_slice(&self.not_before.0.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(2)?;
        let (old, rest) = rest.split_at_checked(16)?;
        let (new, not_before) = rest.split_at_checked(16)?;
        Some(Self {
            stage: match head {
                [VERSION, 0] => Stage::Begun,
                [VERSION, 1] => Stage::Placed,
                [VERSION, 2] => Stage::Done,
                _ => return None,
            },
            old: ClusterId(old.try_into().ok()?),
            new: ClusterId(new.try_into().ok()?),
            not_before: Timestamp(u64::from_be_bytes(not_before.try_into().ok()?)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_survive_the_round_trip() {
        for stage in [Stage::Begun, Stage::Placed, Stage::Done] {
            let mark = Mark {
                stage,
                old: ClusterId([1; 16]),
                new: ClusterId([2; 16]),
                not_before: Timestamp(5_000),
            };
            let bytes = mark.encode();
            assert_eq!(Mark::decode(&bytes), Some(mark));
            for cut in 0..bytes.len() {
                assert_eq!(Mark::decode(bytes.get(..cut).unwrap()), None);
            }
        }
    }

    #[test]
    fn a_node_waits_for_old_sessions_and_never_for_longer_than_any_can_last() {
        let mark = Mark {
            stage: Stage::Done,
            old: ClusterId([1; 16]),
            new: ClusterId([2; 16]),
            not_before: Timestamp(5_000),
        };
        let left = |now| mark.hold_off(Timestamp(now));
        assert_eq!(left(4_000), Some(Duration::from_secs(1)));
        assert_eq!(left(5_000), None);
        let far = Mark {
            not_before: Timestamp(u64::MAX),
            ..mark
        };
        assert_eq!(far.hold_off(Timestamp(0)), Some(Duration::from_secs(3_600)));
    }
}
