//! What the meta shard can be asked, and what it answers.

use std::collections::BTreeMap;

use super::record::{Lifecycle, NodeRecord, Placement, Settings};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, fields, tagged},
    id::{ClusterId, NodeId},
};

/// A question to the meta shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaQuery {
    /// The meta shard's tables.
    Cluster,
}

/// An answer of the meta shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaAnswer {
    /// The meta shard's tables; none before it was founded.
    Cluster(Option<ClusterView>),
}

/// The meta shard's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// The cluster.
    pub cluster: ClusterId,
    /// Shards and replication factor.
    pub settings: Settings,
    /// The nodes.
    pub nodes: Vec<NodeRecord>,
    /// Where each shard lives.
    pub placement: Placement,
    /// The greatest node id ever given.
    pub last_node: NodeId,
    /// Grows with every change of these tables; 1 when founded.
    pub revision: u64,
    /// The nodes that are not active.
    pub lifecycles: BTreeMap<NodeId, Lifecycle>,
}

impl ClusterView {
    /// What is to become of a node. One that is not in the registry is lost.
    #[must_use]
    pub fn lifecycle(&self, node: NodeId) -> Lifecycle {
        if self.nodes.iter().any(|record| record.node == node) {
            self.lifecycles.get(&node).copied().unwrap_or_default()
        } else {
            Lifecycle::Lost
        }
    }
}

tagged!(MetaQuery, "meta query", {
    1 => Cluster,
});

tagged!(MetaAnswer, "meta answer", {
    1 => Cluster(inner),
});

fields!(ClusterView {
    cluster,
    settings,
    nodes,
    placement,
    last_node,
    revision,
    lifecycles
});
