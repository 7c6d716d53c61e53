//! What to do next: a function of what is wanted and what there is.
//!
//! Invariants, for which a simulation in `plan/tests` looks:
//! - At most one voluntary disruption: nothing that serves is taken away while anything else is.
//! - No shard loses its majority by what is asked for here.
//! - There is always a step, a named condition that is waited for, or a named refusal.
//!
//! The order is one of urgency: pods that a bad template keeps from starting, larger volumes (a full disk
//! is cured by nothing else), what is broken, what was begun, more nodes, fewer nodes, and only then new
//! templates for pods that serve. Quorum loss is never repaired by guessing. Sources: the predicates of Elastic's
//! StatefulSet driver (a named refusal each), and Strimzi's check of the quorum without the node.

mod finish;
mod grow;
mod repair;
mod roll;
mod shrink;
mod step;

use std::time::Duration;

pub use step::{Action, Plan, Refusal, Step, Waiting};

use super::{
    identity::Identity,
    observed::{Lifecycle, Members, Observed, Ordinal, PodPhase, Set},
};

/// After so long a pod that does not start is said to be stuck: a machine, a volume, an image or a Secret may
/// come some seconds after it.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(30);

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// How many nodes.
    pub nodes: u32,
    /// Voters of each shard.
    pub replication_factor: u32,
    /// The size of each volume, in bytes.
    pub storage_bytes: u64,
    /// After how long a node that is away is replaced; none: never.
    pub replace_after: Option<Duration>,
    /// Whether it runs at all.
    pub state: RunState,
}

/// Whether a cluster runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It is kept as its spec says.
    Running,
    /// Nothing is changed.
    Paused,
    /// It has no pods.
    Stopped,
}

/// A cluster whose set exists and whose members answer.
struct Situation<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    set: &'a Set,
    members: &'a Members,
}

/// What to do next.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed) -> Plan {
    let Some(set) = &observed.set else {
        return found(desired, observed);
    };
    let keep = |step| Plan {
        replicas: set.replicas,
        storage_bytes: set.storage_bytes,
        leaving: set.leaving,
        step,
    };
    if let Some(plan) = number_of_pods(desired, observed, set) {
        return plan;
    }
    // Serves nobody: it may go at any time, and has to, or a bad template could never be taken back.
    if let Some(action) = roll::release_outdated(set, observed) {
        return keep(Step::Act(action));
    }
    if let Some(action) = repair::release_without_volume(observed) {
        return keep(Step::Act(action));
    }
    // What a full disk has stopped answers nobody, and only more room helps.
    if let Some(action) = grow::enlarge(desired, observed) {
        return keep(Step::Act(action));
    }
    if let Identity::Agreed(id) = &observed.identity {
        return keep(Step::Act(Action::PinCluster(id.clone())));
    }
    let Some(members) = &observed.members else {
        return keep(silence(set, observed));
    };
    let situation = Situation {
        desired,
        observed,
        set,
        members,
    };
    let begun = situation
        .without_majority()
        .or_else(|| situation.repair())
        .or_else(|| situation.finish_shrink());
    if let Some(step) = begun {
        return Plan {
            leaving: situation.leaving(),
            ..keep(step)
        };
    }
    if let Some(plan) = situation.resize() {
        return plan;
    }
    // No drain of ours is under way any more.
    Plan {
        leaving: None,
        ..keep(situation.maintain())
    }
}

/// What to do about the set as a whole: that it stands still, stops, starts, or has not the number of pods
/// that it was given.
fn number_of_pods(desired: &Desired, observed: &Observed, set: &Set) -> Option<Plan> {
    let keep = |step| Plan {
        replicas: set.replicas,
        storage_bytes: set.storage_bytes,
        leaving: set.leaving,
        step,
    };
    if desired.state == RunState::Paused {
        return Some(keep(Step::Refuse(Refusal::Paused)));
    }
    if set.is_terminating {
        return Some(keep(Step::Wait(Waiting::SetTerminating)));
    }
    if desired.state == RunState::Stopped {
        let waiting = if observed.pods.is_empty() {
            Waiting::Stopped
        } else {
            Waiting::Stopping
        };
        return Some(Plan {
            replicas: 0,
            ..keep(Step::Wait(waiting))
        });
    }
    if set.recorded.unwrap_or(set.replicas) == 0 {
        let replicas = first_replicas(desired, observed).max(set.replicas);
        return Some(Plan {
            replicas,
            ..keep(Step::Wait(Waiting::Creating))
        });
    }
    if let Some(recorded) = set.recorded.filter(|recorded| *recorded != set.replicas) {
        // More pods may have joined, and then hold data: they leave in order, as by a smaller spec.
        let replicas = recorded.max(set.replicas);
        let found = set.replicas;
        return Some(Plan {
            replicas,
            ..keep(Step::Act(Action::UndoScale { found, recorded }))
        });
    }
    None
}

/// There is no set: it is made, unless nothing may be.
fn found(desired: &Desired, observed: &Observed) -> Plan {
    let replicas = first_replicas(desired, observed);
    let (replicas, step) = match desired.state {
        RunState::Running => (replicas, Step::Wait(Waiting::Creating)),
        RunState::Paused => (replicas, Step::Refuse(Refusal::Paused)),
        RunState::Stopped => (0, Step::Wait(Waiting::Stopped)),
    };
    Plan {
        replicas,
        storage_bytes: desired.storage_bytes,
        leaving: None,
        step,
    }
}

/// How many pods a set begins with: those whose data there is, for all members are needed before any
/// may leave in order.
fn first_replicas(desired: &Desired, observed: &Observed) -> u32 {
    let claims = observed.claims.keys().next_back();
    let pods = observed.pods.keys().next_back();
    let highest = claims
        .max(pods)
        .map_or(0, |ordinal| ordinal.saturating_add(1));
    desired.nodes.max(highest)
}

/// No member answers: what is waited for, or what is in the way.
fn silence(set: &Set, observed: &Observed) -> Step {
    if let Some(refusal) = stuck(observed) {
        return Step::Refuse(refusal);
    }
    let missing = not_serving(set, observed);
    match (&observed.identity, foreign(observed)) {
        (Identity::Pinned(_) | Identity::Agreed(_), Some(refusal)) => Step::Refuse(refusal),
        _ if !missing.is_empty() => Step::Wait(Waiting::PodsStarting(missing)),
        (_, None) => Step::Refuse(Refusal::MembersSilent),
        (_, Some(refusal)) => match unheard_of(set, observed) {
            Some(pods) => Step::Wait(Waiting::Joining(pods)),
            None => Step::Refuse(refusal),
        },
    }
}

/// Of a cluster whose id is not known: the pods that have not answered, if all that have agree.
fn unheard_of(set: &Set, observed: &Observed) -> Option<Vec<Ordinal>> {
    let heard = &observed.strangers;
    let first = heard.first()?;
    let agree = heard.iter().all(|pod| pod.cluster == first.cluster);
    let answers = |ordinal: &Ordinal| heard.iter().any(|pod| pod.ordinal == *ordinal);
    let silent = (0..set.replicas).filter(|ordinal| !answers(ordinal));
    agree.then(|| silent.collect())
}

/// A pod whose node is of another cluster.
fn foreign(observed: &Observed) -> Option<Refusal> {
    let stranger = observed.strangers.first()?;
    Some(Refusal::ForeignAnswer {
        stranger: stranger.clone(),
        pinned: observed.identity.id().cloned(),
    })
}

/// A pod that is not made, or does not start, and why.
fn stuck(observed: &Observed) -> Option<Refusal> {
    let mut uncreated = observed.uncreated.iter();
    let missed = uncreated.find(|(_, pod)| pod.missed >= STUCK_AFTER);
    if let Some((ordinal, pod)) = missed {
        return Some(Refusal::PodNotCreated {
            ordinal: *ordinal,
            why: pod.why.clone(),
        });
    }
    let mut troubled = observed
        .pods
        .iter()
        .filter(|(_, pod)| pod.troubled >= STUCK_AFTER);
    troubled.find_map(|(ordinal, pod)| match &pod.phase {
        PodPhase::Stuck(why) | PodPhase::Unschedulable(why) => Some(Refusal::PodStuck {
            ordinal: *ordinal,
            why: why.clone(),
        }),
        PodPhase::Ready | PodPhase::Impaired(_) | PodPhase::NotReady | PodPhase::Terminating => {
            None
        }
    })
}

/// A pod whose node serves, and something else in it does not.
fn impaired(observed: &Observed) -> Option<Refusal> {
    observed.pods.iter().find_map(|(ordinal, pod)| {
        let PodPhase::Impaired(why) = &pod.phase else {
            return None;
        };
        Some(Refusal::PodStuck {
            ordinal: *ordinal,
            why: why.clone(),
        })
    })
}

/// The pods that should serve and do not.
fn not_serving(set: &Set, observed: &Observed) -> Vec<Ordinal> {
    let serves = |ordinal: &Ordinal| {
        let pod = observed.pods.get(ordinal);
        pod.is_some_and(|pod| pod.phase.serves())
    };
    (0..set.replicas)
        .filter(|ordinal| !serves(ordinal))
        .collect()
}

impl Situation<'_> {
    /// The pod whose member is being emptied, as long as that is the same member: a drain of one that takes
    /// its place is not ours.
    fn leaving(&self) -> Option<Ordinal> {
        let ordinal = self.set.leaving?;
        let members = self.members.nodes.values();
        let mut named = members.filter(|member| member.ordinal == Some(ordinal));
        let member = named.next()?;
        (named.next().is_none() && member.lifecycle != Lifecycle::Lost).then_some(ordinal)
    }

    /// Some shard has no majority: nothing may be changed, except by a person.
    fn without_majority(&self) -> Option<Step> {
        let lost = self
            .members
            .shards
            .iter()
            .filter(|shard| !self.members.has_majority(shard));
        let shards: Vec<u32> = lost.map(|shard| shard.id).collect();
        if shards.is_empty() {
            return None;
        }
        let named = |is_reachable: bool| {
            let members = self.members.nodes.values();
            members
                .filter(|member| member.is_reachable == is_reachable)
                .map(|member| member.name.clone())
                .collect()
        };
        Some(Step::Refuse(Refusal::QuorumLost {
            shards,
            nodes: named(false),
            left: named(true),
        }))
    }

    /// The first shard that would have no majority without a member.
    fn endangered_by(&self, node: u64) -> Option<u32> {
        let mut concerned = self
            .members
            .shards
            .iter()
            .filter(|shard| shard.is_voter(node));
        concerned
            .find(|shard| !self.members.survives_without(shard, node))
            .map(|shard| shard.id)
    }

    /// The same number of nodes: are all there, and as they should be?
    fn maintain(&self) -> Step {
        if let Some(step) = self.absent() {
            return match (step, foreign(self.observed)) {
                (Step::Wait(_), Some(refusal)) => Step::Refuse(refusal),
                (step, _) => step,
            };
        }
        self.recreate_set()
            .or_else(|| self.roll_serving())
            .or_else(|| impaired(self.observed).map(Step::Refuse))
            .or_else(|| foreign(self.observed).map(Step::Refuse))
            .or_else(|| grow::refused(self.desired, self.observed).map(Step::Refuse))
            .unwrap_or_else(|| self.balanced())
    }

    /// Who is not there.
    fn absent(&self) -> Option<Step> {
        let missing = not_serving(self.set, self.observed);
        if !missing.is_empty() {
            return Some(match stuck(self.observed) {
                Some(refusal) => Step::Refuse(refusal),
                None => Step::Wait(Waiting::PodsStarting(missing)),
            });
        }
        let serves = |ordinal: &Ordinal| {
            let member = self.members.of(*ordinal);
            member.is_some_and(|(_, member)| member.is_reachable && member.is_ready)
        };
        let joining: Vec<Ordinal> = (0..self.set.replicas)
            .filter(|ordinal| !serves(ordinal))
            .collect();
        (!joining.is_empty()).then_some(Step::Wait(Waiting::Joining(joining)))
    }

    fn balanced(&self) -> Step {
        if !self.members.is_settled {
            return Step::Wait(Waiting::Balancing(self.members.obstacles.clone()));
        }
        let whole = self
            .members
            .shards
            .iter()
            .find(|shard| !self.members.is_whole(shard));
        whole.map_or(Step::Done, |shard| {
            Step::Wait(Waiting::CatchingUp(shard.id))
        })
    }
}

#[cfg(test)]
mod tests;
