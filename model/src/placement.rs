//! Which nodes hold which shards: the founding placement, and who should lead.
//!
//! Invariants: both are functions of their arguments alone. A placement gives each shard distinct
//! nodes, in as many zones as there are to give, and the nodes as equal numbers of replicas as that
//! leaves room for. It is computed once and stored in the meta shard; nobody recomputes it.
//!
//! Sources: Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016, for the
//! bound on each node's load; shortest augmenting paths (Edmonds and Karp, 1972) where the bound
//! and the zones together leave no free place on the ring.

mod node_ring;
pub mod planner;
mod spread;
mod zones;

use std::collections::{BTreeMap, BTreeSet};

use spread::{Item, Settled, Spread};
use zones::Zones;

use crate::{
    id::{NodeId, ShardId},
    meta::record::{MAX_VOTERS, NodeRecord, Placement, Settings},
};

/// Why the shards of a new cluster cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// Each replica of a shard needs a node of its own.
    #[error(
        "{nodes} nodes cannot hold {replication_factor} replicas of each shard: name more initial nodes, or choose a smaller replication factor"
    )]
    TooFewNodes {
        /// How many distinct nodes there are.
        nodes: usize,
        /// How many each shard needs.
        replication_factor: u32,
    },
}

/// The founding placement of shards 0..=`settings.shards`, each with its voters in ascending order.
///
/// # Errors
/// If there are fewer nodes than replicas of a shard.
pub fn place(settings: &Settings, nodes: &[NodeRecord]) -> Result<Placement, PlacementError> {
    let members: BTreeSet<NodeId> = nodes.iter().map(|node| node.node).collect();
    if members.len() < settings.replication_factor as usize {
        return Err(PlacementError::TooFewNodes {
            nodes: members.len(),
            replication_factor: settings.replication_factor,
        });
    }
    let zones = Zones::new(nodes.iter().map(|node| (node.node, node.zone.as_str())));
    let items = (0..=settings.shards).map(ShardId).map(|shard| {
        let want = desired_voters(settings, shard, members.len());
        (shard, Item::new(want))
    });
    let items = items.collect();
    let spread = Spread::new(zones, &members, &members, items);
    let shards = spread
        .settled()
        .held
        .into_iter()
        .map(|(shard, voters)| (shard, voters.into_iter().collect()))
        .collect();
    Ok(Placement {
        revision: 1,
        shards,
        learners: BTreeMap::new(),
    })
}

/// How many voters a shard should have when `nodes` can hold one: the replication factor; for the
/// meta shard the greatest odd number of nodes up to [`MAX_VOTERS`], if that is more, because every
/// shard's placement depends on it and an even number survives no more losses than the odd one below.
#[must_use]
pub fn desired_voters(settings: &Settings, shard: ShardId, nodes: usize) -> usize {
    let factor = settings.replication_factor as usize;
    if shard != ShardId::META {
        return factor;
    }
    let most = nodes.min(MAX_VOTERS as usize);
    factor.max(most.saturating_sub(usize::from(most.is_multiple_of(2))))
}

/// Which voter should lead each shard, so that every node leads as many as every other: the
/// numbers differ by no more than who votes where makes necessary.
#[must_use]
pub fn preferred_leaders(placement: &Placement) -> BTreeMap<ShardId, NodeId> {
    let voters = placement
        .shards
        .iter()
        .map(|(shard, voters)| (*shard, voters.iter().copied().collect()));
    let spread = leaders(voters.collect(), &BTreeMap::new());
    leader_of_each(spread.held).collect()
}

/// Spreads leaders over the candidates of each shard with as few changes of the `present` ones as
/// that takes. A shard without candidates gets no leader.
fn leaders(
    candidates: BTreeMap<ShardId, BTreeSet<NodeId>>,
    present: &BTreeMap<ShardId, NodeId>,
) -> Settled {
    let nodes: BTreeSet<NodeId> = candidates.values().flatten().copied().collect();
    let zones = Zones::new(nodes.iter().map(|node| (*node, "")));
    let items = candidates.into_iter().map(|(shard, allowed)| {
        let leader = present
            .get(&shard)
            .filter(|leader| allowed.contains(leader));
        let item = Item {
            want: 1,
            held: leader.into_iter().copied().collect(),
            pinned: BTreeSet::new(),
            allowed: Some(allowed),
        };
        (shard, item)
    });
    Spread::new(zones, &nodes, &nodes, items.collect()).settled()
}

fn leader_of_each(
    held: BTreeMap<ShardId, BTreeSet<NodeId>>,
) -> impl Iterator<Item = (ShardId, NodeId)> {
    let shards = held.into_iter();
    shards.filter_map(|(shard, leader)| Some((shard, leader.first().copied()?)))
}

#[cfg(test)]
mod tests;
