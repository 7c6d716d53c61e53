//! Whether a replica may take part in elections: not while it lacks what an earlier replica of its shard
//! on this node had acknowledged.
//!
//! A replica that is removed from its group loses its log. If it comes back under the same id, it is a
//! voter of old memberships too, which a node that was away still acts by. What its earlier log made a
//! majority of would be forgotten: it would vote for a candidate that lacks acknowledged entries, or,
//! half-way through the log that it is sent, stand for election itself by an old membership that it comes
//! across. So the deletion of a replica keeps its vote and the *reach* of its log, the greatest end that
//! it ever had ([`crate::storage`]), and until its new log ends at or after that place
//!
//! - it grants no vote, nor pre-vote, to a candidate whose log ends before it;
//! - it does not stand for election, neither by its timer nor because a leader hands over to it.
//!
//! Invariant: a replica answers candidates as if it still had the log that it once had. That is enough:
//! ends are compared as Raft compares them (term first, dissertation section 3.6.1), so a log that ends at
//! or after the reach has either the same leader's entries up to it, or an entry of a later leader, who had
//! all that was committed before. From then on openraft's own comparison says the same or more. TiKV and
//! CockroachDB give each replica an id of its own instead; the vote and one place in the log bind as much
//! and need no change of the members' tables.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::raft::types::LogId;

/// What an earlier replica on this node binds the present one to.
#[derive(Debug)]
pub struct Eligibility {
    reach: Option<LogId>,
    reached: AtomicBool,
}

impl Eligibility {
    /// Of a replica whose log ends at `last`, after an earlier one whose log reached to `reach`.
    #[must_use]
    pub fn new(reach: Option<LogId>, last: Option<LogId>) -> Self {
        Self {
            reach,
            reached: AtomicBool::new(last >= reach),
        }
    }

    /// The log ends at `last` now. True if the replica may stand for election from now on, and might not
    /// before.
    pub fn log_ends_at(&self, last: Option<LogId>) -> bool {
        last >= self.reach && !self.reached.swap(true, Ordering::AcqRel)
    }

    /// True if the replica may stand for election.
    #[must_use]
    pub fn may_stand(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }

    /// The end that the candidate's log lacks, if the replica must not vote for it.
    #[must_use]
    pub fn refuses(&self, candidate: Option<LogId>) -> Option<LogId> {
        self.reach.filter(|reach| candidate < Some(*reach))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::LeaderId;

    fn id(term: u64, index: u64) -> Option<LogId> {
        Some(LogId {
            leader_id: LeaderId { term, node_id: 1 },
            index,
        })
    }

    #[test]
    fn an_empty_replica_answers_as_the_one_before_it_would() {
        let bound = Eligibility::new(id(3, 10), None);
        assert!(!bound.may_stand());
        for shorter in [None, id(2, 99), id(3, 9)] {
            assert_eq!(bound.refuses(shorter), id(3, 10), "{shorter:?}");
            assert!(!bound.log_ends_at(shorter));
        }
        for as_long in [id(3, 10), id(3, 11), id(4, 1)] {
            assert_eq!(bound.refuses(as_long), None, "{as_long:?}");
        }
        assert!(bound.log_ends_at(id(4, 1)));
        assert!(!bound.log_ends_at(id(4, 2)), "it is told once");
        assert!(bound.may_stand());
    }

    #[test]
    fn a_replica_without_a_past_is_free() {
        let free = Eligibility::new(None, None);
        assert!(free.may_stand());
        assert_eq!(free.refuses(None), None);
    }
}
