//! The manifests in `crds/` are what the types say.

use std::{fs, path::PathBuf};

use kube::CustomResourceExt as _;
use serde_json::Value;

use super::{SyncCluster, SyncClusterSpec};
use crate::{cluster::validate, crd::manifest};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_manifests_are_generated_from_the_types() {
    let made = manifest().unwrap();
    let place = "crds/lockstep.dev_syncclusters.yaml";
    let kept = fs::read_to_string(root().join(place)).unwrap_or_default();
    assert!(kept == made, "{place} differs: make gen-crds");
}

#[test]
fn the_chart_has_the_same_definition() {
    let place = "charts/lockstep-crds/templates/syncclusters.yaml";
    let kept = fs::read_to_string(root().join(place)).unwrap_or_default();
    assert!(
        kept == crate::crd::chart_template().unwrap(),
        "{place} differs: make gen-crds"
    );
}

#[test]
fn every_sample_is_valid() {
    let folder = fs::read_dir(root().join("crds/samples")).unwrap();
    let mut found = 0;
    for entry in folder {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let cluster: SyncCluster = serde_saphyr::from_str(&text).unwrap();
        let valid = validate::validate(&cluster, None, "default:image");
        assert!(valid.is_ok(), "{}: {valid:?}", path.display());
        found += 1;
    }
    assert!(found >= 3, "only {found} samples");
}

#[test]
fn an_empty_spec_is_a_cluster_of_three() {
    let spec: SyncClusterSpec = serde_json::from_str("{}").unwrap();
    assert_eq!(
        (spec.nodes, spec.replication_factor, spec.shards),
        (3, 3, 8)
    );
}

/// `kubectl explain` has something to say about every field of ours.
#[test]
fn every_field_is_described() {
    let crd = serde_json::to_value(SyncCluster::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let mut bare = Vec::new();
    walk(schema, "", &mut bare);
    assert!(bare.is_empty(), "no description: {bare:?}");
}

fn walk(schema: &Value, path: &str, bare: &mut Vec<String>) {
    let Some(fields) = schema["properties"].as_object() else {
        return;
    };
    for (name, field) in fields {
        let path = format!("{path}.{name}");
        if field["description"].as_str().is_none_or(str::is_empty) {
            bare.push(path.clone());
        }
        walk(field, &path, bare);
        walk(&field["items"], &path, bare);
    }
}
