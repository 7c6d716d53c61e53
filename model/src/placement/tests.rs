use proptest::{collection::vec, prelude::*};

use super::*;

fn node(id: u64, zone: &str) -> NodeRecord {
    NodeRecord {
        node: NodeId(id),
        name: format!("node-{id}"),
        client_address: "a:1".to_owned(),
        peer_address: "a:2".to_owned(),
        zone: zone.to_owned(),
        version: String::new(),
    }
}

fn settings(shards: u32, replication_factor: u32) -> Settings {
    Settings {
        shards,
        replication_factor,
        ring_version: 1,
    }
}

/// How often each node occurs, nodes that never do included.
fn loads(nodes: &[NodeRecord], held: impl Iterator<Item = NodeId>) -> BTreeMap<NodeId, usize> {
    let mut loads: BTreeMap<_, _> = nodes.iter().map(|node| (node.node, 0)).collect();
    held.for_each(|node| *loads.entry(node).or_default() += 1);
    loads
}

fn difference(loads: &BTreeMap<NodeId, usize>) -> usize {
    loads.values().max().unwrap() - loads.values().min().unwrap()
}

#[test]
fn fewer_nodes_than_replicas_is_an_error_that_names_both() {
    let nodes = [node(1, ""), node(2, ""), node(2, "")];
    let error = place(&settings(8, 3), &nodes).unwrap_err();
    let expected = PlacementError::TooFewNodes {
        nodes: 2,
        replication_factor: 3,
    };
    assert_eq!(error, expected);
    assert!(
        error
            .to_string()
            .starts_with("2 nodes cannot hold 3 replicas")
    );
}

#[test]
fn replicas_and_leaders_are_spread_evenly_whatever_the_sizes() {
    for factor in [1, 3, 5] {
        for shards in [1, 8, 13, 64] {
            for count in u64::from(factor)..=20 {
                let nodes: Vec<_> = (1..=count).map(|id| node(id, "")).collect();
                let placement = place(&settings(shards, factor), &nodes).unwrap();
                assert_eq!(placement.check(), Ok(()));
                assert!(
                    placement
                        .shards
                        .keys()
                        .copied()
                        .eq((0..=shards).map(ShardId))
                );
                for (shard, voters) in &placement.shards {
                    let most = count.min(5) as usize;
                    let want = match shard.0 {
                        0 => (factor as usize).max(most - (most + 1) % 2),
                        _ => factor as usize,
                    };
                    assert_eq!(voters.len(), want, "shard {shard} of {count} nodes");
                }
                let replicas = loads(&nodes, placement.shards.values().flatten().copied());
                assert!(
                    difference(&replicas) <= 1,
                    "{count} nodes, {shards} shards: {replicas:?}"
                );

                let leaders = preferred_leaders(&placement);
                assert_eq!(leaders.len(), placement.shards.len());
                for (shard, leader) in &leaders {
                    assert!(placement.shards[shard].contains(leader));
                }
                // A lone replica must lead, wherever the meta shard's voters are.
                let led = loads(&nodes, leaders.values().copied());
                let unequal = difference(&led);
                assert!(
                    unequal <= 1 || factor == 1,
                    "{count} nodes, {shards} shards: {led:?}"
                );
            }
        }
    }
}

#[test]
fn no_zone_holds_two_replicas_while_there_are_zones_enough() {
    // Zones of equal sizes, of unequal sizes, and too few; and what one shard may have in each.
    let cases: [(&[usize], u32, usize); 7] = [
        (&[2, 2, 2], 3, 1),
        (&[1, 1, 4], 3, 1),
        (&[3, 5, 2, 7], 3, 1),
        (&[3, 3], 3, 2),
        (&[1, 4], 5, 4),
        (&[2, 2, 2], 5, 2),
        (&[6], 3, 3),
    ];
    for (sizes, factor, most) in cases {
        let mut nodes = Vec::new();
        for (zone, size) in sizes.iter().enumerate() {
            for _ in 0..*size {
                let id = nodes.len() as u64 + 1;
                nodes.push(node(id, &format!("zone-{zone}")));
            }
        }
        let placement = place(&settings(64, factor), &nodes).unwrap();
        let zone_of = |id: &NodeId| {
            nodes
                .iter()
                .find(|node| node.node == *id)
                .unwrap()
                .zone
                .clone()
        };
        for (shard, voters) in placement.shards.iter().skip(1) {
            let mut counts: BTreeMap<String, usize> = BTreeMap::new();
            voters
                .iter()
                .for_each(|id| *counts.entry(zone_of(id)).or_default() += 1);
            assert!(
                counts.values().all(|count| *count <= most),
                "{sizes:?} {shard}: {counts:?}"
            );
        }
        // Within a zone nothing stands in the way of equal loads.
        for zone in 0..sizes.len() {
            let zone = format!("zone-{zone}");
            let of_zone: Vec<_> = nodes
                .iter()
                .filter(|node| node.zone == zone)
                .cloned()
                .collect();
            let held = placement.shards.values().flatten().copied();
            let replicas = loads(&of_zone, held.filter(|id| zone_of(id) == zone));
            assert!(difference(&replicas) <= 1, "{sizes:?}: {replicas:?}");
        }
    }
}

#[test]
fn the_order_in_which_nodes_are_named_does_not_matter() {
    let mut nodes: Vec<_> = (1..=7)
        .map(|id| node(id, ["a", "b", "c"][id as usize % 3]))
        .collect();
    let placement = place(&settings(8, 3), &nodes);
    nodes.reverse();
    assert_eq!(place(&settings(8, 3), &nodes), placement);
}

#[test]
fn a_node_that_names_no_zone_is_a_zone_of_its_own() {
    let nodes = [node(1, "a"), node(2, "a"), node(3, ""), node(4, "")];
    let placement = place(&settings(8, 3), &nodes).unwrap();
    for (shard, voters) in placement.shards {
        assert_eq!(voters[1..], [NodeId(3), NodeId(4)], "{shard}");
    }
}

/// Makes one change after another, each the first that a new computation names, until none is left.
fn change_one_by_one(
    mut present: BTreeMap<ShardId, BTreeSet<NodeId>>,
    settled: impl Fn(&BTreeMap<ShardId, BTreeSet<NodeId>>) -> Settled,
) {
    for _ in 0..300 {
        let target = settled(&present);
        let mut changed = target
            .order
            .iter()
            .filter(|shard| present[shard] != target.held[shard]);
        let Some(shard) = changed.next() else {
            assert_eq!(target.held, present);
            return;
        };
        present.insert(*shard, target.held[shard].clone());
    }
    panic!("it goes round in circles: {present:?}");
}

/// Spreads leaders over three voters of each shard, and replicas over all nodes. The zones are
/// numbers of names; the picks choose voters from the nodes that are left.
fn spread_one_by_one(zones: &[usize], picks: &[[usize; 3]]) {
    let nodes: BTreeSet<NodeId> = (1..).map(NodeId).take(zones.len()).collect();
    let names = zones.iter().map(|zone| ["", "a", "b", "c"][*zone]);
    let voters = picks.iter().map(|picks| {
        let mut left: Vec<NodeId> = nodes.iter().copied().collect();
        BTreeSet::from(picks.map(|pick| left.remove(pick % left.len())))
    });
    let voters: BTreeMap<_, BTreeSet<_>> = (0..).map(ShardId).zip(voters).collect();
    let first = |voters: &BTreeSet<NodeId>| voters.iter().copied().take(1).collect();
    let present = voters.iter().map(|(shard, voters)| (*shard, first(voters)));
    change_one_by_one(present.collect(), |present| {
        leaders(voters.clone(), &leader_of_each(present.clone()).collect())
    });
    change_one_by_one(voters, |present| {
        let items = present.iter().map(|(shard, held)| {
            let held = held.clone();
            (
                *shard,
                Item {
                    held,
                    ..Item::new(3)
                },
            )
        });
        let zones = Zones::new(nodes.iter().copied().zip(names.clone()));
        Spread::new(zones, &nodes, &nodes, items.collect()).settled()
    });
}

#[test]
fn a_chain_of_handovers_is_not_begun_in_its_middle() {
    // Shard by shard these went round in circles.
    let picks = [
        [3, 0, 0],
        [8, 0, 5],
        [3, 3, 3],
        [0, 0, 6],
        [0, 0, 0],
        [3, 0, 0],
        [6, 1, 1],
        [0, 0, 0],
        [11, 5, 1],
        [6, 7, 8],
        [7, 0, 0],
        [1, 0, 2],
        [11, 1, 5],
        [1, 1, 0],
        [3, 1, 11],
        [0, 0, 5],
        [0, 0, 2],
        [6, 8, 8],
        [4, 2, 2],
        [9, 3, 3],
        [6, 10, 6],
        [0, 0, 0],
    ];
    spread_one_by_one(&[0; 10], &picks);
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Only a part of the changes can be made at once, and what is left is computed anew.
    #[test]
    fn changing_one_shard_at_a_time_comes_to_an_end(
        zones in vec(0..4_usize, 3..12),
        picks in vec([0..12_usize, 0..12, 0..12], 1..40),
    ) {
        spread_one_by_one(&zones, &picks);
    }
}
