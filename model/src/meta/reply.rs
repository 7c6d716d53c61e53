//! What the meta shard answers.
//!
//! Invariant: every refusal changed nothing.

use crate::{
    codec::{Decode, DecodeError, Encode, Reader, tagged},
    id::{NodeId, ShardId},
};

/// The answer to a command of the meta shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaReply {
    /// The node belongs to the cluster now.
    Joined {
        /// Under this id.
        node: NodeId,
    },
    /// The meta shard's tables are as asked for.
    Changed {
        /// Their revision.
        revision: u64,
    },
}

/// Why the tables were not changed. Each says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaRefusal {
    /// The tables have changed since the caller looked.
    #[error(
        "the cluster's tables are at revision {actual}, not {expected}: look again, then decide anew"
    )]
    OtherRevision {
        /// What the caller expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// There is no room in the registry.
    #[error("the cluster has {limit} nodes, which is the most: remove lost ones first")]
    TooManyNodes {
        /// The bound.
        limit: usize,
    },
    /// Without the node there would be fewer nodes than replicas of a shard.
    #[error(
        "without node {node} there are {left} active nodes, and each shard needs {needed}: add nodes first"
    )]
    TooFewNodes {
        /// Which.
        node: NodeId,
        /// How many active nodes would be left.
        left: usize,
        /// The replication factor.
        needed: usize,
    },
    /// Without the node a shard could decide nothing.
    #[error("shard {shard} has no majority without node {node}: bring other nodes back first")]
    NoMajorityWithout {
        /// Which node.
        node: NodeId,
        /// Which shard.
        shard: ShardId,
    },
    /// The node is to be removed and still holds something.
    #[error("node {node} still holds {replicas} replicas: drain it, and wait until it is empty")]
    NodeNotEmpty {
        /// Which.
        node: NodeId,
        /// How many.
        replicas: usize,
    },
    /// The node is to be removed, but new replicas could be placed on it.
    #[error("node {node} is active: drain it first")]
    NodeActive {
        /// Which.
        node: NodeId,
    },
    /// Another node has taken the node's name.
    #[error("node {node} was replaced by node {by} of the same name: it stays lost; remove it")]
    NodeReplaced {
        /// Which.
        node: NodeId,
        /// By which.
        by: NodeId,
    },
    /// The node is not in the registry.
    #[error("node {node} is not known to the cluster")]
    NoSuchNode {
        /// Which.
        node: NodeId,
    },
}

tagged!(MetaReply, "meta reply", {
    1 => Joined { node },
    2 => Changed { revision },
});

tagged!(MetaRefusal, "meta refusal", {
    1 => OtherRevision { expected, actual },
    2 => TooManyNodes { limit },
    3 => TooFewNodes { node, left, needed },
    4 => NoMajorityWithout { node, shard },
    5 => NodeNotEmpty { node, replicas },
    6 => NodeActive { node },
    7 => NodeReplaced { node, by },
    8 => NoSuchNode { node },
});
