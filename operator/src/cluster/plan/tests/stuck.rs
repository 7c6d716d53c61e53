//! Pods that do not start on machines that are there, and what a person changed by hand.

use super::world::{Event, Template, World};
use crate::cluster::{
    observed::PodPhase,
    plan::{Action, Refusal, Step, Waiting},
};

fn running(nodes: u32) -> World {
    let mut world = World::new(nodes);
    world.happen(Event::Ticks(10));
    assert_eq!(world.last.as_ref().unwrap().step, Step::Done);
    world
}

fn reasons(world: &mut World, ticks: u32) -> Vec<&'static str> {
    let mut taken = Vec::new();
    for _ in 0..ticks {
        world.tick();
        if let Step::Act(action) = &world.last.as_ref().unwrap().step {
            taken.push(action.reason());
        }
    }
    taken
}

/// A Secret that is missing, for one: its data is where it was, however long that takes.
#[test]
fn a_pod_that_is_being_created_is_no_lost_machine() {
    let mut world = running(3);
    world.happen(Event::NewTemplate(Template::Hangs));
    assert_eq!(reasons(&mut world, 100), ["PodRestarted"]);
    let waits = &world.last.as_ref().unwrap().step;
    assert_eq!(*waits, Step::Wait(Waiting::PodsStarting(vec![2])));
    world.happen(Event::NewTemplate(Template::Good));
    let taken = reasons(&mut world, 20);
    assert_eq!(taken, ["PodReleased", "PodRestarted", "PodRestarted"]);
    world.assert_as_wanted();
}

#[test]
fn a_first_template_that_starts_nobody_is_corrected() {
    let mut world = World::new(3);
    world.happen(Event::NewTemplate(Template::Hangs));
    assert_eq!(reasons(&mut world, 20), [] as [&str; 0]);
    world.happen(Event::NewTemplate(Template::Good));
    let mut wanted = vec!["PodReleased"; 3];
    wanted.push("ClusterPinned");
    assert_eq!(reasons(&mut world, 20), wanted);
    world.assert_as_wanted();
}

/// The machine is there, and takes nothing new: what is on it is waited for.
#[test]
fn a_drained_machine_keeps_its_volumes() {
    let mut world = running(3);
    world.happen(Event::Drain(1));
    assert_eq!(reasons(&mut world, 100), [] as [&str; 0]);
    world.happen(Event::RestoreHosts);
    assert_eq!(reasons(&mut world, 10), [] as [&str; 0]);
    world.assert_as_wanted();
}

#[test]
fn a_machine_whose_node_is_gone_is_replaced() {
    let mut world = running(3);
    world.happen(Event::LoseHost {
        host: 1,
        is_gone: true,
    });
    let wanted = ["NodeDeclaredLost", "VolumeDiscarded", "NodeRemoved"];
    assert_eq!(reasons(&mut world, 30), wanted);
    world.assert_as_wanted();
}

/// A new operator has seen nothing, and counts anew.
#[test]
fn time_away_is_this_operators_own() {
    let mut world = running(3);
    world.happen(Event::LoseHost {
        host: 1,
        is_gone: false,
    });
    for _ in 0..20 {
        assert_eq!(reasons(&mut world, 4), [] as [&str; 0]);
        world.happen(Event::RestartOperator);
    }
    assert_eq!(reasons(&mut world, 10).first(), Some(&"NodeDeclaredLost"));
}

#[test]
fn a_set_scaled_down_by_hand_has_its_pods_back() {
    for by_hand in [0, 1, 4] {
        let mut world = running(5);
        world.happen(Event::ScaleByHand(by_hand));
        assert_eq!(reasons(&mut world, 20), ["ScaleUndone"], "{by_hand}");
        world.assert_as_wanted();
    }
}

#[test]
fn pods_that_were_added_by_hand_leave_in_order() {
    let mut world = running(3);
    world.happen(Event::ScaleByHand(4));
    world.happen(Event::Ticks(1));
    let wanted = [
        "DrainStarted",
        "ScaledDown",
        "VolumeDiscarded",
        "NodeRemoved",
    ];
    assert_eq!(reasons(&mut world, 30), wanted);
    world.assert_as_wanted();
}

/// Two of three: nobody has a majority, and what would cure it must not wait for one.
#[test]
fn full_disks_are_cured_by_larger_volumes() {
    let mut world = running(3);
    world.happen(Event::FillDisk(1));
    world.happen(Event::Ticks(30));
    world.happen(Event::GrowStorage(1));
    let taken = reasons(&mut world, 20);
    assert_eq!(taken, ["VolumesGrown", "StatefulSetRecreated"]);
    world.assert_as_wanted();
}

#[test]
fn a_template_whose_sidecar_crashes_stops_at_one_pod() {
    let mut world = running(3);
    world.happen(Event::NewTemplate(Template::Sidecar));
    assert_eq!(reasons(&mut world, 30), ["PodRestarted"]);
    let step = &world.last.as_ref().unwrap().step;
    let is_refused = matches!(step, Step::Refuse(Refusal::PodStuck { ordinal: 2, .. }));
    assert!(is_refused, "{step:?}");
    world.happen(Event::RevertTemplate);
    assert_eq!(reasons(&mut world, 20), ["PodRestarted"]);
    world.assert_as_wanted();
}

/// They all serve, though none is ready: one after another, each only while the others serve.
#[test]
fn sidecars_that_crash_take_no_majority_with_them() {
    let mut world = World::new(3);
    world.happen(Event::NewTemplate(Template::Sidecar));
    world.happen(Event::Ticks(20));
    let impaired = world.observe();
    let mut pods = impaired.pods.values();
    assert!(pods.all(|pod| matches!(pod.phase, PodPhase::Impaired(_))));
    world.happen(Event::NewTemplate(Template::Good));
    world.happen(Event::Ticks(2));
    let step = &world.last.as_ref().unwrap().step;
    let Step::Act(Action::RestartPod { is_ready, .. }) = step else {
        panic!("{step:?}");
    };
    assert!(!is_ready);
    assert_eq!(reasons(&mut world, 20), ["PodRestarted"; 2]);
    world.assert_as_wanted();
}

/// The pod in a lost one's place is ready at once, and holds nothing yet.
#[test]
fn nobody_else_may_evict_until_a_replacement_has_its_replicas() {
    let mut world = running(3);
    let evictable = |world: &World| world.observe().members.unwrap().evictable();
    assert_eq!(evictable(&world), 1);
    world.happen(Event::LoseVolume(1));
    for _ in 0..50 {
        world.tick();
        let members = world.observe().members.unwrap();
        let mut shards = members.shards.iter();
        let is_whole = shards.all(|shard| members.is_whole(shard));
        assert_eq!(members.evictable() == 1, is_whole, "{members:#?}");
    }
    assert_eq!(evictable(&world), 1);
    world.assert_as_wanted();
}

/// Left out of a recovery, or restored from another cluster's snapshot: nothing is done by what it says, and
/// it is not ours to discard.
#[test]
fn a_volume_of_another_cluster_is_left_to_people() {
    for nodes in [4, 3] {
        let mut world = running(4);
        world.happen(Event::ForeignVolume(3));
        world.happen(Event::SetNodes(nodes));
        assert_eq!(reasons(&mut world, 100), [] as [&str; 0]);
        let step = &world.last.as_ref().unwrap().step;
        let Step::Refuse(Refusal::ForeignAnswer { stranger, .. }) = step else {
            panic!("{step:?}");
        };
        assert_eq!(stranger.ordinal, 3);
        // Its user deletes the claim and the pod.
        world.settle(false);
        world.assert_as_wanted();
    }
}

/// A storage class that does not expand: what else is to be done is done.
#[test]
fn growth_that_is_refused_stops_nothing_else() {
    let mut world = running(3);
    world.happen(Event::AllowGrowth(false));
    world.happen(Event::GrowStorage(1));
    world.happen(Event::LoseHost {
        host: 1,
        is_gone: true,
    });
    let wanted = [
        "VolumesGrown",
        "NodeDeclaredLost",
        "VolumeDiscarded",
        "NodeRemoved",
    ];
    assert_eq!(reasons(&mut world, 30), wanted);
    let step = &world.last.as_ref().unwrap().step;
    assert_eq!(step.reason(), "GrowthRefused");
    world.settle(false);
    world.assert_as_wanted();
}

/// A quota, pod security or a webhook: it is said, and not at once.
#[test]
fn pods_that_cannot_be_created_are_named() {
    let mut world = running(3);
    world.happen(Event::DenyPods(true));
    world.happen(Event::LoseVolume(1));
    let mut named = Vec::new();
    for _ in 0..20 {
        world.tick();
        named.push(world.last.as_ref().unwrap().step.reason());
    }
    assert_ne!(named[0], "PodNotCreated");
    assert_eq!(named[19], "PodNotCreated", "{named:?}");
    world.settle(false);
    world.assert_as_wanted();
}
