//! What a user lays over the pods' template.
//!
//! Invariant: the result is a template by which the operator still finds and reaches its pods.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value};

use super::{BuildError, CONTAINER, selector};

/// Lays a patch over a template.
pub(super) fn lay(
    template: PodTemplateSpec,
    patch: &Map<String, Value>,
    cluster: &str,
) -> Result<PodTemplateSpec, BuildError> {
    let ports = essential_ports(&template);
    let mut value = serde_json::to_value(template)?;
    merge(&mut value, &Value::Object(patch.clone()));
    let template: PodTemplateSpec = serde_json::from_value(value)?;
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
            "the labels app.kubernetes.io/name, component or instance",
        ));
    }
    if essential_ports(&template) != ports {
        return Err(BuildError::Essential("the container lockstep or its ports"));
    }
    Ok(template)
}

fn essential_ports(template: &PodTemplateSpec) -> Option<Vec<(Option<String>, i32)>> {
    let containers = &template.spec.as_ref()?.containers;
    let container = containers
        .iter()
        .find(|container| container.name == CONTAINER)?;
    let ports = container.ports.iter().flatten();
    Some(
        ports
            .map(|port| (port.name.clone(), port.container_port))
            .collect(),
    )
}

/// Objects are merged (null removes, as in RFC 7386), lists of named items by name, all else replaced.
fn merge(onto: &mut Value, patch: &Value) {
    match (onto, patch) {
        (Value::Object(onto), Value::Object(patch)) => {
            for (key, value) in patch {
                if value.is_null() {
                    onto.remove(key);
                } else {
                    merge(onto.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (Value::Array(onto), Value::Array(patch))
            if patch.iter().all(|item| item["name"].is_string()) =>
        {
            for item in patch {
                match onto.iter_mut().find(|there| there["name"] == item["name"]) {
                    Some(there) => merge(there, item),
                    None => onto.push(item.clone()),
                }
            }
        }
        (onto, patch) => *onto = patch.clone(),
    }
}
