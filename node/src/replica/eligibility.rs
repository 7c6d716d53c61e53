//! Whether a replica may take part in elections: not while it lacks what an earlier replica of its shard
//! on this node had acknowledged, and not while a promise of an earlier process may be relied upon.
//!
//! # What a removed replica had acknowledged
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
//!
//! # What a process before had promised
//!
//! A voter that answers its leader promises to elect nobody else for a lease, and the leader relies on that:
//! it serves, and extends sessions, without asking again. The promise is kept in memory. So a replica that
//! opens with a vote for another node does as if it had answered that leader just now: for one lease it
//! neither votes for another nor stands itself. The leader itself may be elected at once: if it asks for
//! votes, it does not rely on anything any more. (Raft dissertation, section 6.4.1, leaves this to the
//! implementation; etcd has no lease that outlives its voter's memory.)

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use openraft::raft::VoteRequest;

use crate::{
    boot_time::BootTime,
    raft::types::{LogId, TypeConfig, Vote},
};

/// What earlier replicas and processes on this node bind the present one to.
#[derive(Debug)]
pub struct Eligibility {
    reach: Option<LogId>,
    reached: AtomicBool,
    promise: Option<Promise>,
    /// Whether it was said that it may stand.
    admitted: AtomicBool,
}

/// What a leader may rely upon still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    leader: u64,
    until: BootTime,
}

impl Promise {
    /// What a replica of node `me` may have promised, if it opens now with this vote; `lease` is for how
    /// long leaders rely on their voters. A vote that was only granted counts too: the candidate may have
    /// won and have been answered before that was on disk.
    #[must_use]
    pub fn of(vote: Option<Vote>, me: u64, lease: Duration) -> Option<Self> {
        let vote = vote.filter(|vote| vote.leader_id.node_id != me)?;
        Some(Self {
            leader: vote.leader_id.node_id,
            until: BootTime::now() + lease,
        })
    }
}

/// Why a replica does not vote for a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// The candidate's log ends before what this node once held.
    Shorter(LogId),
    /// A leader may rely on this replica's promise still.
    Promised(u64),
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shorter(reach) => {
                write!(f, "its log ends before {reach}, which this node once held")
            }
            Self::Promised(leader) => write!(
                f,
                "this node has just started, and node {leader} may rely for a moment on what it promised before"
            ),
        }
    }
}

impl Eligibility {
    /// Of a replica whose log ends at `last`, after an earlier one whose log reached to `reach`, and an
    /// earlier process that may have made a promise.
    #[must_use]
    pub fn new(reach: Option<LogId>, last: Option<LogId>, promise: Option<Promise>) -> Self {
        Self {
            reach,
            reached: AtomicBool::new(last >= reach),
            promise,
            admitted: AtomicBool::new(last >= reach && promise.is_none()),
        }
    }

    /// The log ends at `last`, and this is `now`. True if the replica may stand for election from now on,
    /// and might not before; told once.
    pub fn admits(&self, last: Option<LogId>, now: BootTime) -> bool {
        if last >= self.reach {
            self.reached.store(true, Ordering::Release);
        }
        self.may_stand(now) && !self.admitted.swap(true, Ordering::AcqRel)
    }

    /// True if [`Self::admits`] has nothing more to say.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Acquire)
    }

    /// True if the replica may stand for election.
    #[must_use]
    pub fn may_stand(&self, now: BootTime) -> bool {
        self.reached.load(Ordering::Acquire) && self.promise_at(now).is_none()
    }

    /// True if the replica may be elected because its leader hands the lead over: that leader relies on
    /// nothing any more, and before it was elected an older one's promise was over.
    #[must_use]
    pub fn may_take_over(&self) -> bool {
        self.reached.load(Ordering::Acquire)
    }

    /// Why the replica must not vote for this candidate, if so. A leader that hands over relies on nothing
    /// from then on.
    #[must_use]
    pub fn refuses(&self, request: &VoteRequest<TypeConfig>, now: BootTime) -> Option<Withheld> {
        let candidate = request.vote.leader_id.node_id;
        let promised = self
            .promise_at(now)
            .filter(|promise| promise.leader != candidate && !request.leadership_transfer)
            .map(|promise| Withheld::Promised(promise.leader));
        promised.or_else(|| {
            let reach = self
                .reach
                .filter(|reach| request.last_log_id < Some(*reach))?;
            Some(Withheld::Shorter(reach))
        })
    }

    fn promise_at(&self, now: BootTime) -> Option<Promise> {
        self.promise.filter(|promise| now < promise.until)
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

    fn asks(node: u64, last_log_id: Option<LogId>) -> VoteRequest<TypeConfig> {
        VoteRequest {
            vote: Vote::new(9, node),
            last_log_id,
            leadership_transfer: false,
        }
    }

    #[test]
    fn an_empty_replica_answers_as_the_one_before_it_would() {
        let now = BootTime::now();
        let bound = Eligibility::new(id(3, 10), None, None);
        assert!(!bound.may_stand(now));
        let reach = id(3, 10).map(Withheld::Shorter);
        for shorter in [None, id(2, 99), id(3, 9)] {
            assert_eq!(bound.refuses(&asks(2, shorter), now), reach, "{shorter:?}");
            assert!(!bound.admits(shorter, now));
        }
        for as_long in [id(3, 10), id(3, 11), id(4, 1)] {
            assert_eq!(bound.refuses(&asks(2, as_long), now), None, "{as_long:?}");
        }
        assert!(bound.admits(id(4, 1), now));
        assert!(!bound.admits(id(4, 2), now), "it is told once");
        assert!(bound.may_stand(now));
    }

    #[test]
    fn a_replica_without_a_past_is_free() {
        let free = Eligibility::new(None, None, None);
        assert!(free.is_admitted() && free.may_stand(BootTime::now()));
        assert_eq!(free.refuses(&asks(2, None), BootTime::now()), None);
    }

    #[test]
    fn a_restarted_voter_elects_nobody_while_its_leader_relies_on_it() {
        let lease = Duration::from_secs(60);
        for none in [None, Some(Vote::new(4, 1)), Some(Vote::new_committed(4, 1))] {
            assert_eq!(Promise::of(none, 1, lease), None, "{none:?}");
        }
        let promise = Promise::of(Some(Vote::new_committed(4, 2)), 1, lease).unwrap();
        let bound = Eligibility::new(None, None, Some(promise));
        let (before, after) = (BootTime::now(), promise.until);
        assert!(!bound.may_stand(before) && !bound.admits(None, before));
        assert!(bound.may_take_over());
        let withheld = Some(Withheld::Promised(2));
        assert_eq!(bound.refuses(&asks(3, id(5, 5)), before), withheld);
        assert_eq!(
            bound.refuses(&asks(2, None), before),
            None,
            "the leader itself"
        );
        let mut handed_over = asks(3, None);
        handed_over.leadership_transfer = true;
        assert_eq!(bound.refuses(&handed_over, before), None);

        assert_eq!(bound.refuses(&asks(3, None), after), None);
        assert!(bound.admits(None, after) && bound.is_admitted());
    }
}
