//! openraft's knobs, derived from ours.
//!
//! Invariant: pre-vote is on, a restarted leader never leads again without an election (its state
//! machine may be behind), and every queue inside openraft is bounded.

use std::{sync::Arc, time::Duration};

use lockstep_model::ShardId;
use openraft::{ConfigError, SnapshotPolicy};

use crate::config::Timing;

/// Most entries in one AppendEntries: with batches of at most 1 MiB, a message stays below
/// [`crate::transport::MAX_PEER_MESSAGE_BYTES`].
pub const MAX_PAYLOAD_ENTRIES: u64 = 32;
/// openraft's internal queues. Its callers here are bounded by the proposer, so they never fill.
const CHANNEL: u64 = 4_096;
/// The configuration of one shard's group. The replica does not stand for election by its timer before it
/// is told to, because peers have to be able to reach it first.
///
/// # Errors
/// If openraft refuses it, which a valid [`Timing`] cannot cause.
pub fn config(
    shard: ShardId,
    timing: &Timing,
    snapshot_entries: u64,
) -> Result<Arc<openraft::Config>, ConfigError> {
    let lease = millis(timing.leader_lease());
    let config = openraft::Config {
        cluster_name: format!("shard-{shard}"),
        heartbeat_interval: millis(timing.heartbeat),
        // The leader lease is openraft's `election_timeout_max`; see `Timing::leader_lease`.
        election_timeout_min: lease * 2 / 5,
        election_timeout_max: lease,
        max_payload_entries: MAX_PAYLOAD_ENTRIES,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(snapshot_entries),
        // All that is purged is purged by `replica::log_keeper`, which looks at bytes as well.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: snapshot_entries,
        api_channel_size: Some(CHANNEL),
        notification_channel_size: Some(CHANNEL),
        enable_pre_vote: Some(true),
        enable_elect: false,
        enable_leader_restore: Some(false),
        broadcast_submitted_on_append: Some(true),
        ..openraft::Config::default()
    };
    config.validate().map(Arc::new)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
