use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::meta::record::{Lifecycle, MAX_VOTERS, Settings};

mod scenarios;
mod world;

use world::{Fate, Random, World};

fn settings(shards: u32, replication_factor: u32) -> Settings {
    Settings {
        shards,
        replication_factor,
        ring_version: 1,
    }
}

fn difference(loads: &BTreeMap<NodeId, usize>) -> usize {
    loads.values().max().unwrap() - loads.values().min().unwrap()
}

/// Checks a plan against the very world that it was made for.
fn check_plan(world: &World, plan: &Plan) {
    let mut shards = BTreeSet::new();
    let is_moving = |shard: &world::Shard| shard.outgoing.is_some() || !shard.learners.is_empty();
    let mut moving: BTreeSet<ShardId> = world
        .shards
        .iter()
        .filter(|(_, shard)| is_moving(shard))
        .map(|(id, _)| *id)
        .collect();
    let begun = moving.len();
    for step in &plan.steps {
        let (Step::AddLearner { shard, .. }
        | Step::Promote { shard, .. }
        | Step::PromoteAndRemove { shard, .. }
        | Step::RemoveReplica { shard, .. }
        | Step::FinishJoint { shard }
        | Step::TransferLeader { shard, .. }) = *step;
        assert!(shards.insert(shard), "two steps at once: {step:?}");
        check_step(world, shard, step);
        if !matches!(step, Step::TransferLeader { .. }) {
            moving.insert(shard);
        }
    }
    assert!(
        moving.len() <= world.limit.max(begun),
        "too many at once: {plan:?}"
    );
}

fn check_step(world: &World, id: ShardId, step: &Step) {
    let shard = &world.shards[&id];
    let leader = shard.leader.expect("a leader");
    let is_ready = |node: NodeId| world.is_up(node) && !shard.behind.contains_key(&node);
    let is_target =
        |node: NodeId| is_ready(node) && world.nodes[&node].lifecycle == Lifecycle::Active;
    // How many healthy voters the shard can lose; and how many it could if all were healthy.
    let spare = |voters: &BTreeSet<NodeId>| {
        let ready = voters.iter().filter(|node| is_ready(**node)).count();
        (
            ready as i64 - (voters.len() as i64 / 2 + 1),
            (voters.len() as i64 - 1) / 2,
        )
    };
    let check_voters = |voters: &BTreeSet<NodeId>| {
        let ((before, _), (after, minority)) = (spare(&shard.voters), spare(voters));
        let gone = &shard.voters - voters;
        let lost = gone
            .iter()
            .any(|node| world.lifecycle(*node) == Lifecycle::Lost);
        assert!(
            after >= minority || after > before || (lost && after == before),
            "{step:?} endangers {shard:?}"
        );
    };
    let up = shard
        .voters
        .iter()
        .filter(|node| world.is_up(**node))
        .count();
    assert!(
        up > shard.voters.len() / 2 && world.is_up(leader),
        "{step:?} without a majority"
    );
    assert!(
        shard.outgoing.is_none() || matches!(step, Step::FinishJoint { .. }),
        "{step:?}"
    );
    let mut voters = shard.voters.clone();
    match *step {
        Step::AddLearner { node, .. } => {
            assert!(
                is_target(node) && !voters.contains(&node),
                "{step:?} {shard:?}"
            );
            assert!(
                shard.learners.is_empty(),
                "a second replica: {step:?} {shard:?}"
            );
        }
        Step::Promote { node, .. } => {
            assert!(
                is_target(node) && shard.learners.contains(&node),
                "{step:?} {shard:?}"
            );
            assert_eq!(id, ShardId::META);
            voters.insert(node);
            assert!(voters.len() <= MAX_VOTERS as usize);
            check_voters(&voters);
        }
        Step::PromoteAndRemove { add, remove, .. } => {
            assert!(
                is_target(add) && shard.learners.contains(&add),
                "{step:?} {shard:?}"
            );
            assert!(voters.remove(&remove));
            assert!(
                remove != leader || !voters.iter().any(|node| is_target(*node)),
                "{step:?}"
            );
            voters.insert(add);
            check_voters(&voters);
        }
        Step::RemoveReplica { node, .. } => {
            if !shard.learners.contains(&node) {
                assert_eq!(id, ShardId::META);
                assert!(voters.remove(&node));
                assert!(
                    node != leader || !voters.iter().any(|node| is_target(*node)),
                    "{step:?}"
                );
                assert!(voters.len() >= meta_voters(world), "{step:?}");
                check_voters(&voters);
            }
        }
        Step::FinishJoint { .. } => assert!(shard.outgoing.is_some()),
        Step::TransferLeader { to, .. } => {
            assert!(
                to != leader && is_target(to) && voters.contains(&to),
                "{step:?} {shard:?}"
            );
        }
    }
}

/// How many voters the meta shard should have.
fn meta_voters(world: &World) -> usize {
    let odd = match world.loads().len() {
        0..=2 => 1,
        3 | 4 => 3,
        _ => 5,
    };
    odd.max(world.settings.replication_factor as usize)
}

/// Checks that a settled world is as good as it can be.
fn check_settled(world: &World) {
    let active: BTreeSet<NodeId> = world.loads().into_keys().collect();
    let zone_of = |node: &NodeId| match world.nodes[node].zone.as_str() {
        "" => node.to_string(),
        zone => zone.to_owned(),
    };
    let count = |nodes: &BTreeSet<NodeId>, zone: &str| {
        nodes.iter().filter(|node| zone_of(node) == zone).count()
    };
    let zones: BTreeSet<String> = active.iter().map(zone_of).collect();
    let factor = world.settings.replication_factor as usize;
    // What one zone may hold of a shard, so that the others can hold the rest.
    let most = |want: usize| {
        let fits = |most: &usize| {
            zones
                .iter()
                .map(|zone| count(&active, zone).min(*most))
                .sum::<usize>()
                >= want
        };
        (1..=want).find(fits).unwrap()
    };
    for (id, shard) in &world.shards {
        let want = if *id == ShardId::META {
            meta_voters(world)
        } else {
            factor
        };
        assert_eq!(shard.voters.len(), want, "{id}: {shard:?}");
        assert!(shard.voters.is_subset(&active), "{id}: {shard:?}");
        assert!(
            shard
                .leader
                .is_some_and(|leader| shard.voters.contains(&leader))
        );
        for zone in &zones {
            assert!(
                count(&shard.voters, zone) <= most(want),
                "{id} in {zone}: {shard:?}"
            );
        }
        for from in &shard.voters {
            for to in active.difference(&shard.voters) {
                let fits =
                    zone_of(from) == zone_of(to) || count(&shard.voters, &zone_of(to)) < most(want);
                let loads = world.loads();
                assert!(
                    !fits || loads[from] < loads[to] + 2,
                    "{id} could go from {from} to {to}: {loads:?}"
                );
            }
        }
    }
    let sizes: BTreeSet<usize> = zones.iter().map(|zone| count(&active, zone)).collect();
    if sizes.len() == 1 {
        assert!(difference(&world.loads()) <= 1, "{:?}", world.loads());
        assert!(
            factor == 1 || difference(&world.leads()) <= 1,
            "{:?}",
            world.leads()
        );
    }
}

/// Zones for nodes: none, three, or some that are unequal.
fn zones(random: &mut Random, nodes: u64) -> (Vec<String>, u64) {
    let kinds = [0, 0, 3, 1 + random.below(5)][random.below(4) as usize];
    let zones = (0..nodes).map(|node| zone(random, kinds, node)).collect();
    (zones, kinds)
}

fn zone(random: &mut Random, kinds: u64, node: u64) -> String {
    match kinds {
        0 => String::new(),
        3 => format!("zone-{}", node % 3),
        _ => format!("zone-{}", random.below(kinds)),
    }
}

/// Something happens to a node.
fn disturb(world: &mut World, kinds: u64) {
    let factor = world.settings.replication_factor as usize;
    let serves = |node: &&world::Node| {
        node.lifecycle == Lifecycle::Active && !matches!(node.fate, Fate::Doomed(_))
    };
    let spare = world.nodes.values().filter(serves).count() > factor;
    let up: Vec<NodeId> = world
        .nodes
        .keys()
        .copied()
        .filter(|node| world.is_up(*node))
        .collect();
    let node = world.random.pick(up);
    let known = world.nodes.len() as u64;
    match (world.random.below(8), node) {
        (0 | 1, _) if known < 20 => {
            let zone = zone(&mut world.random, kinds, known);
            world.join(&zone);
        }
        (2, Some(node)) if spare => world.set_lifecycle(node, Lifecycle::Draining),
        (3, Some(node)) => world.set_lifecycle(node, Lifecycle::Active),
        (4, Some(node)) if spare && world.survives_loss_of(node) => {
            let notice = world.random.below(8);
            world.stop(node, Fate::Doomed(notice));
        }
        (5 | 6, Some(node)) => {
            let silence = world.random.below(10);
            world.stop(node, Fate::Silent(silence));
        }
        (7, _) => {
            // Whoever holds nothing any more is taken off the registry.
            let gone = world
                .nodes
                .iter()
                .filter(|(_, node)| node.lifecycle != Lifecycle::Active);
            let gone: Vec<NodeId> = gone.map(|(node, _)| *node).collect();
            for node in gone {
                let holds = |shard: &world::Shard| {
                    let outgoing = shard.outgoing.iter().flatten();
                    shard
                        .voters
                        .iter()
                        .chain(&shard.learners)
                        .chain(outgoing)
                        .any(|at| *at == node)
                };
                if !world.shards.values().any(holds) {
                    world.nodes.remove(&node);
                }
            }
        }
        _ => {}
    }
}

/// A random life of a random cluster.
fn live(seed: u64) -> usize {
    let mut random = Random(seed);
    let factor = [1, 3, 3, 3, 5][random.below(5) as usize];
    let nodes = 3_u64.max(factor) + random.below(8);
    let shards = [1, 8, 8, 16, 40][random.below(5) as usize];
    let (zones, kinds) = zones(&mut random, nodes);
    let mut world = World::new(random.next(), settings(shards, factor as u32), &zones);
    // Without failures there is no luck to end what would go round in circles.
    world.failures = random.below(40) * random.below(2);
    world.limit = 1 + random.below(5) as usize;
    for _ in 0..random.below(30) {
        disturb(&mut world, kinds);
        for _ in 0..random.below(8) {
            let plan = plan(&world.observe());
            check_plan(&world, &plan);
            world.run(&plan);
            for (id, shard) in &world.shards {
                let voters = shard.voters.len();
                assert!(
                    *id == ShardId::META || voters == factor as usize,
                    "{id}: {shard:?}"
                );
            }
        }
    }
    let rounds = world.settle(3_000, check_plan);
    let Some(rounds) = rounds else {
        let plan = plan(&world.observe());
        panic!(
            "not settled: {plan:?}\n{:?}\n{:?}",
            world.nodes, world.shards
        );
    };
    check_settled(&world);
    rounds
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 0,
        ..ProptestConfig::default()
    })]

    /// Whatever happens, the plan keeps its rules at every step, and in the end all is even, whole,
    /// and where it belongs; drained and lost nodes are empty.
    #[test]
    fn any_life_ends_settled(seed: u64) {
        live(seed);
    }
}
