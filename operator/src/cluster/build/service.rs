//! The two services: the names of the nodes, and where clients connect.
//!
//! Invariant: nodes are named before they are ready, or a cluster could never be founded; clients are
//! only led to nodes that are.

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{CLIENT_PORT, HTTP_PORT, PEER_PORT, Valid, metadata, peers_name, selector};

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(port),
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}

pub(super) fn peers(valid: &Valid) -> Service {
    Service {
        metadata: metadata(valid, peers_name(&valid.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            selector: Some(selector(&valid.name)),
            publish_not_ready_addresses: Some(true),
            ports: Some(vec![
                port("client", CLIENT_PORT),
                port("peer", PEER_PORT),
                port("http", HTTP_PORT),
            ]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

pub(super) fn clients(valid: &Valid) -> Service {
    let service = &valid.spec.service;
    let mut metadata = metadata(valid, valid.name.clone());
    if !service.annotations.is_empty() {
        metadata.annotations = Some(service.annotations.clone());
    }
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(service.kind.name().to_owned()),
            selector: Some(selector(&valid.name)),
            ports: Some(vec![port("client", CLIENT_PORT)]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
