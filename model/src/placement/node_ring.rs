//! The ring of nodes: which nodes a shard prefers.
//!
//! Invariant: how two nodes compare for a shard depends on these three alone, so a node that comes
//! or goes changes no other preference.

use std::{
    cell::OnceCell,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    id::{NodeId, ShardId},
    ring::{Kind, VIRTUAL_NODES, hash},
};

/// Each node's points, [`VIRTUAL_NODES`] of them, computed when the first is asked for: most plans
/// find all in place and ask for none.
pub(super) struct NodeRing {
    nodes: BTreeSet<NodeId>,
    points: OnceCell<BTreeMap<NodeId, Vec<u64>>>,
}

impl NodeRing {
    pub(super) fn new(nodes: &BTreeSet<NodeId>) -> Self {
        Self {
            nodes: nodes.clone(),
            points: OnceCell::new(),
        }
    }

    /// How far one goes clockwise from the shard to the node's next point. The order of the nodes
    /// by this is the order in which a walk meets them.
    pub(super) fn distance(&self, shard: ShardId, node: NodeId) -> u64 {
        let from = hash(Kind::Replicas, &[&shard.0.to_be_bytes()]);
        let all = self.points.get_or_init(|| {
            let nodes = self.nodes.iter();
            nodes.map(|node| (*node, points_of(*node))).collect()
        });
        let points = all.get(&node).map_or(&[][..], Vec::as_slice);
        let next = points.partition_point(|at| *at < from);
        let point = points.get(next).or_else(|| points.first());
        point.map_or(u64::MAX, |at| at.wrapping_sub(from))
    }
}

fn points_of(node: NodeId) -> Vec<u64> {
    let mut points: Vec<_> = (0..VIRTUAL_NODES)
        .map(|number| {
            let parts: [&[u8]; 2] = [&node.0.to_be_bytes(), &number.to_be_bytes()];
            hash(Kind::NodePoint, &parts)
        })
        .collect();
    points.sort_unstable();
    points
}
