//! New templates.
//!
//! Invariant: of the pods that serve, one at a time is made anew, and only while every shard has all
//! its voters, up to date, a majority without this one, and voters that reach each other: who leads next
//! may be anybody. Pods that serve nobody come first, and the one that leads most comes last. A shard with
//! a single replica cannot be rolled without a gap, which is what its user chose.
//!
//! Nor while the members are moving anything, leads included: they spread leads that have been uneven for
//! some seconds, as they are after every restart, and would give some to a node that has just handed its
//! own over and is about to stop. Once all is even, those seconds begin anew with the hand-over. What they
//! cannot finish is no reason to wait: they spread no leads then.

use std::cmp::Reverse;

use super::{Action, Situation, Step, Waiting};
use crate::cluster::observed::{Observed, Pod, PodPhase, Set};

fn is_outdated(set: &Set, pod: &Pod) -> bool {
    set.is_current && pod.revision != set.revision
}

/// An outdated pod that cannot start.
pub(super) fn release_stuck(set: &Set, observed: &Observed) -> Option<Action> {
    observed.pods.iter().find_map(|(ordinal, pod)| {
        let cannot_start = match pod.phase {
            PodPhase::Stuck(_) | PodPhase::Unschedulable(..) => true,
            PodPhase::Ready | PodPhase::NotReady(_) | PodPhase::Terminating(_) => false,
        };
        (cannot_start && is_outdated(set, pod)).then(|| Action::ReleasePod {
            ordinal: *ordinal,
            uid: pod.uid.clone(),
            version: pod.version.clone(),
        })
    })
}

impl Situation<'_> {
    /// An outdated pod that runs and does not serve: it goes first, if nobody needs its vote.
    pub(super) fn roll_idle(&self) -> Option<Step> {
        self.observed.pods.iter().find_map(|(ordinal, pod)| {
            let is_idle = matches!(pod.phase, PodPhase::NotReady(_));
            if !is_idle || !is_outdated(self.set, pod) {
                return None;
            }
            let member = self.members.of(*ordinal);
            let is_needed = member.is_some_and(|(id, member)| {
                member.is_reachable && self.endangered_by(id).is_some()
            });
            (!is_needed).then(|| {
                Step::Act(Action::ReleasePod {
                    ordinal: *ordinal,
                    uid: pod.uid.clone(),
                    version: pod.version.clone(),
                })
            })
        })
    }

    /// The next serving pod to be made anew; all pods are known to be ready.
    pub(super) fn roll_serving(&self) -> Option<Step> {
        let outdated = self
            .observed
            .pods
            .iter()
            .filter(|(_, pod)| is_outdated(self.set, pod));
        let candidates = outdated.filter_map(|(ordinal, pod)| {
            let (id, member) = self.members.of(*ordinal)?;
            Some((member.led, Reverse(*ordinal), id, pod))
        });
        let Some((_, Reverse(ordinal), node, pod)) =
            candidates.min_by_key(|(led, ordinal, _, _)| (*led, *ordinal))
        else {
            return (!self.set.is_current).then_some(Step::Wait(Waiting::TemplateUnseen));
        };
        let damaged = self.members.shards.iter().find(|shard| {
            let alone = self.desired.replication_factor == 1 && shard.voters() == 1;
            let survives =
                alone || !shard.is_voter(node) || self.members.survives_without(shard, node);
            !self.members.is_whole(shard) || !survives
        });
        if let Some(shard) = damaged {
            return Some(Step::Wait(Waiting::CatchingUp(shard.id)));
        }
        if let Some((from, to)) = self.members.unheard.clone() {
            return Some(Step::Wait(Waiting::Unheard { from, to }));
        }
        if !self.members.is_settled && self.members.obstacles.is_empty() {
            return Some(Step::Wait(Waiting::Balancing(Vec::new())));
        }
        Some(Step::Act(Action::RestartPod {
            ordinal,
            uid: pod.uid.clone(),
            node,
        }))
    }
}
