//! Sessions: opening, coming to a second shard, expiring or closing, being released there.

use lockstep_model::{Mode, kernel::TOMBSTONE_LIFE};

use super::{ONE, Opening, Scenario, THREE, TWO, locks, plan, release, sessions, take};
use crate::{
    bug::Bug,
    client::Step,
    scenario::Plan,
    witness::Mark::{AttachAfterEnd, AttachTooOld, EndedWaiting},
};

/// Each shard forgets ends at its own time, and attaches may come at any.
fn late(clock_steps: u8, elections: u8) -> Scenario {
    let stranger = Plan {
        expires: true,
        ..plan(ONE, [take([("b", Mode::Exclusive)]), release("b")])
    };
    let other = plan(TWO, [take([("b", Mode::Exclusive)]), release("b")]);
    Scenario {
        sessions: sessions([stranger, other]),
        locks: locks([("b", TWO)]),
        opening: Opening::Sent,
        instants: vec![TOMBSTONE_LIFE],
        clock_steps,
        elections,
        shows: [EndedWaiting, AttachAfterEnd, AttachTooOld].into(),
        ..Scenario::quiet(
            "late",
            "sessions open and come to a shard; one expires; old attaches; clocks are set",
        )
    }
}

fn crossed(elections: u8) -> Scenario {
    let [a, b] = ["a", "b"].map(|text| (text, Mode::Exclusive));
    let closing = plan(ONE, [take([a]), take([b]), release("b"), Step::Close]);
    let expiring = Plan {
        expires: true,
        ..plan(TWO, [take([a]), take([b]), release("a"), release("b")])
    };
    Scenario {
        sessions: sessions([closing, expiring]),
        locks: locks([("a", ONE), ("b", TWO)]),
        opening: Opening::Home,
        elections,
        shows: [EndedWaiting, AttachAfterEnd].into(),
        ..Scenario::quiet(
            "crossed",
            "each session is at home where the other is a stranger; one closes, the other expires",
        )
    }
}

fn spread(elections: u8) -> Scenario {
    let [b, c] = ["b", "c"].map(|text| (text, Mode::Exclusive));
    let expiring = Plan {
        expires: true,
        ..plan(ONE, [take([b]), take([c]), release("c"), release("b")])
    };
    let other = plan(TWO, [take([c]), release("c")]);
    Scenario {
        sessions: sessions([expiring, other]),
        shards: 3,
        locks: locks([("b", TWO), ("c", THREE)]),
        opening: Opening::Home,
        elections,
        shows: [EndedWaiting, AttachAfterEnd].into(),
        ..Scenario::quiet(
            "spread",
            "an expiring session is to be released by two shards, each in its own time",
        )
    }
}

pub(super) fn all() -> Vec<Scenario> {
    vec![late(1, 1), crossed(2), spread(1)]
}

pub(super) fn small() -> Vec<Scenario> {
    let opened = Scenario {
        opening: Opening::Home,
        ..late(1, 1)
    };
    vec![opened, crossed(1), spread(0)]
}

pub(super) fn planted() -> Vec<Scenario> {
    vec![
        late(0, 0).with(Bug::ForgetsUnknownEnds),
        late(0, 0).with(Bug::IgnoresFloor),
        late(0, 0).with(Bug::KeepsFloor),
        late(0, 0).with(Bug::DetachesOlder),
        crossed(0).with(Bug::BuriesEarly),
    ]
}
