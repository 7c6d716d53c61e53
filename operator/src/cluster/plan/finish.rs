//! What a smaller set leaves behind: members without a pod, and their volumes.
//!
//! Invariant: a volume is deleted only when its member holds nothing and its pod is gone, and before
//! that member leaves: a volume of nobody would start a node that can never join. All of it comes before
//! another pod may take the same number.

use super::{Action, Situation, Step, Waiting};
use crate::cluster::observed::{Lifecycle, Ordinal};

impl Situation<'_> {
    /// The next step for what is beyond the set, if there is anything.
    pub(super) fn finish_shrink(&self) -> Option<Step> {
        let beyond = self.set.replicas..;
        if let Some((ordinal, _)) = self.observed.pods.range(beyond.clone()).next() {
            return Some(Step::Wait(Waiting::PodLeaving(*ordinal)));
        }
        let mut members = self.members.nodes.iter();
        let member = members.find_map(|(id, member)| {
            let ordinal = member.ordinal.filter(|ordinal| beyond.contains(ordinal))?;
            Some((*id, member, ordinal))
        });
        let Some((node, member, ordinal)) = member else {
            let mut claims = self.observed.claims.range(beyond);
            return claims.find_map(|(ordinal, _)| self.discard(*ordinal));
        };
        Some(match member.lifecycle {
            Lifecycle::Active => Step::Act(Action::Drain { node, ordinal }),
            Lifecycle::Draining | Lifecycle::Lost if member.placed == 0 => {
                let name = member.name.clone();
                self.discard(ordinal)
                    .unwrap_or(Step::Act(Action::Remove { node, name }))
            }
            Lifecycle::Draining | Lifecycle::Lost => Step::Wait(Waiting::Draining {
                ordinal,
                replicas: member.placed,
                obstacles: self.members.obstacles.clone(),
            }),
        })
    }

    /// The volume of a pod that is gone.
    fn discard(&self, ordinal: Ordinal) -> Option<Step> {
        let claim = self
            .observed
            .claims
            .get(&ordinal)
            .filter(|claim| !claim.is_terminating)?;
        Some(Step::Act(Action::DiscardVolume {
            ordinal,
            claim_uid: claim.uid.clone(),
            pod_uid: None,
        }))
    }
}
