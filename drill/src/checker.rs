//! Judges a history: whether everything that clients saw is allowed by what the locks promise.
//!
//! Invariant: pure, and it never cries wolf. A violation is reported only where no order of events
//! that fits the recorded times could have produced the history.
//!
//! - exclusion: an exclusive hold overlaps no other, and conflicting holds have tokens in
//!   the order of their times.
//! - tokens only grow: a grant that was answered before another was asked for has the lower token.
//! - FIFO: who was seen in a queue before another asked is granted before it.
//! - durability: what was acknowledged is never undone, neither a grant nor a release.
//! - sessions survive what they are promised to survive, and no operation is forgotten.

mod durability;
mod exclusion;
mod fifo;
mod hold;
mod sessions;
mod tokens;
mod violation;

use std::collections::{BTreeMap, HashMap};

pub use self::{
    hold::Hold,
    violation::{Violation, Witness},
};
use crate::history::{Acquired, Action, History, LockId, Operation, Released, Token};

/// Violations kept with their details; the rest are counted. One defect can make thousands.
pub const MAX_KEPT_VIOLATIONS: usize = 100;

/// What a run may expect beyond what always holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectations {
    /// No session is lost: every fault is shorter than the sessions' TTL.
    pub sessions_survive: bool,
}

/// Counts of what was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All recorded operations.
    pub operations: u64,
    /// Acquisitions that were granted.
    pub grants: u64,
    /// Acquisitions of locks that were not free, or not in time.
    pub not_free: u64,
    /// Acquisitions refused for another reason, which a load of well-formed requests never meets.
    pub refused: u64,
    /// Acquisitions and releases of which it is not known whether they took effect.
    pub unknown: u64,
    /// Questions to the server whether a token is valid.
    pub validations: u64,
    /// Sessions lost.
    pub lost_sessions: u64,
}

impl Counts {
    fn add(&mut self, operation: &Operation) {
        self.operations += 1;
        match operation.action {
            Action::Acquire { outcome, .. } => match outcome {
                Acquired::Granted(_) => self.grants += 1,
                Acquired::Unavailable | Acquired::TimedOut => self.not_free += 1,
                Acquired::Refused => self.refused += 1,
                Acquired::SessionGone => {}
                Acquired::Unknown | Acquired::Unanswered => self.unknown += 1,
            },
            Action::Release { outcome, .. } => match outcome {
                Released::Unknown | Released::Unanswered => self.unknown += 1,
                Released::Done | Released::Stale | Released::Refused | Released::SessionGone => {}
            },
            Action::Validate { .. } => self.validations += 1,
            Action::Access { .. } => {}
        }
    }
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// How much was judged.
    pub counts: Counts,
    /// The first [`MAX_KEPT_VIOLATIONS`] violations.
    pub violations: Vec<Violation>,
    /// All of them.
    pub violation_count: u64,
}

impl Verdict {
    /// True if nothing was wrong.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.violation_count == 0
    }

    /// Adds a violation.
    pub fn report(&mut self, violation: Violation) {
        self.violation_count += 1;
        if self.violations.len() < MAX_KEPT_VIOLATIONS {
            self.violations.push(violation);
        }
    }

    /// Adds what was found in another round.
    pub fn merge(&mut self, other: Self) {
        let kept = MAX_KEPT_VIOLATIONS.saturating_sub(self.violations.len());
        self.violations
            .extend(other.violations.into_iter().take(kept));
        self.violation_count += other.violation_count;
        let (sum, new) = (&mut self.counts, other.counts);
        sum.operations += new.operations;
        sum.grants += new.grants;
        sum.not_free += new.not_free;
        sum.refused += new.refused;
        sum.unknown += new.unknown;
        sum.validations += new.validations;
        sum.lost_sessions += new.lost_sessions;
    }
}

/// Judges a run round by round. Between rounds it keeps each lock's highest token alone.
#[derive(Clone, Debug)]
pub struct Judge {
    expectations: Expectations,
    /// The highest token granted in earlier rounds.
    floors: HashMap<LockId, Token>,
}

/// Everything about one lock in one round, as the rules look at it.
struct LockCase<'a> {
    lock: LockId,
    /// Its operations, by the time they were invoked.
    operations: Vec<&'a Operation>,
    /// Its grants, by the time they were answered.
    holds: Vec<Hold>,
}

impl Judge {
    /// A judge of a new run.
    #[must_use]
    pub fn new(expectations: Expectations) -> Self {
        Self {
            expectations,
            floors: HashMap::new(),
        }
    }

    /// Judges one round: a history that begins and ends with no operation under way and nothing
    /// held by any client.
    #[must_use]
    pub fn judge(&mut self, history: &History) -> Verdict {
        let mut verdict = Verdict::default();
        let mut by_lock: BTreeMap<LockId, Vec<&Operation>> = BTreeMap::new();
        for operation in &history.operations {
            verdict.counts.add(operation);
            by_lock.entry(operation.lock).or_default().push(operation);
        }
        let ends = sessions::ends(history);
        sessions::check(history, self.expectations, &mut verdict);
        for (lock, mut operations) in by_lock {
            operations.sort_by_key(|operation| operation.invoked);
            let holds = hold::collect(&operations, &ends);
            let case = LockCase {
                lock,
                operations,
                holds,
            };
            let floor = self.floors.entry(lock).or_default();
            tokens::check(&case, *floor, &mut verdict);
            exclusion::check(&case, &mut verdict);
            fifo::check(&case, &mut verdict);
            durability::check(&case, &ends, &mut verdict);
            let highest = case.holds.iter().map(|hold| hold.token).max();
            *floor = highest.map_or(*floor, |token| token.max(*floor));
        }
        verdict
    }
}

#[cfg(test)]
mod honest;
#[cfg(test)]
mod tests;
