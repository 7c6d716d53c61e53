//! Bad specs are named with their field.

use std::time::Duration;

use super::{Founded, FoundedStorage, Problem, bytes, duration, validate};
use crate::crd::v1alpha1::SyncCluster;

fn cluster(spec: serde_json::Value) -> SyncCluster {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "lockstep.dev/v1alpha1", "kind": "SyncCluster",
        "metadata": {"name": "demo", "namespace": "default", "uid": "1"}, "spec": spec,
    }))
    .unwrap()
}

fn fields(spec: serde_json::Value, founded: Option<&Founded>) -> Vec<&'static str> {
    let problems = validate(&cluster(spec), founded, "image")
        .err()
        .unwrap_or_default();
    problems
        .into_iter()
        .map(|Problem { field, .. }| field)
        .collect()
}

#[test]
fn each_bad_field_is_named() {
    let none: [&str; 0] = [];
    assert_eq!(fields(serde_json::json!({}), None), none);
    let bad = serde_json::json!({
        "nodes": 2, "shards": 0, "image": "a b", "replaceLostNodesAfter": "soon",
        "storage": {"size": "much"}, "raft": {"heartbeatMs": 1000, "electionTimeoutMs": 1500},
        "log": {"filter": ""},
    });
    let expected = [
        "spec.shards",
        "spec.nodes",
        "spec.raft.heartbeatMs",
        "spec.log.filter",
        "spec.storage.size",
        "spec.replaceLostNodesAfter",
        "spec.image",
    ];
    assert_eq!(fields(bad, None), expected);
    assert_eq!(
        fields(serde_json::json!({"replicationFactor": 2}), None),
        ["spec.replicationFactor"]
    );
}

#[test]
fn what_is_for_ever_cannot_change() {
    let founded = Founded {
        shards: Some(8),
        replication_factor: Some(3),
        storage: Some(FoundedStorage {
            class: None,
            bytes: 10 << 30,
        }),
    };
    let none: [&str; 0] = [];
    assert_eq!(
        fields(
            serde_json::json!({"storage": {"size": "11Gi"}}),
            Some(&founded)
        ),
        none
    );
    let bad = serde_json::json!({
        "shards": 16, "replicationFactor": 1, "storage": {"size": "9Gi", "storageClassName": "fast"},
    });
    let expected = [
        "spec.shards",
        "spec.replicationFactor",
        "spec.storage.storageClassName",
        "spec.storage.size",
    ];
    assert_eq!(fields(bad, Some(&founded)), expected);
}

#[test]
fn a_name_that_cannot_name_services_is_refused() {
    for name in ["1st", "a.b", "Upper", "ends-", &"x".repeat(51)] {
        let mut cluster = cluster(serde_json::json!({}));
        cluster.metadata.name = Some(name.to_owned());
        let problems = validate(&cluster, None, "image").unwrap_err();
        assert_eq!(
            problems.first().map(|problem| problem.field),
            Some("metadata.name"),
            "{name}"
        );
    }
}

#[test]
fn amounts() {
    for (text, expected) in [
        ("10Gi", Some(10 << 30)),
        ("1.5Gi", Some(3 << 29)),
        ("7", Some(7)),
        ("2M", Some(2_000_000)),
        ("0.1k", Some(100)),
        ("", None),
        ("Gi", None),
        ("1.Gi", None),
        ("-1", None),
        ("99999999999P", None),
    ] {
        assert_eq!(bytes(text), expected, "{text}");
    }
    for (text, expected) in [
        ("0", Some(0)),
        ("30s", Some(30)),
        ("1h30m", Some(5_400)),
        ("", None),
        ("5", None),
        ("5d", None),
    ] {
        assert_eq!(duration(text), expected.map(Duration::from_secs), "{text}");
    }
}
