//! Paths of changes: how a place can go from one node to another, if need be over others.
//!
//! Invariant: a path passes each node, and each zone of a shard, at most once, so all its changes
//! can be made together.

use std::collections::BTreeMap;

use super::Spread;
use crate::{
    id::{NodeId, ShardId},
    placement::zones::Zone,
};

/// A place where a path of changes passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Vertex {
    Node(NodeId),
    Zone(ShardId, Zone),
    Shard(ShardId),
}

impl Spread {
    /// A shortest path to a node that is accepted: among several the emptiest, and to it over the
    /// shard that meets it soonest on the ring.
    pub(super) fn search(
        &self,
        from: Vertex,
        accept: impl Fn(NodeId) -> bool,
    ) -> Option<Vec<Vertex>> {
        let mut parents = BTreeMap::from([(from, from)]);
        let mut frontier = vec![from];
        while !frontier.is_empty() {
            let mut found: BTreeMap<Vertex, (u64, Vertex)> = BTreeMap::new();
            for vertex in frontier {
                for (next, distance) in self.neighbours(vertex) {
                    if !parents.contains_key(&next) {
                        let best = found.entry(next).or_insert((distance, vertex));
                        *best = (*best).min((distance, vertex));
                    }
                }
            }
            frontier = found.keys().copied().collect();
            parents.extend(found.into_iter().map(|(next, (_, parent))| (next, parent)));
            let nodes = frontier.iter().filter_map(|vertex| match vertex {
                Vertex::Node(node) => Some(*node),
                Vertex::Zone(..) | Vertex::Shard(_) => None,
            });
            let best = nodes
                .filter(|node| accept(*node))
                .min_by_key(|node| (self.load(*node), *node));
            if let Some(node) = best {
                return Some(path_to(Vertex::Node(node), &parents));
            }
        }
        None
    }

    /// Where a path may go next, and how far that is on the ring.
    fn neighbours(&self, vertex: Vertex) -> Vec<(Vertex, u64)> {
        match vertex {
            Vertex::Node(node) => {
                let shards = self.holdings.get(&node).into_iter().flatten();
                let loose = shards.filter(|shard| {
                    let item = self.items.get(shard);
                    item.is_some_and(|item| !item.pinned.contains(&node))
                });
                let zone = self.zones.of(node);
                loose
                    .filter_map(|shard| Some((Vertex::Zone(*shard, zone?), 0)))
                    .collect()
            }
            Vertex::Zone(shard, zone) => {
                let Some(item) = self.items.get(&shard) else {
                    return Vec::new();
                };
                let nodes = self.receivers.get(&zone).into_iter().flatten();
                nodes
                    .filter(|node| item.may_get(**node))
                    .map(|node| (Vertex::Node(*node), self.ring.distance(shard, *node)))
                    .chain([(Vertex::Shard(shard), 0)])
                    .collect()
            }
            Vertex::Shard(shard) => {
                let Some(item) = self.items.get(&shard) else {
                    return Vec::new();
                };
                let most = self.most_per_zone(item);
                let zones = self.receivers.keys();
                zones
                    .filter(|zone| self.count(item, **zone) < most)
                    .map(|zone| (Vertex::Zone(shard, *zone), 0))
                    .collect()
            }
        }
    }
}

fn path_to(end: Vertex, parents: &BTreeMap<Vertex, Vertex>) -> Vec<Vertex> {
    let mut path = vec![end];
    let mut at = end;
    while let Some(parent) = parents.get(&at)
        && *parent != at
    {
        path.push(*parent);
        at = *parent;
    }
    path.reverse();
    path
}
