//! The changes of the fake's holds, for those who watch.
//!
//! Invariant: each change has the number after that of the one before in its shard.

use std::collections::BTreeMap;

use lockstep_model::{id::LockName, ring::Ring};
use lockstep_proto::lock::v1::{Change, ChangeKind};

use super::{SHARDS, table::Hold};

/// The changes in each shard.
#[derive(Debug)]
pub struct History {
    ring: Ring,
    shards: BTreeMap<u32, Log>,
}

#[derive(Debug, Default)]
struct Log {
    /// The number of the last change that is forgotten.
    forgotten: u64,
    changes: Vec<Change>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            ring: Ring::new(SHARDS),
            shards: (1..=SHARDS).map(|shard| (shard, Log::default())).collect(),
        }
    }
}

impl History {
    /// The shard of a lock.
    #[must_use]
    pub fn shard_of(&self, name: &str) -> u32 {
        LockName::new(name).map_or(0, |name| self.ring.shard_of_lock(&name).0)
    }

    /// Forgets all changes so far.
    pub fn forget(&mut self) {
        for log in self.shards.values_mut() {
            log.forgotten += log.changes.drain(..).count() as u64;
        }
    }

    /// The number of the last change in a shard.
    pub(super) fn latest(&self, shard: u32) -> u64 {
        let log = self.shards.get(&shard);
        log.map_or(0, |log| log.forgotten + log.changes.len() as u64)
    }

    /// The changes in a shard after a revision; none if they are not all known.
    pub(super) fn after(&self, shard: u32, revision: u64) -> Option<Vec<Change>> {
        let log = self.shards.get(&shard)?;
        let skip = usize::try_from(revision.checked_sub(log.forgotten)?).ok()?;
        Some(log.changes.get(skip..)?.to_vec())
    }

    pub(super) fn note(&mut self, kind: ChangeKind, name: &str, hold: &Hold) {
        let shard = self.shard_of(name);
        let revision = self.latest(shard) + 1;
        if let Some(log) = self.shards.get_mut(&shard) {
            log.changes.push(change(kind, revision, name, hold));
        }
    }
}

/// A hold as a change.
pub(super) fn change(kind: ChangeKind, revision: u64, name: &str, hold: &Hold) -> Change {
    Change {
        revision,
        at_ms: 1_700_000_002_000,
        name: name.to_owned(),
        kind: kind.into(),
        session_id: hold.session,
        owner: hold.owner.clone(),
        mode: hold.mode.into(),
        token: hold.token,
        value: hold.value.clone(),
        permits: hold.permits,
        size: hold.size,
    }
}
