//! Single cases, each with the one thing that it shows.

use super::*;

/// A founded cluster where nothing fails, in as many zones; 0: without zones.
fn calm(nodes: u64, shards: u32, zones: u64) -> World {
    let zones: Vec<String> = (0..nodes).map(|node| nth_zone(zones, node)).collect();
    let mut world = World::new(1, settings(shards, 3), &zones);
    world.limit = 4;
    world
}

fn nth_zone(zones: u64, node: u64) -> String {
    node.checked_rem(zones)
        .map(|zone| format!("zone-{zone}"))
        .unwrap_or_default()
}

#[test]
fn a_join_moves_one_nth_of_the_replicas_and_a_leave_only_its_own() {
    println!("zones shards nodes  per node  join: moved of fair share  drain: moved of its own");
    for (zones, shards) in [(0, 8), (0, 64), (3, 64)] {
        for nodes in 3..=20 {
            let mut world = calm(nodes, shards, zones);
            let loads = world.loads();
            let replicas: usize = loads.values().sum();
            let joined = world.join(&nth_zone(zones, nodes));
            world.settle(1_000, check_plan).unwrap();
            check_settled(&world);
            let fair = replicas as f64 / (nodes + 1) as f64;
            let moved = world.copies;
            // The fifth node makes the meta shard grow by two voters, and takes one back.
            let (grown, shrunk) = if nodes == 4 { (2, 1) } else { (0, 0) };
            assert!(
                moved as f64 <= 1.3 * fair + f64::from(grown),
                "{moved} of {replicas} moved"
            );

            world.copies = 0;
            let own = world.loads()[&joined];
            world.set_lifecycle(joined, Lifecycle::Draining);
            world.settle(1_000, check_plan).unwrap();
            check_settled(&world);
            let back = world.copies;
            assert!(back <= own + shrunk, "{back} moved instead of {own}");
            let (least, most) = (loads.values().min().unwrap(), loads.values().max().unwrap());
            println!(
                "{zones:5} {shards:6} {nodes:5} {least:4}-{most:<4} {moved:7} of {fair:5.1} {back:19} of {own}"
            );
        }
    }
}

/// A world of 8 shards on 6 nodes, one of which joined last and is still empty.
fn with_newcomer() -> (World, NodeId) {
    let mut world = calm(5, 8, 0);
    let node = world.join("");
    (world, node)
}

#[test]
fn a_shard_without_a_majority_or_leader_is_left_alone_and_named() {
    let (mut world, _) = with_newcomer();
    let shard = ShardId(1);
    let voters: Vec<NodeId> = world.shards[&shard].voters.iter().copied().collect();
    world.set_lifecycle(voters[0], Lifecycle::Lost);
    world.shards.get_mut(&shard).unwrap().leader = None;
    let plan = plan(&world.observe());
    check_plan_avoids(&plan, shard);
    assert!(
        plan.obstacles.contains(&Obstacle::NoLeader { shard }),
        "{plan:?}"
    );

    world.stop(voters[1], Fate::Silent(9));
    let plan = super::plan(&world.observe());
    check_plan_avoids(&plan, shard);
    let obstacle = Obstacle::NoMajority {
        shard,
        reachable: 1,
        voters: 3,
    };
    assert!(plan.obstacles.contains(&obstacle), "{plan:?}");
}

fn check_plan_avoids(plan: &Plan, avoided: ShardId) {
    for step in &plan.steps {
        let (Step::AddLearner { shard, .. }
        | Step::Promote { shard, .. }
        | Step::PromoteAndRemove { shard, .. }
        | Step::RemoveReplica { shard, .. }
        | Step::FinishJoint { shard }
        | Step::TransferLeader { shard, .. }) = *step;
        assert_ne!(shard, avoided, "{step:?}");
    }
}

#[test]
fn leaderships_leave_a_draining_node_at_once_and_lost_replicas_go_before_drained_ones() {
    let (mut world, _) = with_newcomer();
    world.limit = 1;
    let (lost, draining) = (NodeId(1), NodeId(2));
    world.stop(lost, Fate::Doomed(0));
    world.set_lifecycle(draining, Lifecycle::Draining);
    // Both silences and elections are over.
    (0..30).for_each(|_| world.tick());
    let led = world
        .shards
        .values()
        .filter(|shard| shard.leader == Some(draining))
        .count();
    let first = plan(&world.observe());
    check_plan(&world, &first);
    let handovers = first
        .steps
        .iter()
        .take_while(|step| matches!(step, Step::TransferLeader { .. }));
    assert!(led > 0 && handovers.count() == led, "{first:?}");

    let mut began = Vec::new();
    let note = |world: &World, plan: &Plan| {
        check_plan(world, plan);
        for step in &plan.steps {
            if let Step::AddLearner { shard, .. } = step {
                began.push(world.shards[shard].voters.contains(&lost));
            }
        }
    };
    world.settle(1_000, note);
    assert!(began.contains(&true) && began.contains(&false));
    assert!(
        began.is_sorted_by(|a, b| a >= b),
        "some lost replica had to wait: {began:?}"
    );
}

#[test]
fn a_move_that_cannot_go_on_gives_way_to_the_replacement_of_a_lost_replica() {
    let (mut world, newcomer) = with_newcomer();
    world.limit = 1;
    let (shard, node) = (ShardId(1), newcomer);
    let state = world.shards.get_mut(&shard).unwrap();
    state.learners.insert(node);
    // A voter that is no leader falls silent: the learner may replace none of the others.
    let voters = state
        .voters
        .iter()
        .copied()
        .find(|voter| Some(*voter) != state.leader);
    let silent = voters.unwrap();
    world.stop(silent, Fate::Silent(99));
    (0..30).for_each(|_| world.tick());
    let waiting = plan(&world.observe());
    assert_eq!(waiting.steps, []);
    let away = Obstacle::VoterAway {
        shard,
        node: silent,
    };
    assert!(waiting.obstacles.contains(&away), "{waiting:?}");

    // A node without a replica of that shard or a silent neighbour is lost.
    let holds = |id: &NodeId| world.shards[&shard].voters.contains(id);
    let lost = world
        .nodes
        .keys()
        .copied()
        .find(|id| !holds(id) && *id != newcomer)
        .unwrap();
    world.set_lifecycle(lost, Lifecycle::Lost);
    world.nodes.get_mut(&lost).unwrap().fate = Fate::Doomed(0);
    (0..30).for_each(|_| world.tick());
    let plan = plan(&world.observe());
    assert_eq!(
        plan.steps,
        [Step::RemoveReplica { shard, node }],
        "{plan:?}"
    );
    assert!(matches!(
        plan.obstacles.last(),
        Some(Obstacle::LimitReached { .. })
    ));
}

#[test]
fn what_no_node_can_take_is_named_and_a_limit_of_zero_begins_nothing() {
    let mut world = calm(3, 8, 0);
    world.set_lifecycle(NodeId(3), Lifecycle::Draining);
    let plan = world.settle(1, |_, _| {});
    assert_eq!(plan, None);
    let plan = super::plan(&world.observe());
    assert_eq!(plan.steps, []);
    let named = (0..=8).map(|shard| Obstacle::NoNodeFree {
        shard: ShardId(shard),
        node: NodeId(3),
    });
    assert_eq!(plan.obstacles, named.collect::<Vec<_>>());

    world.join("");
    world.limit = 0;
    let plan = super::plan(&world.observe());
    assert_eq!(plan.steps, []);
    assert_eq!(plan.obstacles, [Obstacle::LimitReached { shards: 9 }]);
}

/// Plans and carries out until there are no more steps.
fn run_dry(world: &mut World) {
    for _ in 0..1_000 {
        let plan = plan(&world.observe());
        check_plan(world, &plan);
        world.run(&plan);
    }
    let plan = plan(&world.observe());
    assert_eq!(plan.steps, [], "{plan:?}");
}

#[test]
fn a_silent_node_keeps_none_but_its_own_shards_from_moving() {
    let mut world = calm(9, 32, 0);
    world.stop(NodeId(1), Fate::Silent(u64::MAX));
    let newcomer = world.join("");
    run_dry(&mut world);
    // 101 replicas on 10 nodes, of which the silent one keeps 11 or 12.
    assert!(world.loads()[&newcomer] >= 9, "{:?}", world.loads());
}

#[test]
fn a_draining_node_that_falls_silent_is_emptied_all_the_same() {
    let mut world = calm(5, 16, 0);
    world.set_lifecycle(NodeId(1), Lifecycle::Draining);
    world.stop(NodeId(1), Fate::Silent(u64::MAX));
    run_dry(&mut world);
    assert!(
        world
            .shards
            .values()
            .all(|shard| !shard.voters.contains(&NodeId(1)))
    );
}

#[test]
fn two_lost_voters_of_five_leave_a_meta_shard_of_three() {
    let mut world = calm(6, 8, 0);
    let meta: Vec<NodeId> = world.shards[&ShardId::META]
        .voters
        .iter()
        .copied()
        .collect();
    for node in &meta[..2] {
        world.stop(*node, Fate::Doomed(0));
        world.set_lifecycle(*node, Lifecycle::Lost);
    }
    run_dry(&mut world);
    let left = &world.shards[&ShardId::META].voters;
    assert_eq!(left.iter().copied().collect::<Vec<_>>(), meta[2..]);
}
