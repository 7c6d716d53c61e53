//! Spreads places (replicas, leaderships) evenly over nodes, changing as little as possible.
//!
//! Invariants: a pinned place is never taken away, and a place is only given to a node that may
//! receive one. When it is done, no chain of changes would make the loads more equal within the
//! limits of the zones: the sum of the squared loads is the least possible.
//!
//! It is a flow from shards through their zones to nodes. A change is a path in the graph of what
//! could still flow: a node gives a place up, the shard fills it in the same zone or in another,
//! and the node that takes it may give up a place of another shard in turn.

mod path;

use std::collections::{BTreeMap, BTreeSet};

use path::Vertex;

use super::{
    node_ring::NodeRing,
    zones::{Zone, Zones, most_per_zone},
};
use crate::id::{NodeId, ShardId};

/// What one shard has and wants.
#[derive(Clone, Debug, Default)]
pub(super) struct Item {
    /// How many nodes it should have.
    pub(super) want: usize,
    /// The nodes that it has.
    pub(super) held: BTreeSet<NodeId>,
    /// Those among them that it keeps.
    pub(super) pinned: BTreeSet<NodeId>,
    /// The nodes that it may get, where not all.
    pub(super) allowed: Option<BTreeSet<NodeId>>,
}

impl Item {
    /// A shard that has nothing yet.
    pub(super) fn new(want: usize) -> Self {
        Self {
            want,
            ..Self::default()
        }
    }

    fn may_get(&self, node: NodeId) -> bool {
        let allowed = self.allowed.as_ref();
        !self.held.contains(&node) && allowed.is_none_or(|allowed| allowed.contains(&node))
    }
}

/// Items, and what they weigh on the nodes.
pub(super) struct Spread {
    zones: Zones,
    ring: NodeRing,
    receivers: BTreeMap<Zone, Vec<NodeId>>,
    /// The shards of each node whose load counts.
    holdings: BTreeMap<NodeId, BTreeSet<ShardId>>,
    items: BTreeMap<ShardId, Item>,
    /// The most places that a zone may have in a shard, by how many the shard wants.
    most_per_zone: BTreeMap<usize, usize>,
    /// See [`Settled::order`].
    order: Vec<ShardId>,
}

/// Where everything should be.
pub(super) struct Settled {
    /// The nodes of each shard: fewer than wanted where no node was left.
    pub(super) held: BTreeMap<ShardId, BTreeSet<NodeId>>,
    /// The shards that were given places, in the order in which they are to change if not all can
    /// at once. Of a path the last change comes first: it fills the empty node and leaves a shorter
    /// path. Begun in its middle, it could be undone by the next computation, and so for ever.
    pub(super) order: Vec<ShardId>,
}

impl Spread {
    /// `members` are the nodes whose loads are to be equal; `receivers`, a part of them, may be
    /// given more. Items may hold places on other nodes of `zones` too.
    pub(super) fn new(
        zones: Zones,
        members: &BTreeSet<NodeId>,
        receivers: &BTreeSet<NodeId>,
        items: BTreeMap<ShardId, Item>,
    ) -> Self {
        let sizes = zones.group(members.iter().copied());
        let sizes = sizes.values().map(Vec::len);
        let wants: BTreeSet<usize> = items.values().map(|item| item.want).collect();
        let mut spread = Self {
            ring: NodeRing::new(members),
            receivers: zones.group(receivers.iter().copied()),
            holdings: members
                .iter()
                .map(|node| (*node, BTreeSet::new()))
                .collect(),
            most_per_zone: wants
                .into_iter()
                .map(|want| (want, most_per_zone(sizes.clone(), want)))
                .collect(),
            items: BTreeMap::new(),
            order: Vec::new(),
            zones,
        };
        for (shard, item) in items {
            for node in &item.held {
                if let Some(shards) = spread.holdings.get_mut(node) {
                    shards.insert(shard);
                }
            }
            spread.items.insert(shard, item);
        }
        spread
    }

    /// Takes away what is too much, gives what is wanted, and evens out the loads.
    pub(super) fn settled(mut self) -> Settled {
        let shards: Vec<ShardId> = self.items.keys().copied().collect();
        for shard in &shards {
            self.trim(*shard);
        }
        for shard in &shards {
            self.fill(*shard);
        }
        self.balance();
        let items = self.items.into_iter();
        Settled {
            held: items.map(|(shard, item)| (shard, item.held)).collect(),
            order: self.order,
        }
    }

    /// Takes away what a shard has too much, in one zone or altogether, from the fullest nodes.
    fn trim(&mut self, shard: ShardId) {
        while let Some(item) = self.items.get(&shard) {
            let loose = item.held.difference(&item.pinned).copied();
            let crowded = |node: &NodeId| {
                let count = self.zones.of(*node).map(|zone| self.count(item, zone));
                count > Some(self.most_per_zone(item))
            };
            let surplus = item.held.len() > item.want;
            let given_up = loose
                .filter(|node| surplus || crowded(node))
                .max_by_key(|node| {
                    let distance = self.ring.distance(shard, *node);
                    (crowded(node), self.load(*node), distance, *node)
                });
            let Some(node) = given_up else { return };
            self.take(shard, node);
        }
    }

    /// Gives a shard what it lacks: the next node on the ring whose load is under the mean, rounded
    /// down and then up; then any, if need be by moving places of other shards.
    fn fill(&mut self, shard: ShardId) {
        let total: usize = self.items.values().map(|item| item.want).sum();
        let mean = total / self.holdings.len().max(1);
        while let Some(item) = self.items.get(&shard)
            && item.held.len() < item.want
        {
            let direct = [mean, mean + 1]
                .into_iter()
                .find_map(|bound| self.next_on_ring(shard, item, bound));
            if let Some(node) = direct {
                self.give(shard, node);
            } else if let Some(path) = self.search(Vertex::Shard(shard), |_| true) {
                self.follow(&path);
            } else {
                return;
            }
        }
    }

    fn next_on_ring(&self, shard: ShardId, item: &Item, bound: usize) -> Option<NodeId> {
        let most = self.most_per_zone(item);
        self.receivers
            .iter()
            .filter(|(zone, _)| self.count(item, **zone) < most)
            .flat_map(|(_, nodes)| nodes.iter().copied())
            .filter(|node| self.load(*node) < bound && item.may_get(*node))
            .min_by_key(|node| (self.ring.distance(shard, *node), *node))
    }

    /// Moves places from fuller to emptier nodes until no path leads from one node to another that
    /// has two fewer.
    fn balance(&mut self) {
        while let Some(path) = self.improvement() {
            self.follow(&path);
        }
    }

    fn improvement(&self) -> Option<Vec<Vertex>> {
        let least = self.holdings.values().map(BTreeSet::len).min()?;
        let mut sources: Vec<_> = self
            .holdings
            .keys()
            .map(|node| (self.load(*node), *node))
            .collect();
        sources.sort_unstable_by(|a, b| b.cmp(a));
        sources
            .into_iter()
            .take_while(|(load, _)| *load >= least + 2)
            .find_map(|(load, node)| {
                self.search(Vertex::Node(node), |to| self.load(to) + 2 <= load)
            })
    }

    fn follow(&mut self, path: &[Vertex]) {
        let hops = path.iter().zip(path.iter().skip(1));
        for (from, to) in hops.rev() {
            match (*from, *to) {
                (Vertex::Node(node), Vertex::Zone(shard, _)) => self.take(shard, node),
                (Vertex::Zone(shard, _), Vertex::Node(node)) => self.give(shard, node),
                (Vertex::Zone(..), Vertex::Shard(_) | Vertex::Zone(..))
                | (Vertex::Shard(_) | Vertex::Node(_), _) => {}
            }
        }
    }

    fn give(&mut self, shard: ShardId, node: NodeId) {
        self.order.push(shard);
        if let Some(item) = self.items.get_mut(&shard) {
            item.held.insert(node);
        }
        if let Some(shards) = self.holdings.get_mut(&node) {
            shards.insert(shard);
        }
    }

    fn take(&mut self, shard: ShardId, node: NodeId) {
        if let Some(item) = self.items.get_mut(&shard) {
            item.held.remove(&node);
        }
        if let Some(shards) = self.holdings.get_mut(&node) {
            shards.remove(&shard);
        }
    }

    fn load(&self, node: NodeId) -> usize {
        self.holdings.get(&node).map_or(0, BTreeSet::len)
    }

    fn count(&self, item: &Item, zone: Zone) -> usize {
        let zones = item.held.iter().map(|node| self.zones.of(*node));
        zones.filter(|of| *of == Some(zone)).count()
    }

    fn most_per_zone(&self, item: &Item) -> usize {
        self.most_per_zone
            .get(&item.want)
            .copied()
            .unwrap_or(item.want)
    }
}
