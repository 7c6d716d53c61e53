//! Hands the lead of every shard to another node before this one stops.
//!
//! Invariant: bounded: what nobody takes in time is left to an election.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use tokio::time::timeout;

use crate::replica::{Replica, Replicas};

/// How long one hand-over may take.
const HAND_OVER: Duration = Duration::from_secs(3);

/// Hands over all that is led here.
pub async fn hand_over(replicas: &Replicas) {
    join_all(replicas.values().map(hand_over_one)).await;
}

async fn hand_over_one(replica: &Arc<Replica>) {
    let target = {
        let metrics = replica.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return;
        }
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        metrics
            .replication
            .iter()
            .flatten()
            .filter(|(node, _)| **node != metrics.id && voters.contains(node))
            .max_by_key(|(_, matched)| **matched)
            .map(|(node, _)| *node)
    };
    let Some(target) = target else { return };
    if let Err(fatal) = replica.raft.trigger().transfer_leader(target).await {
        tracing::warn!(shard = %replica.shard, %fatal, "the lead cannot be handed over");
        return;
    }
    let followed = async {
        let mut metrics = replica.raft.server_metrics();
        loop {
            let led_elsewhere = {
                let seen = metrics.borrow_watched();
                seen.state != ServerState::Leader && seen.current_leader.is_some()
            };
            if led_elsewhere || metrics.changed().await.is_err() {
                return;
            }
        }
    };
    match timeout(HAND_OVER, followed).await {
        Ok(()) => tracing::info!(shard = %replica.shard, to = target, "lead handed over"),
        Err(_) => tracing::warn!(shard = %replica.shard, "nobody took the lead in time"),
    }
}
