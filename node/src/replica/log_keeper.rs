//! Keeps one replica's log within its bytes: decides when a snapshot is made and what is purged.
//!
//! Raft makes snapshots by the number of entries, and an entry may have a mebibyte; so bytes are looked at
//! here, and all that is purged is purged by hand. Half of a log's share may have come since the last
//! snapshot, and the last half of it is kept for followers that lag. One that lags by more is to be sent the
//! snapshot: see [`crate::raft::log_floor`].
//!
//! Invariant: what a log has beyond its share is only what is written while a snapshot is made, or cannot be
//! made.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use openraft::{ServerState, async_runtime::WatchReceiver as _};
use parking_lot::Mutex;

use super::Group;
use crate::{
    raft::log_floor::LogFloor,
    storage::{Level, LogUse, SnapshotUse, Space},
};

/// How many entries that a snapshot covers are kept for slow followers, as a share of the distance
/// between snapshots.
const KEPT_SHARE: u64 = 2;
/// As a share of what may be kept: less is not worth a purge.
const PURGE_SHARE: u64 = 8;
/// How long after a snapshot that led to nothing another one is tried: each encodes the whole state.
const RETRY: Duration = Duration::from_secs(5);

/// See the module.
pub struct LogKeeper {
    /// The log.
    pub log: LogUse,
    snapshots: SnapshotUse,
    floor: Arc<LogFloor>,
    snapshot_entries: u64,
    tried: Mutex<Option<Tried>>,
    asking: Arc<AtomicBool>,
}

/// The last snapshot that was asked for.
#[derive(Clone, Copy, Debug)]
struct Tried {
    /// The snapshot that there was.
    present: Option<u64>,
    at: Instant,
}

/// What a log may have.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Bytes.
    share: u64,
    /// Entries between snapshots.
    entries: u64,
}

/// What is known of a log.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Of all entries.
    bytes: u64,
    /// Of those that no snapshot covers.
    bytes_since: u64,
    /// The last index that is to go for half of the share to stay.
    surplus: Option<u64>,
    /// The last index that the snapshot covers.
    snapshot: Option<u64>,
    /// The last index that was purged.
    purged: Option<u64>,
    /// The last index that was applied.
    applied: Option<u64>,
    /// A snapshot is on its way to a follower, which will want the log after it.
    sending: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Steps {
    /// A snapshot that is being sent is not to hold up a new one any longer.
    overrule: bool,
    /// A snapshot is due.
    snapshot: bool,
    /// Purge up to here.
    purge: Option<u64>,
}

fn decide(limits: Limits, seen: Seen) -> Steps {
    let overrule = seen.sending && seen.bytes > limits.share;
    if seen.sending && !overrule {
        return Steps::default();
    }
    let kept = limits.entries / KEPT_SHARE;
    let purge = seen.snapshot.and_then(|snapshot| {
        let by_entries = snapshot.saturating_sub(kept);
        let upto = seen.surplus.unwrap_or(0).max(by_entries).min(snapshot);
        let gone = seen.purged.unwrap_or(0);
        let many = upto.saturating_sub(gone) >= (kept / PURGE_SHARE).max(1);
        let large = seen
            .surplus
            .is_some_and(|_| seen.bytes > limits.share / 2 + limits.share / 2 / PURGE_SHARE);
        (upto > gone && (many || large)).then_some(upto)
    });
    Steps {
        overrule,
        snapshot: seen.bytes_since > limits.share / 2 && seen.applied > seen.snapshot,
        purge,
    }
}

impl LogKeeper {
    /// Of a replica whose snapshots are at most so many entries apart.
    #[must_use]
    pub fn new(
        log: LogUse,
        snapshots: SnapshotUse,
        floor: Arc<LogFloor>,
        snapshot_entries: u64,
    ) -> Self {
        Self {
            log,
            snapshots,
            floor,
            snapshot_entries,
            tried: Mutex::default(),
            asking: Arc::default(),
        }
    }

    /// Looks at the log, and asks Raft for what is to be done. `replicas` share what the node's logs may have.
    pub fn look(&self, raft: &Group, space: &Space, replicas: usize) {
        let limits = Limits {
            share: self.share(space, replicas),
            entries: self.snapshot_entries,
        };
        let (seen, leads) = self.see(raft, limits);
        let mut steps = decide(limits, seen);
        if steps.snapshot {
            steps.snapshot = self.may_try(seen.snapshot);
        }
        if steps.overrule {
            self.snapshots.overrule();
        }
        self.ask(raft, steps, leads);
    }

    /// While the disk is low the log is to take no more than the snapshot that would free it.
    fn share(&self, space: &Space, replicas: usize) -> u64 {
        let share = space.budget().share(replicas);
        match space.level() {
            Level::Ample => share,
            Level::Low | Level::Full => {
                let least = space.budget().share(usize::MAX);
                self.snapshots.bytes().saturating_mul(2).clamp(least, share)
            }
        }
    }

    fn see(&self, raft: &Group, limits: Limits) -> (Seen, bool) {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let index = |id: &Option<crate::raft::types::LogId>| id.as_ref().map(|id| id.index);
        let snapshot = index(&metrics.snapshot);
        let bytes = self.log.bytes();
        let seen = Seen {
            bytes,
            bytes_since: self.log.bytes_above(snapshot),
            surplus: self.log.surplus(limits.share / 2),
            snapshot,
            purged: index(&metrics.purged),
            applied: index(&metrics.last_applied),
            sending: self.snapshots.is_sending(),
        };
        (seen, metrics.state == ServerState::Leader)
    }

    /// Not again at once if the last one led to nothing.
    fn may_try(&self, present: Option<u64>) -> bool {
        let now = Instant::now();
        let mut tried = self.tried.lock();
        if tried.is_some_and(|last| last.present == present && now < last.at + RETRY) {
            return false;
        }
        *tried = Some(Tried { present, at: now });
        true
    }

    /// Off the caller's path: Raft's own queue may be full.
    fn ask(&self, raft: &Group, steps: Steps, leads: bool) {
        if (!steps.snapshot && steps.purge.is_none()) || self.asking.swap(true, Ordering::AcqRel) {
            return;
        }
        let (raft, asking) = (raft.clone(), Arc::clone(&self.asking));
        let floor = Arc::clone(&self.floor);
        tokio::spawn(async move {
            // Errors mean that the replica has stopped, which its node finds by itself.
            if let Some(upto) = steps.purge {
                let _ = raft.trigger().purge_log(upto).await;
                // After Raft knows, so that those who are below find the snapshot instead.
                if leads {
                    floor.raise(upto);
                }
            }
            if steps.snapshot {
                let _ = raft.trigger().snapshot().await;
            }
            asking.store(false, Ordering::Release);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        share: 1_000,
        entries: 100,
    };

    /// A log of entries of ten bytes each, of which a snapshot covers some.
    fn log(purged: u64, snapshot: Option<u64>, last: u64) -> Seen {
        let bytes = |above: u64| (last - above) * 10;
        let too_much = bytes(purged).saturating_sub(LIMITS.share / 2);
        Seen {
            bytes: bytes(purged),
            bytes_since: bytes(snapshot.unwrap_or(purged)),
            surplus: (too_much > 0).then(|| purged + too_much.div_ceil(10)),
            snapshot,
            purged: Some(purged),
            applied: Some(last),
            sending: false,
        }
    }

    #[test]
    fn half_of_the_share_may_come_before_a_snapshot() {
        assert_eq!(decide(LIMITS, log(0, None, 50)), Steps::default());
        let due = decide(LIMITS, log(0, None, 51));
        assert_eq!((due.snapshot, due.purge), (true, None));
        assert!(!decide(LIMITS, log(0, Some(40), 90)).snapshot);
        assert!(decide(LIMITS, log(0, Some(40), 91)).snapshot);
        let nothing_new = Seen {
            applied: Some(40),
            ..log(0, Some(40), 200)
        };
        assert!(!decide(LIMITS, nothing_new).snapshot);
    }

    #[test]
    fn the_last_half_is_kept_and_what_no_snapshot_covers() {
        assert_eq!(
            decide(LIMITS, log(0, Some(50), 55)).purge,
            None,
            "not worth it"
        );
        assert_eq!(decide(LIMITS, log(0, Some(50), 60)).purge, Some(10));
        assert_eq!(decide(LIMITS, log(0, Some(50), 120)).purge, Some(50));
        assert_eq!(decide(LIMITS, log(50, Some(50), 120)).purge, None);
    }

    #[test]
    fn entries_bound_what_is_kept_where_they_are_small() {
        let small = Seen {
            bytes: 300,
            bytes_since: 10,
            surplus: None,
            snapshot: Some(300),
            purged: Some(200),
            applied: Some(310),
            sending: false,
        };
        assert_eq!(decide(LIMITS, small).purge, Some(250));
        let few = Seen {
            purged: Some(247),
            ..small
        };
        assert_eq!(
            decide(LIMITS, few).purge,
            None,
            "a few more are not worth it"
        );
    }

    #[test]
    fn a_snapshot_on_its_way_holds_all_that_up_within_the_share() {
        let sending = |last| Seen {
            sending: true,
            ..log(0, Some(40), last)
        };
        assert_eq!(decide(LIMITS, sending(100)), Steps::default());
        let steps = decide(LIMITS, sending(101));
        assert_eq!(
            steps,
            Steps {
                overrule: true,
                snapshot: true,
                purge: Some(40)
            }
        );
    }
}
