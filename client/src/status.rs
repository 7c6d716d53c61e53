//! The cluster as one of its nodes sees it.
//!
//! Invariant: ids that mean "none" on the wire (0) are `None` here.

use lockstep_model::id::{NodeId, ShardId};
use lockstep_proto::cluster::v1 as wire;

/// Nodes and shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterStatus {
    /// 32 hexadecimal digits.
    pub cluster_id: String,
    /// The nodes, as the wire orders them.
    pub nodes: Vec<NodeStatus>,
    /// The shards, as the wire orders them; 0 is the meta shard.
    pub shards: Vec<ShardStatus>,
    /// The node that answered.
    pub answered_by: NodeId,
    /// Of the cluster's tables, as far as the answering node has them.
    pub revision: u64,
    /// How many replicas each shard should have.
    pub replication_factor: u32,
    /// True if every replica and lead is known to be where it should be.
    pub settled: bool,
    /// What keeps the placement from being as it should be, in words.
    pub obstacles: Vec<String>,
}

/// Which leads were handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Other nodes lead these now.
    pub transferred: Vec<ShardId>,
    /// Nobody took these over in time.
    pub kept: Vec<ShardId>,
}

/// What is to become of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// It holds its share.
    Active,
    /// It is being emptied.
    Draining,
    /// It is not expected back.
    Lost,
    /// Something that this version does not know.
    Unknown,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where peers reach it.
    pub peer_address: String,
    /// The version that it runs.
    pub version: String,
    /// Its failure domain; may be empty.
    pub zone: String,
    /// False when it did not answer the asked node.
    pub reachable: bool,
    /// Whether it serves.
    pub ready: bool,
    /// Why not, in its own words, if it is not and said so.
    pub not_ready: Option<String>,
    /// That its disk is nearly full, in its own words, if it is: then it takes on nothing that grows.
    pub disk_low: Option<String>,
    /// How many shards it leads.
    pub shards_led: u32,
    /// How many shards it has replicas of, as it says itself.
    pub shards_held: u32,
    /// How many shards the placement gives it; 0 once it is drained.
    pub shards_placed: u32,
    /// What is to become of it.
    pub lifecycle: Lifecycle,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardStatus {
    /// Its id.
    pub id: ShardId,
    /// Its leader, where known.
    pub leader: Option<NodeId>,
    /// The leader's term.
    pub term: u64,
    /// Its replicas.
    pub replicas: Vec<ReplicaStatus>,
    /// The last index of the leader's log.
    pub last_index: u64,
    /// The last index that a quorum has.
    pub committed_index: u64,
}

/// A shard's copy on a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaStatus {
    /// The node.
    pub node: NodeId,
    /// Whether it votes.
    pub voter: bool,
    /// The highest log index known to be on it.
    pub matched_index: u64,
    /// Entries behind the leader's log.
    pub lag: u64,
}

impl From<wire::GetStatusResponse> for ClusterStatus {
    fn from(status: wire::GetStatusResponse) -> Self {
        Self {
            cluster_id: status.cluster_id,
            nodes: status.nodes.into_iter().map(Into::into).collect(),
            shards: status.shards.into_iter().map(Into::into).collect(),
            answered_by: NodeId(status.answered_by),
            revision: status.revision,
            replication_factor: status.replication_factor,
            settled: status.settled,
            obstacles: status.obstacles,
        }
    }
}

impl From<wire::NodeStatus> for NodeStatus {
    fn from(node: wire::NodeStatus) -> Self {
        let lifecycle = match node.lifecycle() {
            wire::NodeLifecycle::Active => Lifecycle::Active,
            wire::NodeLifecycle::Draining => Lifecycle::Draining,
            wire::NodeLifecycle::Lost => Lifecycle::Lost,
            wire::NodeLifecycle::Unspecified => Lifecycle::Unknown,
        };
        Self {
            lifecycle,
            shards_placed: node.shards_placed,
            id: NodeId(node.node_id),
            name: node.name,
            client_address: node.client_address,
            peer_address: node.peer_address,
            version: node.version,
            zone: node.zone,
            reachable: node.reachable,
            ready: node.ready,
            not_ready: Some(node.not_ready).filter(|why| !why.is_empty()),
            disk_low: Some(node.disk_low).filter(|words| !words.is_empty()),
            shards_led: node.shards_led,
            shards_held: node.shards_held,
        }
    }
}

impl From<wire::ShardStatus> for ShardStatus {
    fn from(shard: wire::ShardStatus) -> Self {
        Self {
            id: ShardId(shard.shard),
            leader: (shard.leader != 0).then_some(NodeId(shard.leader)),
            term: shard.term,
            replicas: shard.replicas.into_iter().map(Into::into).collect(),
            last_index: shard.last_index,
            committed_index: shard.committed_index,
        }
    }
}

impl From<wire::ReplicaStatus> for ReplicaStatus {
    fn from(replica: wire::ReplicaStatus) -> Self {
        Self {
            node: NodeId(replica.node_id),
            voter: replica.voter,
            matched_index: replica.matched_index,
            lag: replica.lag,
        }
    }
}
