//! The lock table: modes, queues, upgrades, cancelled and timed waits, repeated requests.

use lockstep_model::{Millis, Mode, request::Wait};

use super::{ONE, Scenario, TWO, locks, name, plan, release, sessions, take, take_within};
use crate::{
    bug::Bug,
    client::Step,
    scenario::Plan,
    witness::Mark::{GrantRepeated, LocalCircleBroken, RepeatedTooLate, TimedOut, Upgraded},
};

fn modes(elections: u8) -> Scenario {
    let [shared, exclusive] = [Mode::Shared, Mode::Exclusive].map(|mode| take([("a", mode)]));
    let weaker = [exclusive, Step::Downgrade(name("a")), release("a")];
    let stronger = [shared.clone(), Step::Upgrade(name("a")), release("a")];
    let give_up = |plan| Plan {
        cancels: true,
        ..plan
    };
    Scenario {
        sessions: sessions([
            give_up(plan(ONE, weaker)),
            plan(TWO, stronger),
            give_up(plan(ONE, [shared, release("a")])),
        ]),
        locks: locks([("a", ONE)]),
        elections,
        shows: [Upgraded, GrantRepeated, RepeatedTooLate].into(),
        ..Scenario::quiet(
            "modes",
            "three clients of one lock in all modes; two may give up",
        )
    }
}

/// Takes both locks within a time; and one after the other, in the other order.
fn both_and_backward() -> [Plan; 2] {
    let (a, b) = (("a", Mode::Exclusive), ("b", Mode::Exclusive));
    let both = take_within(Wait::AtMost(Millis(10)), [a, b]);
    [
        plan(ONE, [both, release("b"), release("a")]),
        plan(TWO, [take([b]), take([a]), release("a"), release("b")]),
    ]
}

fn sets(elections: u8, cancels: bool) -> Scenario {
    let [both, backward] = both_and_backward();
    let backward = Plan {
        cancels,
        ..backward
    };
    let reader = plan(ONE, [take([("a", Mode::Shared)]), release("a")]);
    Scenario {
        sessions: sessions([both, backward, reader]),
        locks: locks([("a", ONE), ("b", ONE)]),
        instants: vec![Millis(10)],
        elections,
        shows: [TimedOut, LocalCircleBroken, GrantRepeated, RepeatedTooLate].into(),
        ..Scenario::quiet(
            "sets",
            "two locks at once within a time, against another's order, beside a reader",
        )
    }
}

fn pair(elections: u8) -> Scenario {
    let [both, backward] = both_and_backward();
    let backward = Plan {
        tries: 1,
        ..backward
    };
    Scenario {
        name: "pair",
        about: "as sets, without the reader; the victim tries again",
        sessions: sessions([both, backward]),
        ..sets(elections, false)
    }
}

pub(super) fn all() -> Vec<Scenario> {
    vec![modes(2), sets(2, false), pair(2)]
}

pub(super) fn small() -> Vec<Scenario> {
    vec![modes(1), sets(0, true), pair(1)]
}

pub(super) fn planted() -> Vec<Scenario> {
    vec![
        sets(0, false).with(Bug::RepeatsAcquire),
        sets(0, false).with(Bug::ReleasesAnyToken),
        modes(0).with(Bug::UpgradesAtOnce),
    ]
}
