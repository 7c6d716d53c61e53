//! Conditions say what is, of the generation that they name.

use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::{Outcome, coarse, status};
use crate::{
    cluster::{
        observed::Observed,
        plan::{Plan, Refusal, Step, Waiting},
        validate::validate,
    },
    crd::v1alpha1::{ConditionKind, SyncCluster, SyncClusterStatus},
};

fn cluster(generation: i64, status: Option<SyncClusterStatus>) -> SyncCluster {
    let mut cluster: SyncCluster = serde_json::from_value(json!({
        "apiVersion": "lockstep.dev/v1alpha1", "kind": "SyncCluster",
        "metadata": {"name": "demo", "namespace": "default", "uid": "1", "generation": generation}, "spec": {},
    }))
    .unwrap();
    cluster.status = status;
    cluster
}

fn after(cluster: &SyncCluster, step: Step, at: &str) -> SyncClusterStatus {
    let valid = validate(cluster, None, "image:1").unwrap();
    let plan = Plan {
        replicas: 3,
        storage_bytes: 1,
        leaving: None,
        step,
    };
    let outcome = Outcome::Valid {
        valid: &valid,
        observed: &Observed::default(),
        plan: &plan,
        missing: &[],
        failure: None,
        invalid: None,
    };
    status(cluster, &outcome, at.parse::<Timestamp>().unwrap())
}

fn condition(
    status: &SyncClusterStatus,
    kind: ConditionKind,
) -> (String, String, String, Option<i64>) {
    let found = status
        .conditions
        .iter()
        .find(|condition| condition.kind == kind)
        .unwrap();
    (
        found.status.clone(),
        found.reason.clone(),
        found.last_transition_time.0.to_string(),
        found.observed_generation,
    )
}

#[test]
fn a_time_changes_only_with_the_status() {
    let first = after(
        &cluster(1, None),
        Step::Wait(Waiting::Creating),
        "2026-01-01T00:00:00Z",
    );
    let second = after(
        &cluster(2, Some(first)),
        Step::Wait(Waiting::PodsStarting(vec![0])),
        "2026-01-01T00:01:00Z",
    );
    let expected = (
        "True".to_owned(),
        "PodsStarting".to_owned(),
        "2026-01-01T00:00:00Z".to_owned(),
        Some(2),
    );
    assert_eq!(condition(&second, ConditionKind::Progressing), expected);
    let third = after(
        &cluster(2, Some(second)),
        Step::Refuse(Refusal::MembersSilent),
        "2026-01-01T00:02:00Z",
    );
    let expected = (
        "False".to_owned(),
        "MembersSilent".to_owned(),
        "2026-01-01T00:02:00Z".to_owned(),
        Some(2),
    );
    assert_eq!(condition(&third, ConditionKind::Progressing), expected);
    assert_eq!(condition(&third, ConditionKind::Degraded).0, "True");
}

#[test]
fn a_bad_spec_is_never_available() {
    let made = status(
        &cluster(4, None),
        &Outcome::Invalid("spec.nodes: is 2"),
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(made.observed_generation, Some(4));
    assert_eq!(made.phase, "InvalidSpec");
    assert_eq!(condition(&made, ConditionKind::Available).0, "Unknown");
    assert_eq!(condition(&made, ConditionKind::Degraded).1, "InvalidSpec");
    assert_eq!(made.conditions.len(), 6);
}

#[test]
fn lag_is_coarse() {
    for (lag, expected) in [(0, 0), (99, 0), (100, 100), (999, 100), (54_321, 10_000)] {
        assert_eq!(coarse(lag), expected);
    }
}
