//! What people and programs are told.
//!
//! Invariants: a function of what was seen and decided; every condition is always there, speaks of one
//! generation, and keeps its `lastTransitionTime` while its status stays. `Available` is about serving,
//! `Progressing` about being as the spec says.

use std::collections::BTreeMap;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};

use super::{
    apply::ApplyError,
    build::{endpoint, selector},
    observed::{Lifecycle, Members, Observed, PodPhase},
    plan::{Plan, Refusal, Step},
    validate::Valid,
};
use crate::crd::v1alpha1::{
    Condition, ConditionKind, NodeReport, ShardSummary, SyncCluster, SyncClusterStatus,
};

/// What came of a reconcile.
#[derive(Debug)]
pub enum Outcome<'a> {
    /// The spec cannot be acted upon, and none before it could, in words.
    Invalid(&'a str),
    /// What there is could not be read, for some time now, in words.
    Unread(&'a str),
    /// It was acted upon.
    Valid {
        /// The spec.
        valid: &'a Valid,
        /// What was seen.
        observed: &'a Observed,
        /// What was decided.
        plan: &'a Plan,
        /// Why it was not carried out, if it was not.
        failure: Option<&'a str>,
        /// Objects that could not be applied, and that the cluster is kept without.
        missing: &'a [ApplyError],
        /// What is wrong with the spec, where this was the last one that was valid.
        invalid: Option<&'a str>,
    },
}

/// A condition before it is dated.
struct Verdict {
    kind: ConditionKind,
    status: Truth,
    reason: &'static str,
    message: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
    const fn of(truth: bool) -> Self {
        if truth { Self::True } else { Self::False }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// The status that follows.
#[must_use]
pub fn status(cluster: &SyncCluster, outcome: &Outcome<'_>, now: Timestamp) -> SyncClusterStatus {
    let generation = cluster.metadata.generation;
    let mut status = cluster.status.clone().unwrap_or_default();
    let verdicts = match outcome {
        Outcome::Invalid(why) => {
            INVALID.clone_into(&mut status.phase);
            unknown(INVALID, why)
        }
        Outcome::Unread(why) => {
            UNREADABLE.clone_into(&mut status.phase);
            unknown(UNREADABLE, why)
        }
        Outcome::Valid {
            valid,
            observed,
            plan,
            failure,
            missing,
            invalid,
        } => {
            describe(&mut status, valid, observed, plan);
            let mut verdicts = judge(valid, observed, plan, *failure, missing);
            if let Some(why) = invalid {
                verdicts.iter_mut().for_each(|verdict| spoil(verdict, why));
            }
            verdicts
        }
    };
    if let Some(Verdict { reason, .. }) = verdicts
        .iter()
        .find(|verdict| verdict.kind == ConditionKind::Progressing)
        && let Outcome::Valid { plan, invalid, .. } = outcome
    {
        let phase = if invalid.is_some() {
            INVALID
        } else if plan.step == Step::Done {
            "Running"
        } else {
            reason
        };
        phase.clone_into(&mut status.phase);
    }
    status.observed_generation = generation;
    let before = std::mem::take(&mut status.conditions);
    status.conditions = verdicts
        .into_iter()
        .map(|verdict| date(verdict, &before, generation, now))
        .collect();
    status
}

/// Keeps the time of a condition whose status is as before.
fn date(
    verdict: Verdict,
    before: &[Condition],
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = verdict.status.name();
    let same = before
        .iter()
        .find(|condition| condition.kind == verdict.kind && condition.status == status);
    Condition {
        kind: verdict.kind,
        status: status.to_owned(),
        reason: verdict.reason.to_owned(),
        message: verdict.message,
        observed_generation: generation,
        last_transition_time: same.map_or(Time(now), |condition| {
            condition.last_transition_time.clone()
        }),
    }
}

const INVALID: &str = "InvalidSpec";
const UNREADABLE: &str = "Unreadable";

/// Nothing is known about the cluster, beyond why.
fn unknown(reason: &'static str, why: &str) -> Vec<Verdict> {
    let verdict = |kind, status| Verdict {
        kind,
        status,
        reason,
        message: why.to_owned(),
    };
    vec![
        verdict(ConditionKind::Available, Truth::Unknown),
        verdict(ConditionKind::Progressing, Truth::False),
        verdict(ConditionKind::Degraded, Truth::True),
        verdict(ConditionKind::QuorumHealthy, Truth::Unknown),
        verdict(ConditionKind::DataBalanced, Truth::Unknown),
        verdict(ConditionKind::StorageReady, Truth::Unknown),
    ]
}

/// The spec is not valid, and the cluster is kept by the last one that was: what is known of it stays so.
fn spoil(verdict: &mut Verdict, why: &str) {
    match verdict.kind {
        ConditionKind::Degraded if verdict.status == Truth::True => {
            verdict.message = format!("{why}; besides, {}: {}", verdict.reason, verdict.message);
            verdict.reason = INVALID;
        }
        ConditionKind::Degraded => {
            verdict.status = Truth::True;
            verdict.reason = INVALID;
            why.clone_into(&mut verdict.message);
        }
        ConditionKind::Progressing if verdict.status != Truth::True => {
            verdict.reason = INVALID;
            why.clone_into(&mut verdict.message);
        }
        ConditionKind::Progressing
        | ConditionKind::Available
        | ConditionKind::QuorumHealthy
        | ConditionKind::DataBalanced
        | ConditionKind::StorageReady => {}
    }
}

fn describe(status: &mut SyncClusterStatus, valid: &Valid, observed: &Observed, plan: &Plan) {
    let labels = selector(&valid.name);
    let labels: Vec<String> = labels
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    status.selector = labels.join(",");
    status.endpoint = endpoint(valid);
    status.current_image = running_image(observed).unwrap_or_default();
    status.current_nodes = plan.replicas;
    let ready = observed
        .pods
        .values()
        .filter(|pod| pod.phase == PodPhase::Ready)
        .count();
    status.ready_nodes = u32::try_from(ready).unwrap_or(u32::MAX);
    let Some(members) = &observed.members else {
        for node in &mut status.nodes {
            node.ready = false;
        }
        return;
    };
    status.nodes = report(members);
    let count = |shards: usize| u32::try_from(shards).unwrap_or(u32::MAX);
    let factor = valid.desired.replication_factor as usize;
    let shards = members.shards.iter();
    status.shards = ShardSummary {
        total: count(members.shards.len()),
        leaderless: count(
            shards
                .clone()
                .filter(|shard| shard.leader.is_none())
                .count(),
        ),
        under_replicated: count(
            shards
                .filter(|shard| {
                    let good = shard
                        .replicas
                        .iter()
                        .filter(|replica| members.is_good(replica))
                        .count();
                    good < factor.max(shard.voters())
                })
                .count(),
        ),
    };
}

/// The image that most nodes run.
fn running_image(observed: &Observed) -> Option<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for image in observed
        .pods
        .values()
        .filter_map(|pod| pod.image.as_deref())
    {
        *counts.entry(image).or_default() += 1;
    }
    let most = counts.into_iter().max_by_key(|(_, count)| *count);
    most.map(|(image, _)| image.to_owned())
}

fn report(members: &Members) -> Vec<NodeReport> {
    let mut nodes: Vec<NodeReport> = members
        .nodes
        .iter()
        .map(|(id, member)| {
            let replicas = members.shards.iter().flat_map(|shard| &shard.replicas);
            let lag = replicas
                .filter(|replica| replica.node == *id)
                .map(|replica| replica.lag)
                .max();
            NodeReport {
                name: member.name.clone(),
                id: *id,
                ready: member.is_reachable && member.is_ready,
                lifecycle: match member.lifecycle {
                    Lifecycle::Active => "Active",
                    Lifecycle::Draining => "Draining",
                    Lifecycle::Lost => "Lost",
                }
                .to_owned(),
                version: member.version.clone(),
                shards_led: member.led,
                shards_held: member.held,
                lag: coarse(lag.unwrap_or(0)),
                zone: member.zone.clone(),
            }
        })
        .collect();
    nodes.sort_by_key(|node| (node.name.len(), node.name.clone(), node.id));
    nodes
}

/// Rounds down so far that a busy cluster's status is not written all the time: 0 below 100, and powers
/// of ten above.
fn coarse(lag: u64) -> u64 {
    match lag.checked_ilog10() {
        Some(digits) if digits >= 2 => 10_u64.saturating_pow(digits),
        Some(_) | None => 0,
    }
}

fn judge(
    valid: &Valid,
    observed: &Observed,
    plan: &Plan,
    failure: Option<&str>,
    missing: &[ApplyError],
) -> Vec<Verdict> {
    vec![
        available(observed),
        progressing(plan, failure),
        degraded(observed, plan, failure, missing),
        quorum(observed),
        balanced(valid, observed),
        storage(valid, observed),
    ]
}

const SILENT: &str = "no member of the cluster answers the operator";

fn available(observed: &Observed) -> Verdict {
    let kind = ConditionKind::Available;
    let Some(members) = &observed.members else {
        return Verdict {
            kind,
            status: Truth::False,
            reason: "NoMemberAnswers",
            message: SILENT.to_owned(),
        };
    };
    let leaderless = members
        .shards
        .iter()
        .filter(|shard| shard.leader.is_none())
        .count();
    let ready = observed
        .pods
        .values()
        .filter(|pod| pod.phase == PodPhase::Ready)
        .count();
    if members.shards.is_empty() || leaderless > 0 {
        let message = format!(
            "{leaderless} of {} shards have no leader",
            members.shards.len()
        );
        return Verdict {
            kind,
            status: Truth::False,
            reason: "ShardsWithoutLeader",
            message,
        };
    }
    if ready == 0 {
        let message = "no pod is ready, so that clients are led to none".to_owned();
        return Verdict {
            kind,
            status: Truth::False,
            reason: "NoPodReady",
            message,
        };
    }
    let message = format!("all {} shards have a leader", members.shards.len());
    Verdict {
        kind,
        status: Truth::True,
        reason: "Serving",
        message,
    }
}

fn progressing(plan: &Plan, failure: Option<&str>) -> Verdict {
    let (status, reason, message) = match (&plan.step, failure) {
        (Step::Act(action), Some(failure)) => (Truth::True, action.reason(), failure.to_owned()),
        (_, Some(failure)) => (Truth::True, "Failing", failure.to_owned()),
        (Step::Act(action), None) => (Truth::True, action.reason(), action.to_string()),
        (Step::Wait(waiting), None) => (
            Truth::of(!waiting.is_final()),
            waiting.reason(),
            waiting.to_string(),
        ),
        (Step::Refuse(refusal), None) => (Truth::False, refusal.reason(), refusal.to_string()),
        (Step::Done, None) => (
            Truth::False,
            "AsWanted",
            "the cluster is as its spec says".to_owned(),
        ),
    };
    Verdict {
        kind: ConditionKind::Progressing,
        status,
        reason,
        message,
    }
}

fn degraded(
    observed: &Observed,
    plan: &Plan,
    failure: Option<&str>,
    missing: &[ApplyError],
) -> Verdict {
    let kind = ConditionKind::Degraded;
    if let Some(failure) = failure {
        return Verdict {
            kind,
            status: Truth::True,
            reason: "Failing",
            message: failure.to_owned(),
        };
    }
    if let Step::Refuse(refusal) = &plan.step
        && *refusal != Refusal::Paused
    {
        return Verdict {
            kind,
            status: Truth::True,
            reason: refusal.reason(),
            message: refusal.to_string(),
        };
    }
    let away = observed
        .members
        .iter()
        .flat_map(|members| members.nodes.values());
    let away: Vec<&str> = away
        .filter(|member| !member.is_reachable)
        .map(|member| member.name.as_str())
        .collect();
    if !away.is_empty() {
        let message = format!("{} do not answer", away.join(", "));
        return Verdict {
            kind,
            status: Truth::True,
            reason: "NodesAway",
            message,
        };
    }
    if let Some(first) = missing.first() {
        let all: Vec<String> = missing.iter().map(ToString::to_string).collect();
        return Verdict {
            kind,
            status: Truth::True,
            reason: first.reason(),
            message: all.join("; "),
        };
    }
    Verdict {
        kind,
        status: Truth::False,
        reason: "AllWell",
        message: "every node answers".to_owned(),
    }
}

fn quorum(observed: &Observed) -> Verdict {
    let kind = ConditionKind::QuorumHealthy;
    let Some(members) = &observed.members else {
        return Verdict {
            kind,
            status: Truth::Unknown,
            reason: "NoMemberAnswers",
            message: SILENT.to_owned(),
        };
    };
    let lost: Vec<String> = members
        .shards
        .iter()
        .filter(|shard| !members.has_majority(shard))
        .map(|shard| shard.id.to_string())
        .collect();
    if lost.is_empty() {
        let message = "every shard has a majority of its replicas".to_owned();
        return Verdict {
            kind,
            status: Truth::True,
            reason: "Majorities",
            message,
        };
    }
    let message = format!(
        "shards {} have no majority; see `lockstepctl status`",
        lost.join(", ")
    );
    Verdict {
        kind,
        status: Truth::False,
        reason: "QuorumLost",
        message,
    }
}

fn balanced(valid: &Valid, observed: &Observed) -> Verdict {
    let kind = ConditionKind::DataBalanced;
    let Some(members) = &observed.members else {
        return Verdict {
            kind,
            status: Truth::Unknown,
            reason: "NoMemberAnswers",
            message: SILENT.to_owned(),
        };
    };
    let factor = valid.desired.replication_factor as usize;
    let is_short = members.shards.iter().any(|shard| shard.voters() < factor);
    if members.is_settled && !is_short {
        let message = "every shard has its replicas where they should be".to_owned();
        return Verdict {
            kind,
            status: Truth::True,
            reason: "Balanced",
            message,
        };
    }
    let first = members.obstacles.first().cloned();
    let message = first.unwrap_or_else(|| "replicas are being moved".to_owned());
    Verdict {
        kind,
        status: Truth::False,
        reason: "Moving",
        message,
    }
}

fn storage(valid: &Valid, observed: &Observed) -> Verdict {
    let kind = ConditionKind::StorageReady;
    let bytes = valid.desired.storage_bytes;
    let mut claims = observed.claims.values();
    if let Some(refused) = &observed.refused_growth
        && refused.bytes == bytes
        && claims.any(|claim| claim.requested_bytes < bytes)
    {
        return Verdict {
            kind,
            status: Truth::False,
            reason: "GrowthRefused",
            message: refused.why.clone(),
        };
    }
    let small = observed
        .claims
        .iter()
        .filter(|(_, claim)| claim.capacity_bytes < claim.requested_bytes);
    let small: Vec<String> = small.map(|(ordinal, _)| ordinal.to_string()).collect();
    if small.is_empty() {
        let message = "every volume has its size".to_owned();
        return Verdict {
            kind,
            status: Truth::True,
            reason: "Sized",
            message,
        };
    }
    let message = format!(
        "the volumes of pods {} are not bound, or not as large as asked for, yet",
        small.join(", ")
    );
    Verdict {
        kind,
        status: Truth::False,
        reason: "VolumesPending",
        message,
    }
}

#[cfg(test)]
mod tests;
