//! What the meta shard can be told.
//!
//! Invariant: a command that is repeated changes nothing.

mod codec;

use super::record::{Lifecycle, NodeRecord, Placement, Settings};
use crate::id::{ClusterId, NodeId, Serial, SessionId, ShardId};

/// What each counts for when a batch is filled: they are rare, and may be large.
const WEIGHT: usize = 1 << 20;

/// A change of the meta shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaCommand {
    /// The first entry: what the founders agreed on. A second one changes nothing.
    Found {
        /// The cluster.
        cluster: ClusterId,
        /// Shards and replication factor.
        settings: Settings,
        /// The founding nodes.
        nodes: Vec<NodeRecord>,
        /// Where each shard lives.
        placement: Placement,
    },
    /// A node tells its present addresses, version and zone.
    DescribeNode {
        /// The node and what it says of itself. Unknown ids are refused.
        node: NodeRecord,
    },
    /// A node without an id asks for one. An older node of the same name, whose directory must be
    /// gone, is lost from now on.
    JoinNode {
        /// What it says of itself; its id is 0.
        node: NodeRecord,
        /// Chosen by the node and kept in its directory: asking again gives the same id.
        nonce: u64,
    },
    /// Says what is to become of a node.
    SetLifecycle {
        /// Which.
        node: NodeId,
        /// What.
        lifecycle: Lifecycle,
        /// The tables' revision that this was decided by; none: whatever it is.
        expected: Option<u64>,
    },
    /// Takes a node that holds nothing out of the registry.
    RemoveNode {
        /// Which.
        node: NodeId,
        /// As for [`MetaCommand::SetLifecycle`].
        expected: Option<u64>,
    },
    /// Records who holds a shard, as its leader has it or is about to.
    SetReplicas {
        /// Which shard.
        shard: ShardId,
        /// Its voters.
        voters: Vec<NodeId>,
        /// Its learners.
        learners: Vec<NodeId>,
        /// The index in the shard's log from which its members are so: older news are refused.
        as_of: u64,
    },
}

impl MetaCommand {
    /// True if the state may need more room afterwards: see [`crate::Command::grows`].
    #[must_use]
    pub const fn grows(&self) -> bool {
        match self {
            Self::Found { .. }
            | Self::DescribeNode { .. }
            | Self::JoinNode { .. }
            | Self::SetLifecycle { .. }
            | Self::RemoveNode { .. }
            | Self::SetReplicas { .. } => false,
        }
    }

    /// True if doing it twice is the same as doing it once.
    #[must_use]
    pub const fn repeatable(&self) -> bool {
        match self {
            Self::Found { .. }
            | Self::DescribeNode { .. }
            | Self::JoinNode { .. }
            | Self::SetLifecycle { .. }
            | Self::RemoveNode { .. }
            | Self::SetReplicas { .. } => true,
        }
    }

    /// The request that it may block; none of them is any.
    #[must_use]
    pub const fn waits(&self) -> Option<(SessionId, Serial)> {
        match self {
            Self::Found { .. }
            | Self::DescribeNode { .. }
            | Self::JoinNode { .. }
            | Self::SetLifecycle { .. }
            | Self::RemoveNode { .. }
            | Self::SetReplicas { .. } => None,
        }
    }

    /// About how many bytes it is encoded in, at most.
    #[must_use]
    pub const fn weight(&self) -> usize {
        match self {
            Self::Found { .. }
            | Self::DescribeNode { .. }
            | Self::JoinNode { .. }
            | Self::SetLifecycle { .. }
            | Self::RemoveNode { .. }
            | Self::SetReplicas { .. } => WEIGHT,
        }
    }
}
