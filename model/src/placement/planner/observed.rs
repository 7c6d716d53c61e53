//! What the planner goes by.
//!
//! Invariant: a node of which nothing is known counts as lost.

use std::collections::{BTreeMap, BTreeSet};

use super::Obstacle;
use crate::{
    id::{NodeId, ShardId},
    meta::record::{Lifecycle, Settings},
    placement::desired_voters,
};

/// What the planner knows.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The cluster's settings.
    pub settings: Settings,
    /// Every node of the registry. A voter that is not among them counts as lost.
    pub nodes: BTreeMap<NodeId, NodeState>,
    /// Every shard, the meta shard included.
    pub shards: BTreeMap<ShardId, ShardView>,
    /// How many shards may have a replica on the move at once, and how many leaderships are handed
    /// over at once to spread them. 0: nothing new is begun, but what was begun is finished, and
    /// leaderships leave draining nodes.
    pub limit: usize,
}

/// A node as the planner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeState {
    /// What it fails together with. Empty: it fails alone.
    pub zone: String,
    /// What is to become of it.
    pub lifecycle: Lifecycle,
    /// Whether it answers. Should not change for a moment's silence: learners on a node that does
    /// not answer are given up.
    pub reachable: bool,
}

/// A shard as its leader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardView {
    /// The voters; during a joint change those of the newer configuration.
    pub voters: BTreeSet<NodeId>,
    /// The learners.
    pub learners: BTreeSet<NodeId>,
    /// The voters and learners whose logs keep up with the leader's, the leader included.
    pub caught_up: BTreeSet<NodeId>,
    /// The leader, where one is known.
    pub leader: Option<NodeId>,
    /// True while a joint change was begun and not finished.
    pub joint: bool,
}

impl ShardView {
    /// True while a replica of the shard is on the move.
    pub(super) fn is_moving(&self) -> bool {
        self.joint || !self.learners.is_empty()
    }
}

impl Observed {
    /// Every shard once: the given ones first, in their order.
    pub(super) fn in_order<'a>(
        &'a self,
        first: &'a [ShardId],
    ) -> impl Iterator<Item = (ShardId, &'a ShardView)> {
        let mut seen = BTreeSet::new();
        let shards = first.iter().chain(self.shards.keys()).copied();
        shards
            .filter(move |shard| seen.insert(*shard))
            .filter_map(|shard| Some((shard, self.shards.get(&shard)?)))
    }

    /// What is to become of a node.
    pub(super) fn lifecycle(&self, node: NodeId) -> Lifecycle {
        let state = self.nodes.get(&node);
        state.map_or(Lifecycle::Lost, |state| state.lifecycle)
    }

    /// True if the node is there to do something.
    pub(super) fn answers(&self, node: NodeId) -> bool {
        let state = self.nodes.get(&node);
        state.is_some_and(|state| state.reachable && state.lifecycle != Lifecycle::Lost)
    }

    /// True if the replica counts when another is lost.
    pub(super) fn is_healthy(&self, view: &ShardView, node: NodeId) -> bool {
        self.answers(node) && view.caught_up.contains(&node)
    }

    /// True if new replicas may go to the node.
    pub(super) fn may_receive(&self, node: NodeId) -> bool {
        self.answers(node) && self.lifecycle(node) == Lifecycle::Active
    }

    /// The voters to which the leadership may go.
    pub(super) fn successors(&self, view: &ShardView) -> impl Iterator<Item = NodeId> {
        let voters = view.voters.iter().copied();
        voters.filter(|node| self.may_receive(*node) && self.is_healthy(view, *node))
    }

    /// The leader of a shard that can carry out a step.
    pub(super) fn standing(&self, shard: ShardId, view: &ShardView) -> Result<NodeId, Obstacle> {
        let voters = view.voters.len();
        let answering = view.voters.iter().filter(|node| self.answers(**node));
        let reachable = answering.count();
        if reachable < majority(voters) {
            return Err(Obstacle::NoMajority {
                shard,
                reachable,
                voters,
            });
        }
        view.leader
            .filter(|leader| self.answers(*leader))
            .ok_or(Obstacle::NoLeader { shard })
    }

    /// How many voters the shard should have.
    pub(super) fn desired_voters(&self, shard: ShardId) -> usize {
        let active = self
            .nodes
            .values()
            .filter(|node| node.lifecycle == Lifecycle::Active);
        desired_voters(&self.settings, shard, active.count())
    }
}

/// How many of so many voters decide.
pub(super) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}
