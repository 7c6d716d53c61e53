//! Gives the lead to the node that should have it, so that leaders stay spread after failures.
//!
//! Invariant: the lead moves only from a leader that a quorum follows to a replica that has all but
//! the newest entries, and not before both have been so for [`SETTLE`].

use std::time::{Duration, Instant};

use openraft::async_runtime::WatchReceiver as _;

use super::Replica;
use crate::directory::Directory;

/// How long the preferred replica must have kept up: longer than a node takes to come up and catch
/// up, so that a node that keeps failing is not handed leads.
const SETTLE: Duration = Duration::from_secs(5);
/// Entries that the preferred replica may be behind: what is under way when writes never pause.
const NEARLY: u64 = 64;

/// One leader's patience with leading in another's place.
#[derive(Default)]
pub struct Balance {
    since: Option<Instant>,
}

impl Balance {
    /// Looks whether another should lead, and hands over when that has been so long enough.
    pub async fn consider(&mut self, replica: &Replica, directory: &Directory) {
        let Some(target) = better_leader(replica, directory) else {
            self.since = None;
            return;
        };
        if self.since.get_or_insert_with(Instant::now).elapsed() < SETTLE {
            return;
        }
        self.since = None;
        tracing::info!(shard = %replica.shard, to = target, "hands the lead to the preferred node");
        if let Err(fatal) = replica.raft.trigger().transfer_leader(target).await {
            tracing::warn!(shard = %replica.shard, %fatal, "the lead cannot be handed over");
        }
    }
}

fn better_leader(replica: &Replica, directory: &Directory) -> Option<u64> {
    let preferred = directory.preferred_leader(replica.shard)?.0;
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    if preferred == metrics.id {
        return None;
    }
    let matched = metrics
        .replication
        .as_ref()?
        .get(&preferred)?
        .as_ref()?
        .index;
    let voter = metrics
        .membership_config
        .voter_ids()
        .any(|voter| voter == preferred);
    (voter && matched + NEARLY >= metrics.last_log_index.unwrap_or(0)).then_some(preferred)
}
