//! The plan in a small world: whatever happens, it keeps its invariants, and comes to an end.

mod scenarios;
mod stuck;
mod world;

use proptest::{prelude::*, test_runner::Config};

use world::{Event, Template, World};

/// What users and machines do, in any order.
fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1_u32..=8).prop_map(Event::Ticks),
        2 => (3_u32..=7).prop_map(Event::SetNodes),
        3 => prop_oneof![
            Just(Template::Good),
            Just(Template::Bad),
            Just(Template::Hangs),
            Just(Template::Sidecar),
        ].prop_map(Event::NewTemplate),
        1 => Just(Event::RevertTemplate),
        2 => (0_u32..7).prop_map(Event::CrashPod),
        2 => (0_usize..8, any::<bool>()).prop_map(|(host, is_gone)| Event::LoseHost { host, is_gone }),
        1 => (0_usize..8).prop_map(Event::Drain),
        1 => (0_u32..7).prop_map(Event::FillDisk),
        1 => (0_u32..=7).prop_map(Event::ScaleByHand),
        1 => Just(Event::RestartOperator),
        2 => Just(Event::RestoreHosts),
        1 => (0_u32..7).prop_map(Event::LoseVolume),
        1 => (0_u32..7).prop_map(Event::ForeignVolume),
        1 => any::<bool>().prop_map(Event::DenyPods),
        1 => any::<bool>().prop_map(Event::AllowGrowth),
        1 => (1_u64..=4).prop_map(Event::GrowStorage),
        1 => Just(Event::Stop),
        1 => Just(Event::Run),
        1 => (0_u32..7).prop_map(Event::DrainByHand),
        1 => Just(Event::ActivateAll),
    ]
}

/// Histories that are tried, unless PROPTEST_CASES says another number.
const CASES: u32 = 3_000;

fn config() -> Config {
    let config = Config::default();
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config.cases,
        None => CASES,
    };
    Config {
        cases,
        failure_persistence: None,
        ..config
    }
}

proptest! {
    #![proptest_config(config())]

    /// Invariants are asserted by the world at every step; what is asserted here is that it ends well.
    #[test]
    fn every_history_keeps_the_invariants_and_ends_as_wanted(
        events in proptest::collection::vec(event(), 0..40),
        is_host_lost in any::<bool>(),
    ) {
        let mut world = World::new(3);
        for event in events {
            world.happen(event);
        }
        world.settle(is_host_lost);
        world.assert_as_wanted();
    }
}
