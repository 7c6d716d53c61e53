//! Decides how replicas and leaderships move when nodes join, drain or are lost.
//!
//! Invariants: the plan is a function of what is observed, so whoever plans next takes over where
//! another stopped. A replica moves as a learner that catches up, then one joint change that makes
//! it a voter and removes another, so that no step leaves a shard that could not lose a minority of
//! its voters, unless it could lose even fewer before. A shard takes one step at a time, and at
//! most [`Observed::limit`] shards have a replica on the move.
//!
//! The target is recomputed each time from the present placement: what can stay stays, and nothing
//! moves but from a node to one with at least two replicas fewer.
//!
//! Sources: Ongaro, "Consensus: Bridging Theory and Practice", 2014, section 4.2 (learners catch up
//! before they vote) and 4.3 (joint changes).

mod advance;
mod observed;
mod target;

use std::collections::BTreeMap;

use advance::{Advance, Next, Urgency};
pub use observed::{NodeState, Observed, ShardView};

use super::{leader_of_each, leaders};
use crate::id::{NodeId, ShardId};

/// One change, asked of the shard's leader. Carrying it out twice, or too late, must be harmless:
/// it is refused where the shard is no longer as it was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Start a replica that follows the log without a vote.
    AddLearner {
        /// Of which shard.
        shard: ShardId,
        /// Where.
        node: NodeId,
    },
    /// Make a learner a voter, where voters are missing.
    Promote {
        /// Of which shard.
        shard: ShardId,
        /// Which learner.
        node: NodeId,
    },
    /// Make a learner a voter in the place of another, in one joint change.
    PromoteAndRemove {
        /// Of which shard.
        shard: ShardId,
        /// Which learner.
        add: NodeId,
        /// Which voter.
        remove: NodeId,
    },
    /// Remove a learner that is of no use, or a voter that is one too many.
    RemoveReplica {
        /// Of which shard.
        shard: ShardId,
        /// Which.
        node: NodeId,
    },
    /// Complete a joint change that was left half done.
    FinishJoint {
        /// Of which shard.
        shard: ShardId,
    },
    /// Hand the leadership over.
    TransferLeader {
        /// Of which shard.
        shard: ShardId,
        /// To which voter.
        to: NodeId,
    },
}

/// Why something that should be done is not being done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Obstacle {
    /// Without a majority a shard can decide nothing, not even who its members are.
    #[error(
        "shard {shard}: {reachable} of {voters} voters answer, which is no majority: bring nodes back"
    )]
    NoMajority {
        /// Which.
        shard: ShardId,
        /// How many voters answer.
        reachable: usize,
        /// How many there are.
        voters: usize,
    },
    /// Nobody is there to carry a step out; an election will give one.
    #[error("shard {shard} has no leader that answers: wait for its election")]
    NoLeader {
        /// Which.
        shard: ShardId,
    },
    /// The move goes on when the learner has caught up.
    #[error("shard {shard}: the new replica on node {node} is catching up")]
    CatchingUp {
        /// Which.
        shard: ShardId,
        /// Where.
        node: NodeId,
    },
    /// With this voter away no other may be moved.
    #[error(
        "shard {shard}: voter {node} does not answer or lags behind, and nothing else may move meanwhile: bring it back, or declare it lost"
    )]
    VoterAway {
        /// Which.
        shard: ShardId,
        /// Which voter.
        node: NodeId,
    },
    /// There is no node to which a replica could go.
    #[error(
        "shard {shard}: no other node can take the replica of node {node}: add nodes, or bring back those that do not answer"
    )]
    NoNodeFree {
        /// Which.
        shard: ShardId,
        /// Whose replica.
        node: NodeId,
    },
    /// As many shards as may are on the move.
    #[error("{shards} more shards wait for their turn to move a replica")]
    LimitReached {
        /// How many wait.
        shards: usize,
    },
}

/// What to do now. With neither steps nor obstacles everything is as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// At most one for each shard; the most urgent first. They may be carried out together.
    pub steps: Vec<Step>,
    /// What is waited for.
    pub obstacles: Vec<Obstacle>,
}

/// Plans the next steps. To be called again once these are done or given up: it knows nothing of
/// steps that are under way. Takes about 0.2 ms for 64 shards on 10 nodes that are as they should
/// be, and up to 0.3 s for 1,024 shards when a node has joined 20.
#[must_use]
pub fn plan(observed: &Observed) -> Plan {
    let target = target::target(observed);
    let mut advance = Advance::new(observed, target.held);
    let mut handovers = Vec::new();
    let mut continued = Vec::new();
    let mut begins: Vec<(Urgency, Step)> = Vec::new();
    let mut stalled = Vec::new();
    let mut obstacles = Vec::new();
    for (shard, view) in observed.in_order(&target.order) {
        match advance.next(shard, view) {
            Next::Settled => {}
            Next::Handover(step) => handovers.push(step),
            Next::Continue(step) => continued.push(step),
            Next::Begin(urgency, step) => begins.push((urgency, step)),
            Next::Wait(obstacle) => obstacles.push(obstacle),
            Next::Stalled { give_up, obstacle } => {
                stalled.push(give_up);
                obstacles.push(obstacle);
            }
        }
    }
    let mut steps = handovers;
    steps.append(&mut continued);
    let moving = observed.shards.values().filter(|view| view.is_moving());
    let moving = moving.count();

    // The sort is stable: within an urgency the order of the target stays.
    begins.sort_by_key(|(urgency, _)| *urgency);
    let later = begins.split_off(begins.len().min(observed.limit.saturating_sub(moving)));
    steps.extend(begins.into_iter().map(|(_, step)| step));
    // A move that cannot go on must not keep a lost replica from being replaced.
    let urgent = later
        .iter()
        .filter(|(urgency, _)| *urgency == Urgency::Lost);
    steps.extend(stalled.into_iter().take(urgent.count()));
    if !later.is_empty() {
        let shards = later.len();
        obstacles.push(Obstacle::LimitReached { shards });
    }
    if steps.is_empty() && moving == 0 {
        steps = spread_leaders(observed);
    }
    Plan { steps, obstacles }
}

/// Hands leaderships over until every node leads as many shards as every other.
fn spread_leaders(observed: &Observed) -> Vec<Step> {
    let mut present = BTreeMap::new();
    let mut candidates = BTreeMap::new();
    for (shard, view) in &observed.shards {
        if let Ok(leader) = observed.standing(*shard, view) {
            present.insert(*shard, leader);
            candidates.insert(*shard, observed.successors(view).collect());
        }
    }
    let wanted = leaders(candidates, &present);
    let leaders: BTreeMap<_, _> = leader_of_each(wanted.held).collect();
    observed
        .in_order(&wanted.order)
        .filter_map(|(shard, _)| Some((shard, *leaders.get(&shard)?)))
        .filter(|(shard, to)| present.get(shard) != Some(to))
        .map(|(shard, to)| Step::TransferLeader { shard, to })
        .take(observed.limit)
        .collect()
}

#[cfg(test)]
mod tests;
