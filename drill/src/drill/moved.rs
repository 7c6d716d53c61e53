//! What moving replicas has cost, against what it has to cost at least: each replica that moves is
//! sent once, as large as its shard's state is.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    cluster::Cluster,
    poll::{TimedOut, until},
};

const SENT: &str = "lockstep_snapshot_bytes_sent_total";
const SENT_WHOLE: &str = "lockstep_snapshots_sent_total";
const SIZE: &str = "lockstep_snapshot_size_bytes";
/// How long it may take until every shard has made a snapshot of what it holds.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(60);

/// A replica of a data shard: the shard, and the id of the node.
type Placed = BTreeSet<(u32, u64)>;

/// What was moved and sent so far.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Replicas that a node has got.
    pub(super) replicas: usize,
    /// Snapshots that were sent whole.
    pub(super) snapshots: f64,
    /// Bytes of snapshots that were sent.
    pub(super) sent: f64,
    /// What these replicas' states are together.
    pub(super) ideal: f64,
}

/// How it was at one moment.
pub(super) struct Before {
    placed: Placed,
    sent: f64,
    snapshots: f64,
}

impl Moved {
    /// Counts what has happened since `before`, on a cluster that is settled.
    pub(super) async fn count(&mut self, before: &Before, cluster: &Cluster) -> anyhow::Result<()> {
        let now = look(cluster).await?;
        for (shard, _) in now.placed.difference(&before.placed) {
            self.replicas += 1;
            self.ideal += size(cluster, *shard).await;
        }
        self.sent += now.sent - before.sent;
        self.snapshots += now.snapshots - before.snapshots;
        Ok(())
    }
}

/// How it is now. Nodes that do not run have sent nothing.
pub(super) async fn look(cluster: &Cluster) -> anyhow::Result<Before> {
    let status = cluster.status(0).await?;
    let data = status.shards.iter().filter(|shard| shard.shard != 0);
    let placed = data.flat_map(|shard| {
        let nodes = shard.replicas.iter().map(|replica| replica.node_id);
        nodes.map(|node| (shard.shard, node))
    });
    let (mut sent, mut snapshots) = (0.0, 0.0);
    for at in 0..cluster.size() {
        if let Ok(samples) = cluster.metrics(at).await {
            sent += samples.sum(SENT);
            snapshots += samples.sum(SENT_WHOLE);
        }
    }
    Ok(Before {
        placed: placed.collect(),
        sent,
        snapshots,
    })
}

/// The size of a shard's latest snapshot; 0 if there is none.
async fn size(cluster: &Cluster, shard: u32) -> f64 {
    let mut size = 0.0_f64;
    for at in 0..cluster.size() {
        if let Ok(samples) = cluster.metrics(at).await {
            size = size.max(samples.of_shard(SIZE, shard).unwrap_or(0.0));
        }
    }
    size
}

/// Waits until every shard has a snapshot of so many bytes at least. Its log is purged up to there, so
/// that whoever gets a replica needs the snapshot.
pub(super) async fn wait_snapshots(cluster: &Cluster, bytes: usize) -> Result<(), TimedOut> {
    until(
        "every shard has made a snapshot",
        SNAPSHOT_LIMIT,
        || async {
            for shard in 1..=cluster.options().shards {
                let size = size(cluster, shard).await;
                if size < bytes as f64 {
                    return Err(format!("that of shard {shard} has {size} bytes"));
                }
            }
            Ok(())
        },
    )
    .await
}
