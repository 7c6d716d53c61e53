//! What a user lays over the pods' template.
//!
//! Invariants: the result is a template by which the operator still finds and reaches its pods, whose nodes
//! keep their data where they had it; and nothing of the patch is dropped without a word.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value, json};

use super::{BuildError, CONTAINER, VOLUME, selector};

/// Environment variables of the template that a user may set to something else: they say nothing about who
/// a node is and where its data are.
const FREE: [&str; 3] = ["LOCKSTEP_LOG", "LOCKSTEP_LOG_FORMAT", "LOCKSTEP_ZONE"];

/// Lays a patch over a template.
pub(super) fn lay(
    template: PodTemplateSpec,
    patch: &Map<String, Value>,
    cluster: &str,
) -> Result<PodTemplateSpec, BuildError> {
    let before = essentials(&template);
    let mut value = serde_json::to_value(template)?;
    merge(&mut value, &Value::Object(patch.clone()), "");
    let template: PodTemplateSpec = serde_json::from_value(value.clone())?;
    if let Some(path) = vanished(&value, &serde_json::to_value(&template)?, "") {
        return Err(BuildError::Unknown(path));
    }
    let labels = template
        .metadata
        .as_ref()
        .and_then(|metadata| metadata.labels.clone())
        .unwrap_or_default();
    if selector(cluster)
        .iter()
        .any(|(key, value)| labels.get(key) != Some(value))
    {
        return Err(BuildError::Essential(
            "the labels app.kubernetes.io/name, component or instance".to_owned(),
        ));
    }
    if has_volume(&template, VOLUME) {
        let what = format!("the volume {VOLUME}, which is the node's own");
        return Err(BuildError::Essential(what));
    }
    let after = essentials(&template);
    match before.iter().find(|part| !after.contains(part)) {
        Some((what, _)) => Err(BuildError::Essential(what.clone())),
        None => Ok(template),
    }
}

fn has_volume(template: &PodTemplateSpec, name: &str) -> bool {
    let volumes = template.spec.iter().flat_map(|spec| &spec.volumes);
    volumes.flatten().any(|volume| volume.name == name)
}

/// Every part of the node's container that has to stay as it is, and how it is.
fn essentials(template: &PodTemplateSpec) -> Vec<(String, Value)> {
    let containers = template.spec.iter().flat_map(|spec| &spec.containers);
    let mut found = Vec::new();
    for container in containers.filter(|container| container.name == CONTAINER) {
        found.push((format!("the container {CONTAINER}"), Value::Null));
        for port in container.ports.iter().flatten() {
            let name = port.name.as_deref().unwrap_or_default();
            let what = format!("the port {name} of the container {CONTAINER}");
            found.push((what, json!(port)));
        }
        let variables = container.env.iter().flatten();
        for variable in variables.filter(|variable| !FREE.contains(&variable.name.as_str())) {
            let what = format!("the environment variable {}", variable.name);
            found.push((what, json!(variable)));
        }
        for mount in container.volume_mounts.iter().flatten() {
            found.push((
                format!("what is mounted at {}", mount.mount_path),
                json!(mount),
            ));
        }
    }
    found
}

/// By which field the items of a list are told apart, as Kubernetes has it for strategic merges; none if
/// the list is replaced as a whole. A container may mount one volume at several places, so there the
/// place counts and not the name.
fn merge_key(list: &str) -> Option<&'static str> {
    Some(match list {
        "containers" | "initContainers" | "volumes" | "env" | "ports" | "imagePullSecrets" => {
            "name"
        }
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "hostAliases" => "ip",
        "topologySpreadConstraints" => "topologyKey",
        _ => return None,
    })
}

/// Objects are merged (null removes, as in RFC 7386), lists as [`merge_key`] says, all else is replaced.
fn merge(onto: &mut Value, patch: &Value, field: &str) {
    match (onto, patch) {
        (Value::Object(onto), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    onto.remove(key);
                } else {
                    merge(onto.entry(key.clone()).or_insert(Value::Null), value, key);
                }
            }
        }
        (Value::Array(onto), Value::Array(patch)) => match merge_key(field) {
            Some(key) if patch.iter().all(|item| item[key].is_string()) => {
                for item in patch {
                    match onto.iter_mut().find(|there| there[key] == item[key]) {
                        Some(there) => merge(there, item, ""),
                        None => onto.push(item.clone()),
                    }
                }
            }
            Some(_) | None => onto.clone_from(patch),
        },
        (onto, patch) => *onto = patch.clone(),
    }
}

/// The path of the first field that was written and is not kept: it is misspelt, or at the wrong place.
fn vanished(written: &Value, kept: &Value, path: &str) -> Option<String> {
    match (written, kept) {
        (Value::Object(written), Value::Object(kept)) => {
            written.iter().find_map(|(name, value)| {
                let path = format!("{path}.{name}");
                match kept.get(name) {
                    Some(kept) => vanished(value, kept, &path),
                    // What says nothing may be left out.
                    None if value.is_null() => None,
                    None => Some(path),
                }
            })
        }
        (Value::Array(written), Value::Array(kept)) => written
            .iter()
            .zip(kept)
            .enumerate()
            .find_map(|(at, (value, kept))| vanished(value, kept, &format!("{path}[{at}]"))),
        _ => None,
    }
}
