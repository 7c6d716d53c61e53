//! Where the replicas should be, given where they are.
//!
//! Invariants: what may not move now stays in the target, so that every difference from the present
//! placement is a move that may be made; and of the placements that are as even as the zones allow,
//! the target is one that few moves lead to.

use std::collections::BTreeSet;

use super::{Observed, ShardView};
use crate::{
    id::{NodeId, ShardId},
    meta::record::Lifecycle,
    placement::{
        spread::{Item, Settled, Spread},
        zones::Zones,
    },
};

/// The nodes that each shard's replicas should be on.
pub(super) fn target(observed: &Observed) -> Settled {
    let nodes = observed.nodes.iter();
    let zones = Zones::new(nodes.map(|(node, state)| (*node, state.zone.as_str())));
    let active = |node: &NodeId| observed.lifecycle(*node) == Lifecycle::Active;
    let members: BTreeSet<_> = observed.nodes.keys().copied().filter(active).collect();
    let receivers = members.iter().copied();
    let receivers = receivers
        .filter(|node| observed.may_receive(*node))
        .collect();
    let items = observed.shards.iter();
    let items = items.map(|(shard, view)| (*shard, item(observed, *shard, view)));
    Spread::new(zones, &members, &receivers, items.collect()).settled()
}

fn item(observed: &Observed, shard: ShardId, view: &ShardView) -> Item {
    let mut item = Item::new(view.voters.len());
    item.held.clone_from(&view.voters);
    if view.joint || observed.standing(shard, view).is_err() {
        item.pinned.clone_from(&item.held);
        return item;
    }
    // Replacing these makes the shard safer, whatever the state of the others.
    let away = |node: &NodeId| match observed.lifecycle(*node) {
        Lifecycle::Lost => true,
        Lifecycle::Draining => !observed.is_healthy(view, *node),
        Lifecycle::Active => false,
    };
    item.held.retain(|node| !away(node));
    let whole = item
        .held
        .iter()
        .all(|node| observed.is_healthy(view, *node));
    if whole {
        item.held
            .retain(|node| observed.lifecycle(*node) == Lifecycle::Active);
    } else {
        item.pinned.clone_from(&item.held);
    }
    if whole || item.held.len() < view.voters.len() {
        item.want = observed.desired_voters(shard);
    }
    // What was begun is finished: the learner has its place, and another voter gives one up.
    let learner = view
        .learners
        .iter()
        .find(|node| observed.may_receive(**node));
    if let Some(learner) = learner {
        item.held.insert(*learner);
        item.pinned.insert(*learner);
    }
    item
}
