//! A request that waits.
//!
//! Invariants: it waits in exactly one lock; an acquisition has taken the locks before that one in
//! name order, and none after it. Since all take locks in the same order, acquisitions by owners that
//! hold nothing else cannot wait for each other in a circle.

use crate::{
    id::{FencingToken, LockName, Owner, Serial, SessionId, ShardTime, Timestamp, WaitEpoch},
    locks::{
        command::{LockSpec, MAX_LOCKS_PER_ACQUIRE},
        lock::Arrival,
        mode::Mode,
    },
    value::Value,
};

/// Whose wait it is, and of which of its requests.
pub(crate) type WaitKey = (SessionId, Serial);

/// A request that waits.
#[derive(Clone, Debug)]
pub(crate) struct WaitingRequest {
    /// When to give up.
    pub(crate) deadline: Option<ShardTime>,
    /// Since when it waits in the present lock.
    pub(crate) began: ShardTime,
    /// The same for people.
    pub(crate) since: Timestamp,
    /// The wait in the present lock.
    pub(crate) epoch: WaitEpoch,
    /// For what.
    pub(crate) goal: Goal,
}

/// What a request waits for.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// A lock, and then perhaps more.
    Acquire {
        acquisition: Acquisition,
        arrival: Arrival,
    },
    /// That the other shared holders leave.
    Upgrade { name: LockName, token: FencingToken },
}

impl Goal {
    /// The lock in which it waits.
    pub(crate) fn lock(&self) -> Option<&LockName> {
        match self {
            Self::Acquire { acquisition, .. } => acquisition.next().map(|spec| &spec.name),
            Self::Upgrade { name, .. } => Some(name),
        }
    }
}

/// An acquisition under way.
#[derive(Clone, Debug)]
pub(crate) struct Acquisition {
    pub(crate) owner: Owner,
    /// As asked for.
    pub(crate) locks: Vec<LockSpec>,
    /// What its holds are to say.
    pub(crate) value: Value,
    /// Positions in `locks`, by name.
    order: Vec<u8>,
    /// How many of `order` are taken.
    pub(crate) taken: usize,
}

impl Acquisition {
    /// Nothing taken yet. None if there are no locks, too many, two of one name, or a barrier among
    /// others.
    pub(crate) fn new(owner: Owner, locks: Vec<LockSpec>, value: Value) -> Option<Self> {
        const { assert!(MAX_LOCKS_PER_ACQUIRE <= u8::MAX as usize) };
        if locks.is_empty() || locks.len() > MAX_LOCKS_PER_ACQUIRE {
            return None;
        }
        let name = |at: u8| locks.get(usize::from(at)).map(|spec| &spec.name);
        let mut order: Vec<u8> = (0_u8..).take(locks.len()).collect();
        order.sort_unstable_by_key(|at| name(*at));
        let is_distinct = order.is_sorted_by(|before, after| name(*before) < name(*after));
        // Who waits at a barrier cannot take back that it came, so it takes nothing else.
        let meets = |spec: &LockSpec| matches!(spec.mode, Mode::Meet { .. });
        let is_apart = locks.len() == 1 || !locks.iter().any(meets);
        (is_distinct && is_apart).then_some(Self {
            owner,
            locks,
            value,
            order,
            taken: 0,
        })
    }

    /// All locks, in name order.
    pub(crate) fn in_order(&self) -> impl Iterator<Item = &LockSpec> {
        self.order
            .iter()
            .filter_map(|at| self.locks.get(usize::from(*at)))
    }

    /// The next lock to take.
    pub(crate) fn next(&self) -> Option<&LockSpec> {
        let at = self.order.get(self.taken)?;
        self.locks.get(usize::from(*at))
    }

    /// The locks taken so far.
    pub(crate) fn taken(&self) -> impl Iterator<Item = &LockSpec> {
        self.in_order().take(self.taken)
    }
}
