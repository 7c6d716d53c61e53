//! Results as JSON: the shapes that scripts rely on.
//!
//! Invariant: a field keeps its name and meaning; new ones may be added. Ids of sessions are 16
//! hexadecimal digits, times are Unix times in milliseconds, values of holders are text.

mod deadlock;
mod election;
mod lock;
mod watch;

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use lockstep_client::{
    ClusterStatus, Lifecycle, NodeStatus, ReplicaStatus, SessionInfo, ShardStatus,
};
use serde::Serialize;

pub(crate) use self::{
    deadlock::DeadlockList,
    election::{Election, Leads},
    lock::{Lock, LockList, Passed, Validated, mode},
    watch::{Event, kind},
};

/// `session ls`.
#[derive(Debug, Serialize)]
pub(crate) struct SessionList {
    pub(crate) sessions: Vec<Session>,
    /// True if there are more than were asked for.
    pub(crate) truncated: bool,
}

/// One of `session ls`.
#[derive(Debug, Serialize)]
pub(crate) struct Session {
    pub(crate) session: String,
    pub(crate) ttl_ms: u64,
    pub(crate) epoch: u64,
    pub(crate) priority: i32,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) opened_at_ms: u64,
    pub(crate) shards: Vec<u32>,
    pub(crate) ending: bool,
}

/// `session close`.
#[derive(Debug, Serialize)]
pub(crate) struct Closed {
    pub(crate) session: String,
    pub(crate) closed: bool,
    pub(crate) lease_ms: u64,
}

/// `status`.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    pub(crate) cluster_id: String,
    pub(crate) answered_by: u64,
    pub(crate) revision: u64,
    pub(crate) replication_factor: u32,
    pub(crate) settled: bool,
    pub(crate) obstacles: Vec<String>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) shards: Vec<Shard>,
}

/// `node ls`.
#[derive(Debug, Serialize)]
pub(crate) struct NodeList {
    pub(crate) nodes: Vec<Node>,
}

/// `shard ls`.
#[derive(Debug, Serialize)]
pub(crate) struct ShardList {
    pub(crate) shards: Vec<Shard>,
}

/// `node drain`, `remove`, `replace` and `activate`.
#[derive(Debug, Serialize)]
pub(crate) struct NodeChanged {
    pub(crate) node_id: u64,
    pub(crate) revision: u64,
    /// Replicas that the placement still gives it.
    pub(crate) shards_placed: u32,
}

/// `leader transfer`.
#[derive(Debug, Serialize)]
pub(crate) struct LeadsTransferred {
    pub(crate) transferred: Vec<u32>,
    pub(crate) kept: Vec<u32>,
}

/// `backup save`.
#[derive(Debug, Serialize)]
pub(crate) struct BackupSaved {
    pub(crate) file: String,
    pub(crate) cluster_id: String,
    pub(crate) shards: u32,
    pub(crate) state_bytes: u64,
    pub(crate) file_bytes: u64,
}

/// `backup restore`.
#[derive(Debug, Serialize)]
pub(crate) struct BackupRestored {
    pub(crate) from_cluster_id: String,
    pub(crate) shards: u32,
    pub(crate) tokens_above: u64,
}

/// A node of `status`.
#[derive(Debug, Serialize)]
pub(crate) struct Node {
    pub(crate) node_id: u64,
    pub(crate) name: String,
    pub(crate) client_address: String,
    pub(crate) peer_address: String,
    pub(crate) version: String,
    pub(crate) zone: String,
    pub(crate) reachable: bool,
    pub(crate) ready: bool,
    /// Why not; absent if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_ready: Option<String>,
    /// That its disk is nearly full; absent if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) disk_low: Option<String>,
    pub(crate) shards_led: u32,
    pub(crate) shards_held: u32,
    pub(crate) shards_placed: u32,
    pub(crate) lifecycle: &'static str,
}

/// A shard of `status`.
#[derive(Debug, Serialize)]
pub(crate) struct Shard {
    pub(crate) shard: u32,
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    pub(crate) last_index: u64,
    pub(crate) committed_index: u64,
    pub(crate) replicas: Vec<Replica>,
}

/// A replica of `status`.
#[derive(Debug, Serialize)]
pub(crate) struct Replica {
    pub(crate) node_id: u64,
    pub(crate) voter: bool,
    pub(crate) matched_index: u64,
    pub(crate) lag: u64,
}

/// `version`.
#[derive(Debug, Serialize)]
pub(crate) struct Version {
    pub(crate) version: &'static str,
}

/// A lifecycle as it is written everywhere.
pub(crate) const fn lifecycle(lifecycle: Lifecycle) -> &'static str {
    match lifecycle {
        Lifecycle::Active => "active",
        Lifecycle::Draining => "draining",
        Lifecycle::Lost => "lost",
        Lifecycle::Unknown => "unknown",
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl From<&SessionInfo> for Session {
    fn from(session: &SessionInfo) -> Self {
        Self {
            session: session.id.to_string(),
            ttl_ms: u64::try_from(session.ttl.as_millis()).unwrap_or(u64::MAX),
            epoch: session.epoch.0,
            priority: session.priority.0,
            labels: session.labels.clone(),
            opened_at_ms: unix_ms(session.opened),
            shards: session.shards.iter().map(|shard| shard.0).collect(),
            ending: session.ending,
        }
    }
}

impl From<&ClusterStatus> for Status {
    fn from(status: &ClusterStatus) -> Self {
        Self {
            cluster_id: status.cluster_id.clone(),
            answered_by: status.answered_by.0,
            revision: status.revision,
            replication_factor: status.replication_factor,
            settled: status.settled,
            obstacles: status.obstacles.clone(),
            nodes: status.nodes.iter().map(Into::into).collect(),
            shards: status.shards.iter().map(Into::into).collect(),
        }
    }
}

impl From<&NodeStatus> for Node {
    fn from(node: &NodeStatus) -> Self {
        Self {
            node_id: node.id.0,
            name: node.name.clone(),
            client_address: node.client_address.clone(),
            peer_address: node.peer_address.clone(),
            version: node.version.clone(),
            zone: node.zone.clone(),
            reachable: node.reachable,
            ready: node.ready,
            not_ready: node.not_ready.clone(),
            disk_low: node.disk_low.clone(),
            shards_led: node.shards_led,
            shards_held: node.shards_held,
            shards_placed: node.shards_placed,
            lifecycle: lifecycle(node.lifecycle),
        }
    }
}

impl From<&ShardStatus> for Shard {
    fn from(shard: &ShardStatus) -> Self {
        Self {
            shard: shard.id.0,
            leader: shard.leader.map(|leader| leader.0),
            term: shard.term,
            last_index: shard.last_index,
            committed_index: shard.committed_index,
            replicas: shard.replicas.iter().map(Into::into).collect(),
        }
    }
}

impl From<&ReplicaStatus> for Replica {
    fn from(replica: &ReplicaStatus) -> Self {
        Self {
            node_id: replica.node.0,
            voter: replica.voter,
            matched_index: replica.matched_index,
            lag: replica.lag,
        }
    }
}
