//! Single histories whose steps matter.

use std::time::Duration;

use super::world::{Event, Template, World};
use crate::cluster::{
    observed::{Lifecycle, Members, PodPhase},
    plan::{Action, Refusal, RunState, Step, Waiting, plan},
};

fn lose(host: usize) -> Event {
    Event::LoseHost {
        host,
        is_gone: false,
    }
}

fn running(nodes: u32) -> World {
    let mut world = World::new(nodes);
    world.happen(Event::Ticks(10));
    assert_eq!(world.last.as_ref().unwrap().step, Step::Done);
    world
}

/// The steps that are taken, without those that wait.
fn actions(world: &mut World, ticks: u32) -> Vec<Action> {
    let mut taken = Vec::new();
    for _ in 0..ticks {
        world.tick();
        if let Step::Act(action) = &world.last.as_ref().unwrap().step {
            taken.push(action.clone());
        }
    }
    taken
}

#[test]
fn scaling_down_drains_confirms_and_cleans_up() {
    let mut world = running(4);
    world.happen(Event::SetNodes(3));
    let taken = actions(&mut world, 20);
    let reasons: Vec<&str> = taken.iter().map(Action::reason).collect();
    assert_eq!(
        reasons,
        [
            "DrainStarted",
            "ScaledDown",
            "VolumeDiscarded",
            "NodeRemoved"
        ]
    );
    world.assert_as_wanted();
}

#[test]
fn a_scale_down_is_taken_back() {
    let mut world = running(4);
    world.happen(Event::SetNodes(3));
    world.tick();
    world.happen(Event::SetNodes(4));
    let reasons: Vec<&str> = actions(&mut world, 10).iter().map(Action::reason).collect();
    assert_eq!(reasons, ["DrainCancelled"]);
    world.assert_as_wanted();
}

#[test]
fn a_persons_drain_that_a_scale_down_met_stays_theirs() {
    let mut world = running(4);
    world.happen(Event::DrainByHand(3));
    world.happen(Event::SetNodes(3));
    let mut observed = world.observe();
    let members = observed.members.as_mut().unwrap();
    let drained = members.nodes.values_mut().next_back().unwrap();
    drained.placed = 1;
    let decided = plan(&world.desired, &observed);
    assert!(matches!(
        decided.step,
        Step::Wait(Waiting::Draining { ordinal: 3, .. })
    ));
    assert_eq!(decided.leaving, None);
}

/// The one that was being emptied is lost, and a person drains the one that takes its place.
#[test]
fn a_persons_drain_is_not_taken_for_one_of_ours() {
    let mut world = running(5);
    world.happen(Event::SetNodes(4));
    world.tick();
    world.happen(Event::LoseVolume(4));
    let reason = |taken: &[Action]| taken.first().map(Action::reason);
    while reason(&actions(&mut world, 1)) != Some("NodeDeclaredLost") {}
    world.happen(Event::DrainByHand(4));
    world.happen(Event::SetNodes(5));
    let taken = actions(&mut world, 20);
    assert_eq!(reason(&taken), Some("NodeRemoved"));
    assert_eq!(taken.len(), 1, "{taken:?}");
}

#[test]
fn a_roll_restarts_each_once_and_the_heaviest_leader_last() {
    let mut world = running(3);
    world.happen(Event::NewTemplate(Template::Good));
    let taken = actions(&mut world, 30);
    let restarted: Vec<u32> = taken
        .iter()
        .filter_map(|action| {
            let Action::RestartPod { ordinal, .. } = action else {
                return None;
            };
            Some(*ordinal)
        })
        .collect();
    // Pod 0 leads all shards of this world.
    assert_eq!(restarted, [2, 1, 0]);
    assert_eq!(taken.len(), 3);
    world.assert_as_wanted();
}

/// While the members spread leads, they may give one back to a node that has just handed its own over; and
/// a node that leads next has to reach those whose votes it needs.
#[test]
fn a_roll_waits_for_leads_that_are_spread_and_for_nodes_that_reach_each_other() {
    let world = running(3);
    let mut calm = world.observe();
    calm.set.as_mut().unwrap().revision = "another".to_owned();
    let step = |change: &dyn Fn(&mut Members)| {
        let mut observed = calm.clone();
        change(observed.members.as_mut().unwrap());
        plan(&world.desired, &observed).step
    };
    let restarts = |step: &Step| matches!(step, Step::Act(Action::RestartPod { .. }));
    assert!(restarts(&step(&|_| {})));
    let moving = step(&|members| members.is_settled = false);
    assert_eq!(moving, Step::Wait(Waiting::Balancing(Vec::new())));
    // What cannot be finished does not keep a roll from going on.
    assert!(restarts(&step(&|members| {
        members.is_settled = false;
        members.obstacles = vec!["too few nodes".to_owned()];
    })));
    let deaf = step(&|members| members.unheard = Some(("demo-0".to_owned(), "demo-1".to_owned())));
    assert!(matches!(deaf, Step::Wait(Waiting::Unheard { .. })));
}

/// Its machine goes before it has joined.
#[test]
fn a_pod_that_never_joined_gets_another_machine() {
    let mut world = running(3);
    world.happen(Event::SetNodes(4));
    world.tick();
    world.happen(lose(3));
    let reasons: Vec<&str> = actions(&mut world, 30).iter().map(Action::reason).collect();
    assert_eq!(reasons, ["VolumeDiscarded"]);
    world.assert_as_wanted();
}

#[test]
fn a_bad_template_stops_at_one_pod_and_is_taken_back() {
    let mut world = running(3);
    world.happen(Event::NewTemplate(Template::Bad));
    let taken = actions(&mut world, 20);
    assert_eq!(taken.len(), 1, "{taken:?}");
    let last = world.last.as_ref().unwrap();
    assert!(
        matches!(
            last.step,
            Step::Refuse(Refusal::PodStuck { ordinal: 2, .. })
        ),
        "{last:?}"
    );
    world.happen(Event::RevertTemplate);
    let reasons: Vec<&str> = actions(&mut world, 10).iter().map(Action::reason).collect();
    assert_eq!(reasons, ["PodReleased"]);
    world.assert_as_wanted();
}

#[test]
fn a_lost_machine_is_replaced_once() {
    let mut world = running(3);
    world.happen(lose(1));
    let reasons: Vec<&str> = actions(&mut world, 30).iter().map(Action::reason).collect();
    assert_eq!(
        reasons,
        ["NodeDeclaredLost", "VolumeDiscarded", "NodeRemoved"]
    );
    world.assert_as_wanted();
}

/// Declared lost, it comes back before its volume is discarded; then another one is lost for ever.
#[test]
fn a_lost_node_that_has_come_back_stays_if_its_vote_is_needed() {
    let mut world = running(3);
    world.happen(lose(1));
    while actions(&mut world, 1).first().map(Action::reason) != Some("NodeDeclaredLost") {}
    world.happen(Event::RestoreHosts);
    world.happen(lose(0));
    let reasons: Vec<&str> = actions(&mut world, 30).iter().map(Action::reason).collect();
    assert_eq!(
        reasons,
        [
            "NodeReinstated",
            "NodeDeclaredLost",
            "VolumeDiscarded",
            "NodeRemoved"
        ]
    );
    world.assert_as_wanted();
}

#[test]
fn a_lost_machine_is_waited_for_as_long_as_the_user_says() {
    let mut world = running(3);
    world.desired.replace_after = None;
    world.happen(lose(1));
    assert_eq!(actions(&mut world, 100), []);
    world.happen(Event::RestoreHosts);
    assert_eq!(actions(&mut world, 10), []);
    world.assert_as_wanted();
}

#[test]
fn a_shard_without_a_majority_is_left_to_people() {
    let mut observed = running(3).observe();
    let members = observed.members.as_mut().unwrap();
    for member in members.nodes.values_mut().take(2) {
        member.is_reachable = false;
    }
    for pod in observed.pods.values_mut().take(2) {
        pod.phase = PodPhase::NotReady;
        pod.away = Some(Duration::from_secs(100_000));
    }
    let decided = plan(&running(3).desired, &observed);
    let Step::Refuse(Refusal::QuorumLost {
        shards,
        nodes,
        left,
    }) = &decided.step
    else {
        panic!("{decided:?}");
    };
    assert_eq!((shards.len(), nodes.len()), (3, 2));
    assert_eq!(*left, ["demo-2"]);
    let words = decided.step_text();
    assert!(words.contains("lockstepctl recover --data-dir"), "{words}");
    assert!(words.contains("(demo-2)"), "{words}");
}

#[test]
fn nothing_happens_while_paused() {
    let mut world = running(3);
    world.desired.state = RunState::Paused;
    world.happen(Event::NewTemplate(Template::Good));
    world.happen(Event::SetNodes(5));
    let mut observed = world.observe();
    observed
        .members
        .as_mut()
        .unwrap()
        .nodes
        .values_mut()
        .next()
        .unwrap()
        .lifecycle = Lifecycle::Lost;
    let decided = plan(&world.desired, &observed);
    assert_eq!(decided.step, Step::Refuse(Refusal::Paused));
    assert_eq!(decided.replicas, 3);
}

#[test]
fn a_stopped_cluster_comes_back_whole_before_it_shrinks() {
    let mut world = running(5);
    world.happen(Event::Stop);
    world.happen(Event::Ticks(3));
    assert_eq!(
        world.last.as_ref().unwrap().step,
        Step::Wait(Waiting::Stopped)
    );
    world.happen(Event::SetNodes(3));
    world.happen(Event::Run);
    world.tick();
    assert_eq!(world.last.as_ref().unwrap().replicas, 5);
    world.settle(false);
    world.assert_as_wanted();
}
