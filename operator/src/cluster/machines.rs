//! Which machines are away.
//!
//! Invariants: a machine is away when its Node is gone, unreachable or not ready, and for no other reason:
//! a pod that is not ready says nothing about its machine. What cannot be read is not away. Nothing is read
//! for pods that are ready, so that a quiet cluster asks for nothing.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume, PersistentVolumeClaim,
    Pod as KubePod,
};
use kube::{Api, Client, api::ListParams};

use super::observed::Ordinal;

/// Ends of the labels' names by which drivers of local volumes tell machines apart. A volume of a zone is
/// reached from its other machines.
const MACHINE_KEYS: [&str; 4] = ["/hostname", "/node", "/nodename", "/host"];
/// A taint of machines that do not answer.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// The ordinals of those pods whose machine is away: where they run, or where alone they can because
/// their volume is there.
pub(super) async fn away(
    client: &Client,
    pods: &BTreeMap<Ordinal, &KubePod>,
    claims: &BTreeMap<Ordinal, PersistentVolumeClaim>,
) -> BTreeSet<Ordinal> {
    let mut away = BTreeSet::new();
    for (ordinal, pod) in pods {
        if is_ready(pod) {
            continue;
        }
        let machine = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
        let volume = claims
            .get(ordinal)
            .and_then(|claim| claim.spec.as_ref()?.volume_name.as_deref());
        let asked = match (machine, volume) {
            (Some(machine), _) => is_machine_away(client, machine).await,
            (None, Some(volume)) => is_volume_away(client, volume).await,
            (None, None) => Ok(false),
        };
        match asked {
            Ok(true) => {
                away.insert(*ordinal);
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(
                pod = ordinal, %error,
                "cannot read the pod's machine: it is not replaced, whatever becomes of it"
            ),
        }
    }
    away
}

fn is_ready(pod: &KubePod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

async fn is_machine_away(client: &Client, name: &str) -> Result<bool, kube::Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    Ok(nodes.get_opt(name).await?.is_none_or(|node| is_away(&node)))
}

/// Is every machine away that could have this volume?
async fn is_volume_away(client: &Client, name: &str) -> Result<bool, kube::Error> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let Some(volume) = volumes.get_opt(name).await? else {
        return Ok(false);
    };
    let affinity = volume.spec.and_then(|spec| spec.node_affinity?.required);
    let terms = affinity.map(|required| required.node_selector_terms);
    let terms = terms.unwrap_or_default();
    for term in &terms {
        // Any one of the terms is enough for a machine to have it.
        let Some(labels) = machine_selector(term) else {
            return Ok(false);
        };
        let nodes: Api<Node> = Api::all(client.clone());
        let nodes = nodes.list(&ListParams::default().labels(&labels)).await?;
        if !nodes.items.iter().all(is_away) {
            return Ok(false);
        }
    }
    Ok(!terms.is_empty())
}

/// The labels of the machines that a term means; none if it does not mean single machines.
fn machine_selector(term: &NodeSelectorTerm) -> Option<String> {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let names_machines = expressions.iter().any(|expression| {
        expression.operator == "In" && MACHINE_KEYS.iter().any(|end| expression.key.ends_with(end))
    });
    if !names_machines || term.match_fields.is_some() {
        return None;
    }
    let labels: Option<Vec<String>> = expressions.iter().map(label_selector).collect();
    labels.map(|labels| labels.join(","))
}

fn label_selector(expression: &NodeSelectorRequirement) -> Option<String> {
    let key = &expression.key;
    let values = expression.values.as_deref().unwrap_or_default().join(",");
    match expression.operator.as_str() {
        "In" => Some(format!("{key} in ({values})")),
        "NotIn" => Some(format!("{key} notin ({values})")),
        "Exists" => Some(key.clone()),
        "DoesNotExist" => Some(format!("!{key}")),
        _ => None,
    }
}

fn is_away(node: &Node) -> bool {
    let status = node.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready");
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
    ready.is_some_and(|ready| ready.status != "True")
        || taints
            .into_iter()
            .flatten()
            .any(|taint| taint.key == UNREACHABLE)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm};
    use serde_json::json;

    use super::{is_away, machine_selector};

    #[test]
    fn a_machine_is_away_when_its_node_says_so() {
        let node = |ready: &str, taint: &str| -> Node {
            serde_json::from_value(json!({
                "spec": {"unschedulable": true, "taints": [{"key": taint, "effect": "NoSchedule"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
            .unwrap()
        };
        assert!(!is_away(&node("True", "node.kubernetes.io/unschedulable")));
        assert!(is_away(&node("False", "x")));
        assert!(is_away(&node("Unknown", "x")));
        assert!(is_away(&node("True", "node.kubernetes.io/unreachable")));
        // A machine that has just come has said nothing yet.
        assert!(!is_away(&Node::default()));
    }

    #[test]
    fn only_volumes_of_single_machines_are_away_with_them() {
        let term = |key: &str, operator: &str| -> NodeSelectorTerm {
            serde_json::from_value(json!({
                "matchExpressions": [{"key": key, "operator": operator, "values": ["a", "b"]}],
            }))
            .unwrap()
        };
        let selector = machine_selector(&term("kubernetes.io/hostname", "In"));
        assert_eq!(selector.as_deref(), Some("kubernetes.io/hostname in (a,b)"));
        assert!(machine_selector(&term("topology.topolvm.io/node", "In")).is_some());
        assert_eq!(
            machine_selector(&term("topology.kubernetes.io/zone", "In")),
            None
        );
        assert_eq!(
            machine_selector(&term("kubernetes.io/hostname", "NotIn")),
            None
        );
        assert_eq!(machine_selector(&NodeSelectorTerm::default()), None);
    }
}
