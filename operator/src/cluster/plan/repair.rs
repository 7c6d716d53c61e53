//! Members that are gone.
//!
//! Invariant: a member is declared lost only if its volume is known to be gone (another member has
//! its name) or its machine was away for as long as the user said; only while every shard has a majority
//! without it; and never two at once. A pod that does not start, for whatever reason, on a machine that is
//! there, is not gone: its data is. Lost stays lost, and its volume is discarded, unless it has come
//! back while another is away and its vote is needed: then it stays after all, and nothing is discarded.

use super::{Action, Refusal, Situation, Step, Waiting, stuck};
use crate::cluster::observed::{Lifecycle, Member, Observed, PodPhase};

/// A pod that waits for a volume which does not exist: only a new pod gets a new one.
pub(super) fn release_without_volume(observed: &Observed) -> Option<Action> {
    let mut pods = observed
        .pods
        .iter()
        .filter(|(ordinal, _)| !observed.claims.contains_key(ordinal));
    pods.find_map(|(ordinal, pod)| match pod.phase {
        PodPhase::NotReady | PodPhase::Unschedulable(_) | PodPhase::Stuck(_) => {
            Some(Action::ReleasePod {
                ordinal: *ordinal,
                uid: pod.uid.clone(),
                version: pod.version.clone(),
            })
        }
        PodPhase::Ready | PodPhase::Impaired(_) | PodPhase::Terminating => None,
    })
}

impl Situation<'_> {
    /// The next step for members that are gone, if there are any.
    pub(super) fn repair(&self) -> Option<Step> {
        let mut lost = self.members.nodes.iter().filter(|(_, member)| {
            // Those beyond the set's last pod are on their way out in order.
            let beyond = member
                .ordinal
                .is_some_and(|ordinal| ordinal >= self.set.replicas);
            member.lifecycle == Lifecycle::Lost && !beyond
        });
        if let Some((id, member)) = lost.next() {
            let step = self.replace_lost(*id, member);
            return match step {
                Step::Wait(_) => self.never_joined().or(Some(step)),
                Step::Act(_) | Step::Refuse(_) | Step::Done => Some(step),
            };
        }
        let mut refused = None;
        for (id, member) in &self.members.nodes {
            if !self.is_gone(*id, member) {
                continue;
            }
            let name = member.name.clone();
            if let Some(shard) = self.endangered_by(*id) {
                refused = Some(Refusal::WouldLoseMajority { name, shard });
            } else {
                // The volume is marked first, so that the empty one that takes its place is not mistaken for it.
                let volume = member.ordinal.filter(|_| !self.members.is_superseded(*id));
                return Some(Step::Act(Action::Replace {
                    node: *id,
                    name,
                    volume,
                }));
            }
        }
        self.never_joined().or(refused.map(Step::Refuse))
    }

    /// The volume of a pod that is no member, and whose machine has gone: nobody's data is on it, and as
    /// long as it exists the pod cannot run elsewhere. A pod that merely is not ready keeps its volume: a
    /// person may have left that out of a recovery.
    fn never_joined(&self) -> Option<Step> {
        let limit = self.desired.replace_after?;
        // The name of a member that has not yet said it may be the pod's.
        if self
            .members
            .nodes
            .values()
            .any(|member| member.name.is_empty())
        {
            return None;
        }
        let mut pods = self.observed.pods.range(..self.set.replicas);
        pods.find_map(|(ordinal, pod)| {
            match &pod.phase {
                PodPhase::Unschedulable(_) | PodPhase::Terminating => {}
                PodPhase::Ready
                | PodPhase::Impaired(_)
                | PodPhase::NotReady
                | PodPhase::Stuck(_) => return None,
            }
            let away = pod.away?;
            let member = self.members.of(*ordinal);
            let is_nobody = member.is_none_or(|(_, member)| {
                member.lifecycle == Lifecycle::Lost && !member.is_reachable
            });
            // Where there is no volume yet, nothing keeps the pod where it is.
            let claim = self.observed.claims.get(ordinal);
            let claim = claim.filter(|claim| !claim.is_terminating && claim.capacity_bytes > 0)?;
            (away >= limit && is_nobody).then(|| {
                Step::Act(Action::DiscardVolume {
                    ordinal: *ordinal,
                    claim_uid: claim.uid.clone(),
                    pod_uid: Some(pod.uid.clone()),
                })
            })
        })
    }

    /// Has an active or draining member to be declared lost?
    fn is_gone(&self, id: u64, member: &Member) -> bool {
        if member.lifecycle == Lifecycle::Lost || member.is_reachable {
            return false;
        }
        if self.members.is_superseded(id) {
            return true;
        }
        let pod = member
            .ordinal
            .and_then(|ordinal| self.observed.pods.get(&ordinal));
        let away = pod.and_then(|pod| pod.away);
        match (away, self.desired.replace_after) {
            (Some(away), Some(limit)) => away >= limit,
            (None, _) | (_, None) => false,
        }
    }

    /// A member that was declared lost: first its volume goes, so that another one can take its place;
    /// then, when its replicas are elsewhere, it leaves.
    fn replace_lost(&self, id: u64, member: &Member) -> Step {
        let ordinal = member.ordinal;
        let claim =
            ordinal.and_then(|ordinal| Some((ordinal, self.observed.claims.get(&ordinal)?)));
        let pod = ordinal.and_then(|ordinal| self.observed.pods.get(&ordinal));
        if let Some((ordinal, claim)) = claim
            && !claim.is_terminating
            && !self.members.is_superseded(id)
            && (claim.node_id == Some(id) || member.is_reachable)
        {
            // That there was a majority without it when it was declared lost does not say that there is one
            // now. One that answers has all of its data, and is a voter until its replicas are elsewhere.
            if let Some(shard) = self.endangered_by(id) {
                let name = member.name.clone();
                return if member.is_reachable {
                    Step::Act(Action::Reinstate { node: id, name })
                } else {
                    Step::Refuse(Refusal::WouldLoseMajority { name, shard })
                };
            }
            let is_away = pod.is_some_and(|pod| pod.away.is_some());
            if member.is_reachable || member.placed == 0 || is_away {
                return Step::Act(Action::DiscardVolume {
                    ordinal,
                    claim_uid: claim.uid.clone(),
                    pod_uid: pod.map(|pod| pod.uid.clone()),
                });
            }
            // Its machine is there again: its data may be needed, until it answers and is seen not to be.
            if let Some(refusal) = stuck(self.observed) {
                return Step::Refuse(refusal);
            }
        }
        let name = member.name.clone();
        if member.placed == 0 {
            return Step::Act(Action::Remove { node: id, name });
        }
        Step::Wait(Waiting::Replacing {
            name,
            replicas: member.placed,
        })
    }
}
