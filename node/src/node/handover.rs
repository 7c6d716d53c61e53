//! Hands the leads of this node's shards to other nodes: before it stops, or because it is asked to.
//!
//! Invariant: bounded: what nobody takes in time is left where it is, or to an election.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use lockstep_model::{NodeId, ShardId};
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use tokio::time::timeout;

use crate::replica::Replica;

/// How long one hand-over may take.
const HAND_OVER: Duration = Duration::from_secs(3);

/// What has become of the leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandedOver {
    /// Others lead these now.
    pub transferred: Vec<ShardId>,
    /// Nobody took these in time.
    pub kept: Vec<ShardId>,
}

/// Hands over all that is led here of these replicas: to `to`, or else to the voter whose log is
/// furthest.
pub async fn hand_over(replicas: &[Arc<Replica>], to: Option<NodeId>) -> HandedOver {
    let outcomes = replicas
        .iter()
        .map(|replica| async move { (replica.shard, hand_over_one(replica, to).await) });
    let mut done = HandedOver::default();
    for (shard, outcome) in join_all(outcomes).await {
        match outcome {
            Some(true) => done.transferred.push(shard),
            Some(false) => done.kept.push(shard),
            None => {}
        }
    }
    done
}

/// Whether another leads now; none if this node did not lead before.
async fn hand_over_one(replica: &Arc<Replica>, to: Option<NodeId>) -> Option<bool> {
    let target = {
        let metrics = replica.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            return None;
        }
        let voters: Vec<u64> = metrics.membership_config.voter_ids().collect();
        metrics
            .replication
            .iter()
            .flatten()
            .filter(|(node, _)| **node != metrics.id && voters.contains(node))
            .filter(|(node, _)| to.is_none_or(|to| to.0 == **node))
            .max_by_key(|(_, matched)| **matched)
            .map(|(node, _)| *node)
    };
    let Some(target) = target else {
        return Some(false);
    };
    if let Err(fatal) = replica.hand_over(NodeId(target)).await {
        tracing::warn!(shard = %replica.shard, %fatal, "the lead cannot be handed over");
        return Some(false);
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
        Ok(()) => {
            tracing::info!(shard = %replica.shard, to = target, "lead handed over");
            Some(true)
        }
        Err(_) => {
            tracing::warn!(shard = %replica.shard, "nobody took the lead in time");
            Some(false)
        }
    }
}
