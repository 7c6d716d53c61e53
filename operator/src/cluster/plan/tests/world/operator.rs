//! What the operator does, and whether it may.

use super::{Action, Lifecycle, Plan, RefusedGrowth, RunState, World, WorldClaim, WorldSet};

impl World {
    pub(super) fn apply(&mut self, decided: &Plan) {
        if let Some(set) = &self.set
            && decided.replicas < set.replicas
            && self.desired.state == RunState::Running
        {
            for ordinal in decided.replicas..set.replicas {
                for (id, _) in self
                    .members
                    .iter()
                    .filter(|(_, member)| member.ordinal == ordinal)
                {
                    assert_eq!(
                        self.placed(*id),
                        0,
                        "pod {ordinal} goes, and holds replicas"
                    );
                }
            }
            assert_eq!(set.replicas - decided.replicas, 1, "one at a time");
        }
        let set = self.set.get_or_insert(WorldSet {
            replicas: 0,
            recorded: 0,
            revision: self.template,
            storage: decided.storage_bytes,
            leaving: None,
        });
        assert_eq!(
            set.storage, decided.storage_bytes,
            "a template's volumes cannot be changed"
        );
        set.replicas = decided.replicas;
        set.recorded = decided.replicas;
        set.revision = self.template;
        set.leaving = decided.leaving;
        self.kubernetes();
    }

    fn assert_nothing_else_is_away(&self, but: u32, what: &str) {
        let set = self.set.as_ref().unwrap();
        for ordinal in (0..set.replicas).filter(|ordinal| *ordinal != but) {
            let serves = self.pods.get(&ordinal).is_some_and(|pod| pod.is_serving);
            assert!(serves, "{what} of pod {but} while pod {ordinal} is away");
        }
    }

    fn claim_of(&self, id: u64) -> Option<&WorldClaim> {
        let mut claims = self.claims.values();
        claims.find(|claim| claim.disk == Some(id))
    }

    fn assert_majorities_without(&self, id: u64, what: &str) {
        for shard in self.shards.iter().filter(|shard| shard.contains_key(&id)) {
            let good = shard
                .iter()
                .filter(|(other, lag)| **other != id && **lag == 0 && self.serves(**other));
            assert!(
                good.count() > shard.len() / 2,
                "{what} of {id} takes a majority: {shard:?}"
            );
        }
    }

    pub(super) fn carry_out(&mut self, action: &Action) {
        let needs_id = match action {
            Action::Drain { .. }
            | Action::Activate { .. }
            | Action::Reinstate { .. }
            | Action::Replace { .. }
            | Action::Remove { .. }
            | Action::DiscardVolume { .. }
            | Action::RestartPod { .. } => true,
            Action::PinCluster(_)
            | Action::Resize { .. }
            | Action::UndoScale { .. }
            | Action::ReleasePod { .. }
            | Action::GrowVolumes { .. }
            | Action::RecreateSet => false,
        };
        assert!(
            !needs_id || self.is_pinned,
            "{action:?} before the id is known"
        );
        match action {
            Action::PinCluster(_) => self.is_pinned = true,
            // Already applied.
            Action::Resize { .. } | Action::UndoScale { .. } => {}
            Action::Drain { node, ordinal } => {
                if self.set.as_ref().is_some_and(|set| *ordinal < set.replicas) {
                    self.assert_nothing_else_is_away(*ordinal, "a drain");
                }
                let member = self.members.get_mut(node).unwrap();
                assert_eq!(member.lifecycle, Lifecycle::Active);
                member.lifecycle = Lifecycle::Draining;
            }
            Action::Activate { node, .. } => {
                assert!(
                    !self.by_hand.contains(node),
                    "a person's drain was cancelled"
                );
                self.members.get_mut(node).unwrap().lifecycle = Lifecycle::Active;
            }
            Action::Reinstate { node, .. } => {
                assert!(self.serves(*node), "{node} is not back");
                let member = self.members.get_mut(node).unwrap();
                assert_eq!(member.lifecycle, Lifecycle::Lost);
                member.lifecycle = Lifecycle::Active;
            }
            Action::Replace { node, volume, .. } => {
                if let Some(claim) = volume.and_then(|ordinal| self.claims.get_mut(&ordinal)) {
                    claim.noted = Some(*node);
                }
                assert!(!self.serves(*node), "{node} serves and is declared lost");
                self.assert_majorities_without(*node, "the loss");
                let claim = self.claim_of(*node);
                let is_gone = claim.is_none_or(|claim| self.is_away(claim));
                assert!(is_gone, "{node} is declared lost, and its machine is there");
                let lost = self
                    .members
                    .values()
                    .filter(|member| member.lifecycle == Lifecycle::Lost);
                assert_eq!(lost.count(), 0, "two are replaced at once");
                self.members.get_mut(node).unwrap().lifecycle = Lifecycle::Lost;
            }
            Action::Remove { node, .. } => {
                assert_eq!(
                    self.placed(*node),
                    0,
                    "{node} holds replicas and is removed"
                );
                assert_ne!(self.members[node].lifecycle, Lifecycle::Active);
                self.members.remove(node);
            }
            Action::DiscardVolume {
                ordinal, claim_uid, ..
            } => {
                let claim = &self.claims[ordinal];
                assert_eq!(claim.uid.to_string(), *claim_uid);
                // Of one whose node does not answer nobody can tell.
                let is_told = self.is_foreign(*ordinal);
                assert!(!is_told, "another cluster's data is deleted");
                if let Some((id, member)) =
                    claim.disk.and_then(|id| Some((id, self.members.get(&id)?)))
                {
                    let is_empty = member.lifecycle == Lifecycle::Draining && self.placed(id) == 0;
                    assert!(
                        is_empty || member.lifecycle == Lifecycle::Lost,
                        "a member's data is deleted"
                    );
                    if !is_empty {
                        self.assert_majorities_without(id, "the end of the volume");
                    }
                }
                self.claims.remove(ordinal);
                self.pods.remove(ordinal);
            }
            Action::ReleasePod {
                ordinal,
                uid,
                version,
            } => {
                assert_eq!(self.pods[ordinal].uid.to_string(), *uid);
                // It may have become ready since it was seen: Kubernetes compares.
                if self.pods[ordinal].version() == *version {
                    assert!(
                        !self.pods[ordinal].is_serving,
                        "pod {ordinal} serves and is deleted as if it did not"
                    );
                    self.pods.remove(ordinal);
                }
            }
            Action::RestartPod {
                ordinal, uid, node, ..
            } => {
                assert_eq!(self.pods[ordinal].uid.to_string(), *uid);
                self.assert_nothing_else_is_away(*ordinal, "a restart");
                self.assert_majorities_without(*node, "a restart");
                self.pods.remove(ordinal);
            }
            Action::GrowVolumes { bytes, .. } if !self.can_grow => {
                let why = "the class does not allow it".to_owned();
                self.refused_growth = Some(RefusedGrowth { bytes: *bytes, why });
            }
            Action::GrowVolumes { ordinals, bytes } => {
                for ordinal in ordinals {
                    let claim = self.claims.get_mut(ordinal).unwrap();
                    claim.requested = *bytes;
                    claim.is_full = false;
                }
            }
            Action::RecreateSet => self.set = None,
        }
    }
}
