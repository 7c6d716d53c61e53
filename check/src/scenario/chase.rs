//! Circles of waits over both shards, and the walks that look for them.

use lockstep_model::{Mode, Priority};

use super::{ONE, Opening, Scenario, TWO, locks, name, plan, release, sessions, take};
use crate::{
    bug::Bug,
    client::Step,
    scenario::Plan,
    witness::Mark::{AbortTooLate, CircleBroken, EndedWaiting, SuspicionDispelled},
};

const A: (&str, Mode) = ("a", Mode::Exclusive);
const B: (&str, Mode) = ("b", Mode::Exclusive);
const C: (&str, Mode) = ("c", Mode::Exclusive);

/// One expires while a third inherits its lock before the other: an edge is gone whose wait stands.
fn inherited(elections: u8, chasers: u64) -> Scenario {
    let [one, other] = forth_and_back();
    let one = Plan {
        expires: true,
        ..one
    };
    let heir = plan(ONE, [take([A]), release("a")]);
    Scenario {
        sessions: sessions([one, other, heir]),
        locks: locks([("a", ONE), ("b", TWO)]),
        elections,
        chasers,
        shows: [CircleBroken, SuspicionDispelled, EndedWaiting].into(),
        ..Scenario::quiet(
            "inherited",
            "one of a circle expires, and a third client gets its lock before the other",
        )
    }
}

/// Takes a, then b; the other one takes b, then a.
fn forth_and_back() -> [Plan; 2] {
    [
        plan(ONE, [take([A]), take([B]), release("b"), release("a")]),
        plan(TWO, [take([B]), take([A]), release("a"), release("b")]),
    ]
}

fn crossing() -> Scenario {
    let [_, other] = forth_and_back();
    // It keeps the first lock: what comes after a circle is explored elsewhere.
    let one = Plan {
        cancels: true,
        ..plan(ONE, [take([A]), take([B]), release("b")])
    };
    let other = Plan { tries: 1, ..other };
    Scenario {
        sessions: sessions([one, other]),
        locks: locks([("a", ONE), ("b", TWO)]),
        chasers: 2,
        shows: [CircleBroken, SuspicionDispelled, AbortTooLate].into(),
        ..Scenario::quiet(
            "crossing",
            "two clients in opposite order, one may give up, the victim tries again; two walks",
        )
    }
}

fn deposed(elections: u8) -> Scenario {
    let [one, other] = forth_and_back();
    let one = Plan {
        cancels: true,
        ..one
    };
    Scenario {
        sessions: sessions([one, other]),
        locks: locks([("a", ONE), ("b", TWO)]),
        chasers: 1,
        elections,
        silence: true,
        shows: [CircleBroken, SuspicionDispelled, AbortTooLate].into(),
        ..Scenario::quiet(
            "deposed",
            "leaders change under a walk, old ones answer, and answers stay out",
        )
    }
}

fn dying() -> Scenario {
    let [one, other] = forth_and_back();
    let one = Plan {
        expires: true,
        ..one
    };
    Scenario {
        sessions: sessions([one, other]),
        locks: locks([("a", ONE), ("b", TWO)]),
        opening: Opening::Home,
        elections: 1,
        chasers: 2,
        shows: [CircleBroken, SuspicionDispelled, EndedWaiting].into(),
        ..Scenario::quiet(
            "dying",
            "sessions come to their second shard and walk into a circle; one expires; two walks",
        )
    }
}

fn all_dying(elections: u8) -> Scenario {
    let plans = forth_and_back().map(|plan| Plan {
        expires: true,
        ..plan
    });
    Scenario {
        name: "all_dying",
        about: "as dying; both expire; one walks",
        sessions: sessions(plans),
        elections,
        chasers: 1,
        ..dying()
    }
}

fn ring(elections: u8) -> Scenario {
    let shared = |text| (text, Mode::Shared);
    let first = Plan {
        cancels: true,
        ..plan(
            ONE,
            [take([shared("a")]), take([B]), release("b"), release("a")],
        )
    };
    let second = [take([shared("b")]), take([shared("c")]), release("b")];
    // It is the one to give way, and gives back then; if it need not, it keeps what it has.
    let third = [take([C]), take([shared("a")]), Step::Upgrade(name("a"))];
    Scenario {
        sessions: sessions([first, plan(TWO, second), plan(ONE, third)]),
        locks: locks([("a", ONE), ("b", TWO), ("c", ONE)]),
        elections,
        chasers: 1,
        shows: [CircleBroken, SuspicionDispelled].into(),
        ..Scenario::quiet(
            "ring",
            "a circle of three: a reader, a writer and an upgrade; one may give up",
        )
    }
}

fn queue(elections: u8, chasers: u64) -> Scenario {
    let shared = ("a", Mode::Shared);
    let writer = Plan {
        cancels: true,
        ..plan(TWO, [take([A]), release("a")])
    };
    Scenario {
        sessions: sessions([
            plan(ONE, [take([shared]), take([B]), release("b"), release("a")]),
            writer,
            plan(ONE, [take([B]), take([shared]), release("a"), release("b")]),
        ]),
        locks: locks([("a", ONE), ("b", TWO)]),
        elections,
        chasers,
        shows: [CircleBroken, SuspicionDispelled].into(),
        ..Scenario::quiet(
            "queue",
            "a circle that is closed by a reader's place behind a writer, which may give up",
        )
    }
}

fn moving(elections: u8) -> Scenario {
    let victim = Plan {
        priority: Priority(-1),
        ..plan(
            TWO,
            [
                take([B]),
                take([A, C]),
                release("c"),
                release("a"),
                release("b"),
            ],
        )
    };
    let other = Plan {
        cancels: true,
        ..plan(ONE, [take([A]), take([B]), release("b"), release("a")])
    };
    Scenario {
        sessions: sessions([victim, other, plan(ONE, [take([C]), release("c")])]),
        locks: locks([("a", ONE), ("b", TWO), ("c", ONE)]),
        elections,
        chasers: 1,
        shows: [CircleBroken, SuspicionDispelled, AbortTooLate].into(),
        ..Scenario::quiet(
            "moving",
            "one request waits in two locks in turn: the abort of its first wait comes in the second",
        )
    }
}

pub(super) fn all() -> Vec<Scenario> {
    vec![
        ring(1),
        moving(1),
        crossing(),
        deposed(2),
        all_dying(1),
        dying(),
        queue(1, 2),
        inherited(1, 1),
    ]
}

pub(super) fn small() -> Vec<Scenario> {
    vec![
        deposed(1),
        all_dying(0),
        ring(0),
        queue(0, 2),
        moving(0),
        inherited(0, 1),
    ]
}

pub(super) fn planted() -> Vec<Scenario> {
    vec![
        crossing().with(Bug::SkipsSecondPass),
        deposed(1).with(Bug::AsksDeposed),
        inherited(0, 1).with(Bug::ConfirmsWaitsOnly),
        moving(0).with(Bug::AbortsAnyWait),
        crossing().with(Bug::OwnVictim),
    ]
}
