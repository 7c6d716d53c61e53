//! Who may connect, and what Prometheus is told.
//!
//! Invariant: the peers' port is for the cluster's own nodes; clients and health checks are let in
//! from anywhere, for what may take locks is not decided by where it runs.

use k8s_openapi::{
    api::networking::v1::{
        NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
        NetworkPolicySpec,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use super::{CLIENT_PORT, HTTP_PORT, PEER_PORT, Valid, label_selector, metadata};

fn port(port: u16) -> NetworkPolicyPort {
    NetworkPolicyPort {
        port: Some(IntOrString::Int(i32::from(port))),
        protocol: Some("TCP".to_owned()),
        end_port: None,
    }
}

pub(super) fn policy(valid: &Valid) -> NetworkPolicy {
    let anyone = NetworkPolicyIngressRule {
        ports: Some(vec![port(CLIENT_PORT), port(HTTP_PORT)]),
        from: None,
    };
    let peers = NetworkPolicyIngressRule {
        ports: Some(vec![port(PEER_PORT)]),
        from: Some(vec![NetworkPolicyPeer {
            pod_selector: Some(label_selector(&valid.name)),
            ..NetworkPolicyPeer::default()
        }]),
    };
    NetworkPolicy {
        metadata: metadata(valid, valid.name.clone()),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(label_selector(&valid.name)),
            policy_types: Some(vec!["Ingress".to_owned()]),
            ingress: Some(vec![anyone, peers]),
            egress: None,
        }),
    }
}

/// How the Prometheus operator's `PodMonitor` is asked for.
#[must_use]
pub(crate) fn pod_monitor_resource() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        "monitoring.coreos.com",
        "v1",
        "PodMonitor",
    ))
}

pub(super) fn pod_monitor(valid: &Valid) -> DynamicObject {
    let mut object = DynamicObject::new(&valid.name, &pod_monitor_resource());
    object.metadata = metadata(valid, valid.name.clone());
    if let Some(labels) = &mut object.metadata.labels {
        labels.extend(valid.spec.monitoring.labels.clone());
    }
    object.data = json!({"spec": {
        "selector": label_selector(&valid.name),
        "podMetricsEndpoints": [{"port": "http", "path": "/metrics"}],
    }});
    object
}
