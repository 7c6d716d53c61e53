//! Who has a shard open.
//!
//! Invariant: a part of a shard - its log, its state machine - is open at most once, and while it
//! is, the shard's records are not dropped.

use std::{collections::BTreeSet, sync::Arc};

use lockstep_model::ShardId;
use parking_lot::Mutex;

/// What is opened by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The log.
    Log,
    /// The state machine with its snapshots.
    Machine,
}

/// The part of the shard is open already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {part:?} of shard {shard} is open: shut its replica down first")]
pub struct AlreadyOpen {
    /// Which shard.
    pub shard: ShardId,
    /// Which part.
    pub part: Part,
}

/// What is open.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims(Arc<Mutex<BTreeSet<(ShardId, Part)>>>);

/// The right to use a part of a shard, until it is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    claims: Claims,
    key: (ShardId, Part),
}

impl Claims {
    /// Claims a part of a shard.
    pub(crate) fn take(&self, shard: ShardId, part: Part) -> Result<Claim, AlreadyOpen> {
        if self.0.lock().insert((shard, part)) {
            Ok(Claim {
                claims: self.clone(),
                key: (shard, part),
            })
        } else {
            Err(AlreadyOpen { shard, part })
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().remove(&self.key);
    }
}
