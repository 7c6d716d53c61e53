//! The next step of one shard on its way to the target.
//!
//! Invariant: what was begun is finished or given up before something else is begun, and each step
//! alone keeps the shard as safe as it was.

use std::collections::{BTreeMap, BTreeSet};

use super::{Observed, Obstacle, ShardView, Step, observed::majority};
use crate::{
    id::{NodeId, ShardId},
    meta::record::Lifecycle,
};

/// What a new move is for; the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// A replica is lost.
    Lost,
    /// A node is to be emptied.
    Draining,
    /// Voters are missing.
    Missing,
    /// Nodes are to have equal loads.
    Uneven,
}

/// What a shard does next.
pub(super) enum Next {
    /// Nothing: it is as it should be.
    Settled,
    /// It hands its leadership over: the leader's node is to be emptied.
    Handover(Step),
    /// It goes on with what was begun.
    Continue(Step),
    /// It would begin something.
    Begin(Urgency, Step),
    /// It waits.
    Wait(Obstacle),
    /// It has begun a move that cannot go on for now, but could be given up.
    Stalled {
        /// How to give it up.
        give_up: Step,
        /// What it waits for.
        obstacle: Obstacle,
    },
}

/// Advances shard after shard.
pub(super) struct Advance<'a> {
    observed: &'a Observed,
    target: BTreeMap<ShardId, BTreeSet<NodeId>>,
    /// How many shards each node leads, when the handovers so far are done.
    leads: BTreeMap<NodeId, usize>,
}

impl<'a> Advance<'a> {
    pub(super) fn new(observed: &'a Observed, target: BTreeMap<ShardId, BTreeSet<NodeId>>) -> Self {
        let mut leads = BTreeMap::new();
        for leader in observed.shards.values().filter_map(|view| view.leader) {
            *leads.entry(leader).or_default() += 1;
        }
        Self {
            observed,
            target,
            leads,
        }
    }

    pub(super) fn next(&mut self, shard: ShardId, view: &ShardView) -> Next {
        let leader = match self.observed.standing(shard, view) {
            Ok(leader) => leader,
            Err(obstacle) => return Next::Wait(obstacle),
        };
        if view.joint {
            return Next::Continue(Step::FinishJoint { shard });
        }
        if self.observed.lifecycle(leader) == Lifecycle::Draining
            && let Some(to) = self.successor(view, leader)
        {
            return Next::Handover(Step::TransferLeader { shard, to });
        }
        let target = self.target.remove(&shard).unwrap_or_default();
        let mut learners = view.learners.iter().copied();
        if let Some(node) = learners.find(|node| !target.contains(node)) {
            return Next::Continue(Step::RemoveReplica { shard, node });
        }
        match view.learners.first() {
            Some(learner) => self.finish(shard, view, &target, leader, *learner),
            None => self.begin(shard, view, &target, leader),
        }
    }

    /// Goes on with a learner.
    fn finish(
        &mut self,
        shard: ShardId,
        view: &ShardView,
        target: &BTreeSet<NodeId>,
        leader: NodeId,
        learner: NodeId,
    ) -> Next {
        if !self.observed.is_healthy(view, learner) {
            return Next::Wait(Obstacle::CatchingUp {
                shard,
                node: learner,
            });
        }
        let removed = self.removal(view, target, Some(learner));
        let missing = view.voters.len() < self.observed.desired_voters(shard);
        if (removed.is_none() && !missing) || !self.is_safe(view, Some(learner), removed) {
            return Next::Stalled {
                give_up: Step::RemoveReplica {
                    shard,
                    node: learner,
                },
                obstacle: self.voter_away(shard, view, learner),
            };
        }
        match removed {
            None => Next::Continue(Step::Promote {
                shard,
                node: learner,
            }),
            Some(remove) => Next::Continue(self.without_leading(shard, view, leader, remove, {
                Step::PromoteAndRemove {
                    shard,
                    add: learner,
                    remove,
                }
            })),
        }
    }

    /// Begins a move, if one is needed.
    fn begin(
        &mut self,
        shard: ShardId,
        view: &ShardView,
        target: &BTreeSet<NodeId>,
        leader: NodeId,
    ) -> Next {
        let added = target.difference(&view.voters).copied();
        let added = added.min_by_key(|node| {
            let removed = self.removal(view, target, Some(*node));
            (self.company(view, *node, removed), *node)
        });
        let removed = self.removal(view, target, added);
        if let Some(node) = added {
            let step = Step::AddLearner { shard, node };
            return self.begin_if_safe(shard, view, added, removed, step);
        }
        let Some(node) = removed else {
            let mut voters = view.voters.iter().copied();
            let away = voters.find(|node| !self.observed.is_healthy(view, *node));
            let wait = |node| Next::Wait(Obstacle::VoterAway { shard, node });
            return away.map_or(Next::Settled, wait);
        };
        if view.voters.len() <= self.observed.desired_voters(shard) {
            return Next::Wait(Obstacle::NoNodeFree { shard, node });
        }
        let step = Step::RemoveReplica { shard, node };
        let step = self.without_leading(shard, view, leader, node, step);
        self.begin_if_safe(shard, view, added, removed, step)
    }

    fn begin_if_safe(
        &self,
        shard: ShardId,
        view: &ShardView,
        added: Option<NodeId>,
        removed: Option<NodeId>,
        step: Step,
    ) -> Next {
        if !self.is_safe(view, added, removed) {
            let otherwise = added.or(removed).unwrap_or_default();
            return Next::Wait(self.voter_away(shard, view, otherwise));
        }
        let urgency = match removed.map(|node| self.observed.lifecycle(node)) {
            Some(Lifecycle::Lost) => Urgency::Lost,
            Some(Lifecycle::Draining) => Urgency::Draining,
            Some(Lifecycle::Active) => Urgency::Uneven,
            None => Urgency::Missing,
        };
        Next::Begin(urgency, step)
    }

    /// The voter that goes next: a lost one, a draining one, then one that shares its zone with
    /// the node that comes.
    fn removal(
        &self,
        view: &ShardView,
        target: &BTreeSet<NodeId>,
        added: Option<NodeId>,
    ) -> Option<NodeId> {
        view.voters.difference(target).copied().min_by_key(|node| {
            let company = added.map(|added| self.company(view, added, Some(*node)));
            (self.observed.lifecycle(*node), company, *node)
        })
    }

    /// How many voters share a zone with the node that comes, once the other has gone.
    fn company(&self, view: &ShardView, added: NodeId, removed: Option<NodeId>) -> usize {
        let zone = |node: &NodeId| {
            self.observed
                .nodes
                .get(node)
                .map(|state| state.zone.as_str())
        };
        let stay = view.voters.iter().filter(|node| Some(**node) != removed);
        let named = zone(&added).filter(|name| !name.is_empty());
        stay.filter(|node| named.is_some() && zone(node) == named)
            .count()
    }

    /// True if the shard could lose a minority of its voters after the change, or at least more of
    /// them than before; for the removal of a lost voter, as many as before, because of two lost
    /// voters only the second one's removal gains anything. The voter that comes will have caught
    /// up by then.
    fn is_safe(&self, view: &ShardView, added: Option<NodeId>, removed: Option<NodeId>) -> bool {
        let healthy = |node: &&NodeId| self.observed.is_healthy(view, **node);
        let stay = view.voters.iter().filter(|node| Some(**node) != removed);
        let came = usize::from(added.is_some());
        let voters_after = stay.clone().count() + came;
        let healthy_after = stay.filter(healthy).count() + came;
        // How many more healthy voters there are than a majority, each time plus both majorities.
        let after = healthy_after + majority(view.voters.len());
        let before = view.voters.iter().filter(healthy).count() + majority(voters_after);
        let lost = removed.is_some_and(|node| self.observed.lifecycle(node) == Lifecycle::Lost);
        healthy_after == voters_after || after > before || (lost && after == before)
    }

    /// The step, once another node leads where the one to be removed does and somebody else can.
    fn without_leading(
        &mut self,
        shard: ShardId,
        view: &ShardView,
        leader: NodeId,
        removed: NodeId,
        step: Step,
    ) -> Step {
        if leader != removed {
            return step;
        }
        let to = self.successor(view, leader);
        to.map_or(step, |to| Step::TransferLeader { shard, to })
    }

    /// The voter that leads the fewest shards among those that could take over.
    fn successor(&mut self, view: &ShardView, leader: NodeId) -> Option<NodeId> {
        let others = self
            .observed
            .successors(view)
            .filter(|node| *node != leader);
        let to = others.min_by_key(|node| (self.leads.get(node).copied(), *node))?;
        *self.leads.entry(to).or_default() += 1;
        if let Some(count) = self.leads.get_mut(&leader) {
            *count = count.saturating_sub(1);
        }
        Some(to)
    }

    /// Names a voter because of which the change is not safe.
    fn voter_away(&self, shard: ShardId, view: &ShardView, otherwise: NodeId) -> Obstacle {
        let mut voters = view.voters.iter();
        let away = voters.find(|node| !self.observed.is_healthy(view, **node));
        Obstacle::VoterAway {
            shard,
            node: away.copied().unwrap_or(otherwise),
        }
    }
}
