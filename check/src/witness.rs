//! What happened so far, as far as it is needed to judge what happens next.
//!
//! Invariant: it only looks on. Nothing that the cluster does depends on it.

mod deadlocks;
mod ends;
mod grants;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lockstep_model::{
    Command, Effect, FencingToken, LockName, Mode, Outcome, Serial, SessionId, ShardId, WaitEpoch,
    locks::deadlock::Edge,
};

use crate::{replica::Replica, scenario::Scenario};

/// What must never happen and cannot be told from a state alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Wrong {
    /// A token of a lock was not above all earlier ones.
    TokenFell,
    /// One acquisition was granted twice.
    GrantedTwice,
    /// Somebody was granted a lock past one who waited for it before.
    Overtaken,
    /// A session that is open does not have what it was granted.
    HoldLost,
    /// A session did something where its end had been acknowledged.
    Revived,
    /// A wait was ended for a circle that was not closed between the two passes.
    FalseVictim,
    /// A circle had a second victim.
    SecondVictim,
    /// Another gave way than the rule says.
    OtherVictim,
    /// A new leader could not make the same state of its bytes.
    NotRestored,
}

/// What has to happen in some state, for the check to mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// A circle was broken by a walk.
    CircleBroken,
    /// A circle within a shard was broken by the shard.
    LocalCircleBroken,
    /// Of a circle that was seen once something was gone the second time.
    SuspicionDispelled,
    /// An abort came when its wait was over.
    AbortTooLate,
    /// A session ended at its home while it waited in another shard.
    EndedWaiting,
    /// An attach was refused because the session had ended.
    AttachAfterEnd,
    /// An attach was refused because its touch was not above the floor.
    AttachTooOld,
    /// A request was repeated after its grant, and got the same answer.
    GrantRepeated,
    /// A request was repeated after its answer was acknowledged.
    RepeatedTooLate,
    /// An upgrade that had waited was granted.
    Upgraded,
    /// A wait's time was over.
    TimedOut,
}

/// A wait, by the numbers that are never given twice.
pub type WaitId = (ShardId, WaitEpoch);
/// A circle, by its waits.
pub type CircleId = BTreeSet<WaitId>;
/// What a client is told of a lock: how it holds it, under which token, and how often.
type Told = (LockName, Mode, FencingToken, u32);

/// What happened so far. Most of it is the same from one state to the next, and is shared by them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Witness {
    /// The greatest token of each lock.
    tokens: Arc<BTreeMap<LockName, FencingToken>>,
    /// What each acquisition was granted.
    grants: Arc<BTreeMap<(SessionId, Serial), Vec<Told>>>,
    /// Where ends of sessions were acknowledged.
    ended: Arc<BTreeSet<(SessionId, ShardId)>>,
    /// Circles that were closed when the second pass over them began.
    closed: Arc<BTreeSet<CircleId>>,
    /// Circles of which a wait was ended.
    broken: Arc<BTreeSet<CircleId>>,
    wrongs: Arc<BTreeSet<Wrong>>,
    marks: Arc<BTreeSet<Mark>>,
}

/// A command that was applied, before and after.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    /// Where.
    pub shard: ShardId,
    /// The state before.
    pub before: &'a Replica,
    /// The state after.
    pub after: &'a Replica,
    /// What was applied.
    pub command: &'a Command,
    /// What came of it.
    pub outcome: &'a Outcome,
    /// What follows from it.
    pub effects: &'a [Effect],
}

/// The circle of some edges.
#[must_use]
pub fn circle_of(edges: &[Edge]) -> CircleId {
    let waits = edges.iter().map(|edge| &edge.wait);
    waits.map(|wait| (wait.shard, wait.epoch)).collect()
}

/// Adds to a set, of which a state has a copy of its own only if it differs. True if it is new there.
fn note<T: Ord + Clone>(set: &mut Arc<BTreeSet<T>>, item: T) -> bool {
    !set.contains(&item) && Arc::make_mut(set).insert(item)
}

impl Witness {
    /// True if this never happened.
    #[must_use]
    pub fn is_clear_of(&self, wrong: Wrong) -> bool {
        !self.wrongs.contains(&wrong)
    }

    /// True if this has happened.
    #[must_use]
    pub fn has_seen(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }

    /// Where ends of sessions were acknowledged.
    pub fn ended(&self) -> impl Iterator<Item = (SessionId, ShardId)> + '_ {
        self.ended.iter().copied()
    }

    /// True if a session's end was acknowledged in a shard.
    #[must_use]
    pub fn has_ended(&self, session: SessionId, shard: ShardId) -> bool {
        self.ended.contains(&(session, shard))
    }

    /// Notes what must not happen.
    pub fn wrong(&mut self, wrong: Wrong) {
        note(&mut self.wrongs, wrong);
    }

    /// Notes what has to happen, if the scenario asks for it: else it would only tell states apart.
    pub fn mark(&mut self, scenario: &Scenario, mark: Mark) {
        if scenario.shows.contains(&mark) {
            note(&mut self.marks, mark);
        }
    }

    /// A circle is closed now that its first pass is over.
    pub fn closed(&mut self, circle: CircleId) {
        note(&mut self.closed, circle);
    }

    /// Judges one command.
    pub fn see(&mut self, scenario: &Scenario, seen: &Seen<'_>) {
        self.judge_tokens(seen);
        self.judge_grants(scenario, seen);
        self.judge_order(seen);
        self.judge_ends(scenario, seen);
        self.judge_deadlocks(scenario, seen);
    }
}
