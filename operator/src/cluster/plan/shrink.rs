//! Another number of nodes.
//!
//! Invariant: pods are only taken away one at a time, from the highest, each only after the members
//! themselves say that it holds nothing. More pods may come at once: they disturb nobody.

use super::{Action, Plan, Refusal, Situation, Step, Waiting, foreign};
use crate::cluster::observed::{Lifecycle, Ordinal};

impl Situation<'_> {
    /// The next step to the wanted number of nodes, if there is one.
    pub(super) fn resize(&self) -> Option<Plan> {
        let last = self.set.replicas.checked_sub(1)?;
        let plan = |leaving, step| Plan {
            replicas: self.set.replicas,
            storage_bytes: self.set.storage_bytes,
            leaving,
            step,
        };
        if self.desired.nodes >= self.set.replicas {
            if let Some(action) = self.stay_after_all() {
                return Some(plan(self.set.leaving, Step::Act(action)));
            }
            return (self.desired.nodes > self.set.replicas).then(|| Plan {
                replicas: self.desired.nodes,
                ..plan(
                    None,
                    Step::Act(Action::Resize {
                        from: self.set.replicas,
                        to: self.desired.nodes,
                    }),
                )
            });
        }
        let fewer = Plan {
            replicas: last,
            ..plan(
                None,
                Step::Act(Action::Resize {
                    from: self.set.replicas,
                    to: last,
                }),
            )
        };
        if let Some(refusal) = self.anothers(last) {
            return Some(plan(self.set.leaving, Step::Refuse(refusal)));
        }
        let Some((node, member)) = self.members.of(last) else {
            return Some(fewer);
        };
        match member.lifecycle {
            Lifecycle::Active => match self.may_drain(node, last) {
                Ok(()) => Some(plan(
                    Some(last),
                    Step::Act(Action::Drain {
                        node,
                        ordinal: last,
                    }),
                )),
                Err(Some(step)) => Some(plan(None, step)),
                // Whoever is not there comes first.
                Err(None) => None,
            },
            Lifecycle::Draining | Lifecycle::Lost => {
                let held = if member.is_reachable { member.held } else { 0 };
                let replicas = member.placed.max(held);
                if replicas == 0 {
                    return Some(fewer);
                }
                // A drain that a person asked for does what is wanted, and stays theirs.
                Some(plan(
                    self.leaving().filter(|leaving| *leaving == last),
                    Step::Wait(Waiting::Draining {
                        ordinal: last,
                        replicas,
                        obstacles: self.members.obstacles.clone(),
                    }),
                ))
            }
        }
    }

    /// The volume of a pod that goes is discarded, and another cluster's is not ours to discard.
    fn anothers(&self, ordinal: Ordinal) -> Option<Refusal> {
        let mut strangers = self.observed.strangers.iter();
        let is_stranger = strangers.any(|stranger| stranger.ordinal == ordinal);
        foreign(self.observed).filter(|_| is_stranger)
    }

    /// The member whose drain a scale-down asked for, and that is wanted again.
    fn stay_after_all(&self) -> Option<Action> {
        let ordinal = self.set.leaving?;
        let (node, member) = self.members.of(ordinal)?;
        match member.lifecycle {
            Lifecycle::Draining => Some(Action::Activate { node, ordinal }),
            Lifecycle::Active | Lifecycle::Lost => None,
        }
    }

    /// May a member be emptied? Every other one has to be there, or what is moved away from here might
    /// be moved to where nobody is. It serves until it is empty; if it does not serve at all, the others
    /// have to be a majority already.
    fn may_drain(&self, node: u64, ordinal: Ordinal) -> Result<(), Option<Step>> {
        if self.absent_but(ordinal) {
            return Err(None);
        }
        let member = self.members.nodes.get(&node);
        if member.is_some_and(|member| member.is_reachable) {
            return Ok(());
        }
        let Some(shard) = self.endangered_by(node) else {
            return Ok(());
        };
        let name = member.map_or_else(String::new, |member| member.name.clone());
        Err(Some(Step::Refuse(Refusal::WouldLoseMajority {
            name,
            shard,
        })))
    }

    /// Is any pod but this one without a member that serves?
    fn absent_but(&self, but: Ordinal) -> bool {
        (0..self.set.replicas)
            .filter(|ordinal| *ordinal != but)
            .any(|ordinal| {
                let member = self.members.of(ordinal);
                !member.is_some_and(|(_, member)| member.is_reachable && member.is_ready)
            })
    }
}
