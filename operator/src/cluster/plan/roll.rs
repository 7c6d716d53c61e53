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

use super::{Action, Situation, Step, Waiting, impaired};
use crate::cluster::observed::{Observed, Pod, PodPhase, Set};

fn is_outdated(set: &Set, pod: &Pod) -> bool {
    set.is_current && pod.revision != set.revision
}

/// An outdated pod whose node does not serve: another template may be what it lacks. Not one that the
/// members still reach, if they need its vote.
pub(super) fn release_outdated(set: &Set, observed: &Observed) -> Option<Action> {
    observed.pods.iter().find_map(|(ordinal, pod)| {
        let is_idle = match pod.phase {
            PodPhase::Stuck(_) | PodPhase::Unschedulable(_) | PodPhase::NotReady => true,
            PodPhase::Ready | PodPhase::Impaired(_) | PodPhase::Terminating => false,
        };
        let is_needed = || {
            let members = observed.members.as_ref();
            members.is_some_and(|members| members.needs(*ordinal))
        };
        (is_idle && is_outdated(set, pod) && !is_needed()).then(|| Action::ReleasePod {
            ordinal: *ordinal,
            uid: pod.uid.clone(),
            version: pod.version.clone(),
        })
    })
}

impl Situation<'_> {
    /// The next serving pod to be made anew; all nodes are known to serve.
    pub(super) fn roll_serving(&self) -> Option<Step> {
        let outdated = self
            .observed
            .pods
            .iter()
            .filter(|(_, pod)| is_outdated(self.set, pod));
        let candidates = outdated.filter_map(|(ordinal, pod)| {
            let (id, member) = self.members.of(*ordinal)?;
            let is_ready = pod.phase == PodPhase::Ready;
            Some((is_ready, member.led, Reverse(*ordinal), id, pod))
        });
        let Some((is_ready, _, Reverse(ordinal), node, pod)) =
            candidates.min_by_key(|(is_ready, led, ordinal, _, _)| (*is_ready, *led, *ordinal))
        else {
            return (!self.set.is_current).then_some(Step::Wait(Waiting::TemplateUnseen));
        };
        // A template with which something does not start goes no further.
        if let Some(refusal) = impaired(self.observed).filter(|_| is_ready) {
            return Some(Step::Refuse(refusal));
        }
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
            is_ready,
        }))
    }
}
