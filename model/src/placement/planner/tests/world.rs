//! A cluster in miniature: nodes that come, go, fall silent and are lost, and shards that carry
//! out the planner's steps late, or half, or not at all.
//!
//! Invariant: like Raft, a shard changes its members only under a leader, with a majority of every
//! configuration concerned up, and refuses what does not fit its present state.

use std::collections::{BTreeMap, BTreeSet};

use super::super::*;
use crate::{
    meta::record::{Lifecycle, NodeRecord, Settings},
    placement::place,
};

/// SplitMix64 (Steele, Lea, Flood, 2014): enough for tests, and a seed is one number.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub(super) fn pick<T: Copy>(&mut self, from: impl IntoIterator<Item = T>) -> Option<T> {
        let from: Vec<T> = from.into_iter().collect();
        let count = from.len() as u64;
        (count > 0).then(|| from[self.below(count) as usize])
    }
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) zone: String,
    pub(super) lifecycle: Lifecycle,
    pub(super) fate: Fate,
}

/// Whether a node runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Up,
    /// It comes back after so many ticks.
    Silent(u64),
    /// It never comes back, and is declared lost after so many ticks.
    Doomed(u64),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Shard {
    pub(super) voters: BTreeSet<NodeId>,
    pub(super) learners: BTreeSet<NodeId>,
    /// The voters before a joint change that is half done.
    pub(super) outgoing: Option<BTreeSet<NodeId>>,
    pub(super) leader: Option<NodeId>,
    /// Replicas that lag behind, and for how many ticks at least.
    pub(super) behind: BTreeMap<NodeId, u64>,
}

pub(super) struct World {
    pub(super) random: Random,
    pub(super) settings: Settings,
    pub(super) limit: usize,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) shards: BTreeMap<ShardId, Shard>,
    /// How often a step fails, of 100.
    pub(super) failures: u64,
    /// How many replicas were sent to a node.
    pub(super) copies: usize,
    /// How many leaderships were handed over.
    pub(super) handovers: usize,
    last_node: u64,
}

impl World {
    /// A cluster that was just founded on nodes of these zones.
    pub(super) fn new(seed: u64, settings: Settings, zones: &[String]) -> Self {
        let records: Vec<NodeRecord> = zones
            .iter()
            .zip(1..)
            .map(|(zone, id)| NodeRecord {
                node: NodeId(id),
                name: format!("node-{id}"),
                client_address: "a:1".to_owned(),
                peer_address: "a:2".to_owned(),
                zone: zone.clone(),
                version: String::new(),
            })
            .collect();
        let placement = place(&settings, &records).unwrap();
        let mut world = Self {
            random: Random(seed),
            settings,
            limit: 2,
            nodes: BTreeMap::new(),
            shards: BTreeMap::new(),
            failures: 0,
            copies: 0,
            handovers: 0,
            last_node: 0,
        };
        for zone in zones {
            world.join(zone);
        }
        let leaders = crate::placement::preferred_leaders(&placement);
        for (shard, voters) in placement.shards {
            let state = Shard {
                voters: voters.into_iter().collect(),
                leader: leaders.get(&shard).copied(),
                ..Shard::default()
            };
            world.shards.insert(shard, state);
        }
        world
    }

    pub(super) fn join(&mut self, zone: &str) -> NodeId {
        self.last_node += 1;
        let node = Node {
            zone: zone.to_owned(),
            lifecycle: Lifecycle::Active,
            fate: Fate::Up,
        };
        self.nodes.insert(NodeId(self.last_node), node);
        NodeId(self.last_node)
    }

    pub(super) fn set_lifecycle(&mut self, node: NodeId, lifecycle: Lifecycle) {
        self.nodes.get_mut(&node).unwrap().lifecycle = lifecycle;
    }

    /// The node stops; its replicas miss what is written meanwhile.
    pub(super) fn stop(&mut self, node: NodeId, fate: Fate) {
        self.nodes.get_mut(&node).unwrap().fate = fate;
        for shard in self.shards.values_mut() {
            if shard.voters.contains(&node) || shard.learners.contains(&node) {
                shard.behind.insert(node, 1 + self.random.below(5));
            }
            if shard.leader == Some(node) {
                shard.leader = None;
            }
        }
    }

    pub(super) fn lifecycle(&self, node: NodeId) -> Lifecycle {
        let node = self.nodes.get(&node);
        node.map_or(Lifecycle::Lost, |node| node.lifecycle)
    }

    pub(super) fn is_up(&self, node: NodeId) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|node| node.fate == Fate::Up)
    }

    /// True if every shard keeps a majority for ever when this node is lost too.
    pub(super) fn survives_loss_of(&self, lost: NodeId) -> bool {
        let stays = |node: &&NodeId| {
            let known = self.nodes.get(*node);
            **node != lost && known.is_some_and(|node| !matches!(node.fate, Fate::Doomed(_)))
        };
        self.shards.values().all(|shard| {
            let configurations = [Some(&shard.voters), shard.outgoing.as_ref()];
            let mut configurations = configurations.into_iter().flatten();
            configurations.all(|voters| voters.iter().filter(stays).count() > voters.len() / 2)
        })
    }

    fn has_quorum(&self, voters: &BTreeSet<NodeId>) -> bool {
        voters.iter().filter(|node| self.is_up(**node)).count() > voters.len() / 2
    }

    /// Time passes: silences end, losses are noticed, leaders are elected, learners catch up.
    pub(super) fn tick(&mut self) {
        for node in self.nodes.values_mut() {
            node.fate = match node.fate {
                Fate::Up | Fate::Silent(0) => Fate::Up,
                Fate::Silent(ticks) => Fate::Silent(ticks - 1),
                Fate::Doomed(0) => {
                    node.lifecycle = Lifecycle::Lost;
                    Fate::Doomed(0)
                }
                Fate::Doomed(ticks) => Fate::Doomed(ticks - 1),
            };
        }
        let up: BTreeSet<_> = self
            .nodes
            .keys()
            .copied()
            .filter(|node| self.is_up(*node))
            .collect();
        let ids: Vec<ShardId> = self.shards.keys().copied().collect();
        for id in ids {
            let shard = &self.shards[&id];
            let quorum = self.has_quorum(&shard.voters)
                && shard
                    .outgoing
                    .as_ref()
                    .is_none_or(|voters| self.has_quorum(voters));
            let shard = self.shards.get_mut(&id).unwrap();
            // A leader that was removed steps down; one without a majority is none.
            if !quorum
                || shard
                    .leader
                    .is_some_and(|leader| !shard.voters.contains(&leader))
            {
                shard.leader = None;
            }
            if shard.leader.is_none() && quorum && self.random.chance(60) {
                let voters = shard.voters.intersection(&up).copied();
                let able = voters.filter(|node| !shard.behind.contains_key(node));
                shard.leader = self.random.pick(able).or(shard.leader);
                if shard.leader.is_none() {
                    // All who are up missed something, but none more than the others.
                    shard.leader = self.random.pick(shard.voters.intersection(&up).copied());
                    shard.leader.map(|leader| shard.behind.remove(&leader));
                }
            }
            if shard.leader.is_some() {
                for (node, ticks) in &mut shard.behind {
                    *ticks = ticks.saturating_sub(u64::from(up.contains(node)));
                }
                shard.behind.retain(|_, ticks| *ticks > 0);
            }
        }
    }

    pub(super) fn observe(&self) -> Observed {
        let nodes = self.nodes.iter().map(|(id, node)| {
            let state = NodeState {
                zone: node.zone.clone(),
                lifecycle: node.lifecycle,
                reachable: node.fate == Fate::Up,
            };
            (*id, state)
        });
        let shards = self.shards.iter().map(|(id, shard)| {
            let replicas = shard.voters.union(&shard.learners).copied();
            let view = ShardView {
                voters: shard.voters.clone(),
                learners: shard.learners.clone(),
                caught_up: replicas
                    .filter(|node| !shard.behind.contains_key(node))
                    .collect(),
                leader: shard.leader,
                joint: shard.outgoing.is_some(),
            };
            (*id, view)
        });
        Observed {
            settings: self.settings,
            nodes: nodes.collect(),
            shards: shards.collect(),
            limit: self.limit,
        }
    }

    /// Carries a step out, if it fits and luck allows.
    pub(super) fn carry_out(&mut self, step: Step) {
        let (Step::AddLearner { shard, .. }
        | Step::Promote { shard, .. }
        | Step::PromoteAndRemove { shard, .. }
        | Step::RemoveReplica { shard, .. }
        | Step::FinishJoint { shard }
        | Step::TransferLeader { shard, .. }) = step;
        if self.random.chance(self.failures) {
            return;
        }
        let breaks_off = self.random.chance(self.failures);
        let ticks = self.random.below(6);
        let mut state = self.shards[&shard].clone();
        let quorum = self.has_quorum(&state.voters)
            && state
                .outgoing
                .as_ref()
                .is_none_or(|voters| self.has_quorum(voters));
        if !quorum || state.leader.is_none() {
            return;
        }
        let is_ready = |node: &NodeId| self.is_up(*node) && !state.behind.contains_key(node);
        match step {
            Step::AddLearner { node, .. } => {
                if state.outgoing.is_some() || state.voters.contains(&node) || !self.is_up(node) {
                    return;
                }
                if state.learners.insert(node) {
                    state.behind.insert(node, ticks + 1);
                    self.copies += 1;
                }
            }
            Step::Promote { node, .. } => {
                let fits = state.outgoing.is_none() && state.learners.contains(&node);
                if !fits || !is_ready(&node) {
                    return;
                }
                state.learners.remove(&node);
                state.voters.insert(node);
            }
            Step::PromoteAndRemove { add, remove, .. } => {
                let fits = state.outgoing.is_none() && state.learners.contains(&add);
                if !fits || !state.voters.contains(&remove) || !is_ready(&add) {
                    return;
                }
                let outgoing = state.voters.clone();
                state.learners.remove(&add);
                state.voters.insert(add);
                state.voters.remove(&remove);
                state.behind.remove(&remove);
                if !self.has_quorum(&state.voters) {
                    return;
                }
                state.outgoing = breaks_off.then_some(outgoing);
            }
            Step::RemoveReplica { node, .. } => {
                if state.outgoing.is_some() {
                    return;
                }
                state.learners.remove(&node);
                state.voters.remove(&node);
                state.behind.remove(&node);
            }
            Step::FinishJoint { .. } => state.outgoing = None,
            Step::TransferLeader { to, .. } => {
                if !state.voters.contains(&to) || !is_ready(&to) {
                    return;
                }
                state.leader = Some(to);
                self.handovers += 1;
            }
        }
        self.shards.insert(shard, state);
    }

    /// Plans and carries out, while time passes, until nothing is left to do or to come.
    ///
    /// Gives the number of plans, or none if it takes more than `most`.
    pub(super) fn settle(
        &mut self,
        most: usize,
        mut check: impl FnMut(&Self, &Plan),
    ) -> Option<usize> {
        for round in 0..most {
            let plan = plan(&self.observe());
            check(self, &plan);
            let is_certain =
                |node: &Node| node.fate == Fate::Up || node.lifecycle == Lifecycle::Lost;
            if plan == Plan::default() && self.nodes.values().all(is_certain) {
                return Some(round);
            }
            self.run(&plan);
        }
        None
    }

    /// Carries out a plan, step by step, while time passes.
    pub(super) fn run(&mut self, plan: &Plan) {
        let mut steps = plan.steps.clone();
        while !steps.is_empty() {
            let next = self.random.below(steps.len() as u64);
            self.carry_out(steps.remove(next as usize));
            if self.random.chance(self.failures) {
                self.tick();
            }
        }
        self.tick();
    }

    /// How many replicas each node holds that is active.
    pub(super) fn loads(&self) -> BTreeMap<NodeId, usize> {
        let active = self
            .nodes
            .iter()
            .filter(|(_, node)| node.lifecycle == Lifecycle::Active);
        let count = |node| {
            self.shards
                .values()
                .filter(|shard| shard.voters.contains(node))
                .count()
        };
        active.map(|(node, _)| (*node, count(node))).collect()
    }

    /// How many shards each node leads that is active.
    pub(super) fn leads(&self) -> BTreeMap<NodeId, usize> {
        let active = self
            .nodes
            .iter()
            .filter(|(_, node)| node.lifecycle == Lifecycle::Active);
        let count = |node| {
            self.shards
                .values()
                .filter(|shard| shard.leader == Some(node))
                .count()
        };
        active.map(|(node, _)| (*node, count(*node))).collect()
    }
}
