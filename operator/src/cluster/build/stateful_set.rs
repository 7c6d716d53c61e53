//! The StatefulSet.
//!
//! Invariants: the template depends on nothing that changes while a cluster is scaled, so that scaling
//! restarts nobody. Pods start all at once (a cluster is founded by several) and are replaced by the
//! plan alone. What cannot be changed in place is what the plan says.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy},
        core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements},
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};

use super::{
    BuildError, LEAVING_ANNOTATION, OPERATOR_ANNOTATION, Plan, REPLICAS_ANNOTATION,
    REPLICATION_FACTOR_ANNOTATION, SHARDS_ANNOTATION, SPEC_ANNOTATION, Served, VOLUME, Valid,
    label_selector, metadata, peers_name, pod, selector,
};

/// Longest spec that is noted, in bytes: all annotations of an object have 256 KiB.
const MAX_NOTED_SPEC: usize = 128 << 10;

pub(super) fn stateful_set(
    valid: &Valid,
    plan: &Plan,
    served: Served,
    keeper: &str,
) -> Result<StatefulSet, BuildError> {
    let mut metadata = metadata(valid, valid.name.clone());
    metadata.annotations = Some(annotations(valid, plan, keeper));
    Ok(StatefulSet {
        metadata,
        spec: Some(StatefulSetSpec {
            replicas: Some(i32::try_from(plan.replicas).unwrap_or(i32::MAX)),
            service_name: Some(peers_name(&valid.name)),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                rolling_update: None,
            }),
            selector: label_selector(&valid.name),
            template: pod::template(valid, served)?,
            volume_claim_templates: Some(vec![claim(valid, plan)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    })
}

/// What is for ever: volumes that are left have it too.
fn founding(valid: &Valid) -> BTreeMap<String, String> {
    BTreeMap::from([
        (SHARDS_ANNOTATION.to_owned(), valid.spec.shards.to_string()),
        (
            REPLICATION_FACTOR_ANNOTATION.to_owned(),
            valid.spec.replication_factor.to_string(),
        ),
    ])
}

fn annotations(valid: &Valid, plan: &Plan, keeper: &str) -> BTreeMap<String, String> {
    let mut annotations = founding(valid);
    annotations.insert(REPLICAS_ANNOTATION.to_owned(), plan.replicas.to_string());
    annotations.insert(OPERATOR_ANNOTATION.to_owned(), keeper.to_owned());
    if let Ok(spec) = serde_json::to_string(&valid.spec)
        && spec.len() <= MAX_NOTED_SPEC
    {
        annotations.insert(SPEC_ANNOTATION.to_owned(), spec);
    }
    if let Some(ordinal) = plan.leaving {
        annotations.insert(LEAVING_ANNOTATION.to_owned(), ordinal.to_string());
    }
    annotations
}

fn claim(valid: &Valid, plan: &Plan) -> PersistentVolumeClaim {
    // The user's own spelling where it says the same, because it is what people will look for.
    let size = if plan.storage_bytes == valid.desired.storage_bytes {
        valid.spec.storage.size.clone()
    } else {
        plan.storage_bytes.to_string()
    };
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(VOLUME.to_owned()),
            labels: Some(selector(&valid.name)),
            annotations: Some(founding(valid)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: valid.spec.storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(size))].into()),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}
