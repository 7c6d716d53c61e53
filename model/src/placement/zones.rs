//! What fails together.
//!
//! Invariant: every node is in exactly one zone; one that names none is in a zone of its own.

use std::collections::BTreeMap;

use crate::id::NodeId;

/// A zone's number, in no meaningful order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Zone(usize);

/// Which node is in which zone.
pub(super) struct Zones {
    of: BTreeMap<NodeId, Zone>,
}

impl Zones {
    /// The zones of nodes by their zones' names.
    pub(super) fn new<'a>(nodes: impl Iterator<Item = (NodeId, &'a str)>) -> Self {
        // By id, so that the numbers do not depend on the order in which nodes are named.
        let nodes: BTreeMap<_, _> = nodes.collect();
        let mut named = BTreeMap::new();
        let of = nodes.into_iter().enumerate().map(|(number, (node, name))| {
            let fresh = Zone(number);
            let zone = if name.is_empty() {
                fresh
            } else {
                *named.entry(name).or_insert(fresh)
            };
            (node, zone)
        });
        Self { of: of.collect() }
    }

    /// The zone of a node; none for an unknown one.
    pub(super) fn of(&self, node: NodeId) -> Option<Zone> {
        self.of.get(&node).copied()
    }

    /// These nodes by zone.
    pub(super) fn group(&self, nodes: impl Iterator<Item = NodeId>) -> BTreeMap<Zone, Vec<NodeId>> {
        let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for node in nodes {
            if let Some(zone) = self.of(node) {
                groups.entry(zone).or_default().push(node);
            }
        }
        groups
    }
}

/// The least number of replicas that one zone must be allowed to hold, so that `want` replicas fit
/// into zones of these `sizes`. If they do not fit at all, no zone is limited.
pub(super) fn most_per_zone(sizes: impl Iterator<Item = usize> + Clone, want: usize) -> usize {
    (1..want)
        .find(|most| sizes.clone().map(|size| size.min(*most)).sum::<usize>() >= want)
        .unwrap_or(want)
}
