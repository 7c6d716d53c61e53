//! What is checked in one run: who does what, and what may go wrong.

mod chase;
mod expiry;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::{
    LockName, Millis, Mode, Priority, SessionId, ShardId, ShardTime, Timestamp,
    locks::command::LockSpec,
};

use crate::{bug::Bug, client::Step, memo::Memo, witness::Mark};

/// The time at which it begins: later than the openings of the sessions.
pub const BEGIN: ShardTime = ShardTime(1_000);
/// What right wall clocks show then.
pub const WALL: Timestamp = Timestamp(2_000_000);

/// What is checked in one run.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Lower case, words joined by `_`.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The sessions, in the order in which they are opened.
    pub sessions: BTreeMap<SessionId, Plan>,
    /// The data shards.
    pub shards: u32,
    /// The locks and their shards.
    pub locks: BTreeMap<LockName, ShardId>,
    /// How sessions come to the shards.
    pub opening: Opening,
    /// Times to which each shard's time jumps, one after the other, after [`BEGIN`].
    pub instants: Vec<Millis>,
    /// How often a leader's wall clock is set, an hour ahead or back; one is ahead from the start then.
    pub clock_steps: u8,
    /// How often leaders change.
    pub elections: u8,
    /// How many nodes look for deadlocks: 0, 1 or 2.
    pub chasers: u64,
    /// True if a question of a walk may stay without an answer.
    pub silence: bool,
    /// What has to happen in some state, or else the run shows nothing.
    pub shows: BTreeSet<Mark>,
    /// A mistake that is planted.
    pub bug: Option<Bug>,
    /// What was computed before.
    pub memo: Memo,
}

/// What a session's client does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The session's home.
    pub home: ShardId,
    /// In a deadlock the lowest gives way.
    pub priority: Priority,
    /// Step by step.
    pub steps: Vec<Step>,
    /// How often it tries again after a refusal.
    pub tries: u8,
    /// True if it may give up waiting at any moment.
    pub cancels: bool,
    /// True if its session may expire at any moment.
    pub expires: bool,
}

/// How sessions come to the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opening {
    /// They are opened by messages.
    Sent,
    /// They are open at their homes.
    Home,
    /// They are open, and attached everywhere.
    Attached,
}

impl Scenario {
    /// A run without anything that goes wrong.
    fn quiet(name: &'static str, about: &'static str) -> Self {
        Self {
            name,
            about,
            sessions: BTreeMap::new(),
            shards: 2,
            locks: BTreeMap::new(),
            opening: Opening::Attached,
            instants: Vec::new(),
            clock_steps: 0,
            elections: 0,
            chasers: 0,
            silence: false,
            shows: BTreeSet::new(),
            bug: None,
            memo: Memo::default(),
        }
    }

    /// All scenarios, each within its full bounds; the longest first, lest one be left alone at the end.
    #[must_use]
    pub fn all() -> Vec<Self> {
        [chase::all(), expiry::all(), table::all()].concat()
    }

    /// All scenarios within smaller bounds.
    #[must_use]
    pub fn small() -> Vec<Self> {
        [table::small(), expiry::small(), chase::small()].concat()
    }

    /// Scenarios with a mistake, each as small as will do to show it.
    #[must_use]
    pub fn planted() -> Vec<Self> {
        [table::planted(), expiry::planted(), chase::planted()].concat()
    }

    /// The same with a mistake.
    fn with(self, bug: Bug) -> Self {
        Self {
            bug: Some(bug),
            memo: Memo::default(),
            shows: BTreeSet::new(),
            ..self
        }
    }
}

/// The first data shard.
const ONE: ShardId = ShardId(1);
/// The second.
const TWO: ShardId = ShardId(2);
/// The third: only where a scenario has one.
const THREE: ShardId = ShardId(3);

/// A lock's name.
#[must_use]
#[expect(
    clippy::expect_used,
    reason = "the names of the scenarios, which are not empty"
)]
pub fn name(text: &str) -> LockName {
    LockName::new(text).expect("a name")
}

fn locks<const N: usize>(places: [(&str, ShardId); N]) -> BTreeMap<LockName, ShardId> {
    places.map(|(text, shard)| (name(text), shard)).into()
}

fn sessions<const N: usize>(plans: [Plan; N]) -> BTreeMap<SessionId, Plan> {
    (1..).map(SessionId).zip(plans).collect()
}

fn plan<const N: usize>(home: ShardId, steps: [Step; N]) -> Plan {
    Plan {
        home,
        priority: Priority(0),
        steps: steps.into(),
        tries: 0,
        cancels: false,
        expires: false,
    }
}

fn take<const N: usize>(wanted: [(&str, Mode); N]) -> Step {
    take_within(lockstep_model::request::Wait::Forever, wanted)
}

fn take_within<const N: usize>(
    wait: lockstep_model::request::Wait,
    wanted: [(&str, Mode); N],
) -> Step {
    let spec = |(text, mode)| LockSpec {
        name: name(text),
        mode,
    };
    Step::Acquire(wanted.map(spec).into(), wait)
}

fn release(text: &str) -> Step {
    Step::Release(name(text))
}
