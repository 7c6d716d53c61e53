//! The pods' template.
//!
//! Invariants: fit for the restricted Pod Security Standard; the same for every pod (what differs comes
//! from the pod's own fields); only what `spec` says about a node's program is in it.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        Affinity, Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
        ObjectFieldSelector, PodAffinityTerm, PodAntiAffinity, PodSecurityContext, PodSpec,
        PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile, SecurityContext,
        TopologySpreadConstraint, VolumeMount, WeightedPodAffinityTerm,
    },
    apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString,
    },
};

use super::{
    BuildError, CLIENT_PORT, CONTAINER, HTTP_PORT, PEER_PORT, Served, VOLUME, Valid,
    label_selector, labels, overlay, peers_name,
};

/// The unprivileged user of the image.
const USER: i64 = 65_532;
/// Where the volume is.
const MOUNT: &str = "/var/lib/lockstep";
/// How long a node may take to hand its leads over and stop, in seconds.
const GRACE_SECONDS: i64 = 60;
/// How long a node may take to open its data, in probes of 2 s: ten minutes, after which it hangs.
const STARTUP_PROBES: i32 = 300;

pub(super) fn template(valid: &Valid, served: Served) -> Result<PodTemplateSpec, BuildError> {
    let user = (!served.assigns_users).then_some(USER);
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels(&valid.name)),
            annotations: Some(
                [(
                    "kubectl.kubernetes.io/default-container".to_owned(),
                    CONTAINER.to_owned(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            affinity: Some(
                valid
                    .spec
                    .affinity
                    .clone()
                    .unwrap_or_else(|| affinity(&valid.name)),
            ),
            automount_service_account_token: Some(false),
            containers: vec![container(valid, served)],
            enable_service_links: Some(false),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: user,
                run_as_group: user,
                fs_group: user,
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    localhost_profile: None,
                }),
                ..PodSecurityContext::default()
            }),
            service_account_name: Some(valid.name.clone()),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            tolerations: (!valid.spec.tolerations.is_empty())
                .then(|| valid.spec.tolerations.clone()),
            topology_spread_constraints: Some(
                valid
                    .spec
                    .topology_spread_constraints
                    .clone()
                    .unwrap_or_else(|| vec![spread(&valid.name)]),
            ),
            ..PodSpec::default()
        }),
    };
    match &valid.spec.pod_template {
        Some(patch) => overlay::lay(template, patch, &valid.name),
        None => Ok(template),
    }
}

fn affinity(cluster: &str) -> Affinity {
    Affinity {
        pod_anti_affinity: Some(PodAntiAffinity {
            preferred_during_scheduling_ignored_during_execution: Some(vec![
                WeightedPodAffinityTerm {
                    weight: 100,
                    pod_affinity_term: PodAffinityTerm {
                        label_selector: Some(label_selector(cluster)),
                        topology_key: "kubernetes.io/hostname".to_owned(),
                        ..PodAffinityTerm::default()
                    },
                },
            ]),
            required_during_scheduling_ignored_during_execution: None,
        }),
        ..Affinity::default()
    }
}

fn spread(cluster: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: "topology.kubernetes.io/zone".to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(label_selector(cluster)),
        ..TopologySpreadConstraint::default()
    }
}

fn container(valid: &Valid, served: Served) -> Container {
    let port = |name: &str, port: u16| ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    Container {
        name: CONTAINER.to_owned(),
        image: Some(valid.image.clone()),
        image_pull_policy: Some(valid.spec.image_pull_policy.name().to_owned()),
        args: Some(vec!["serve".to_owned()]),
        env: Some(environment(valid, served)),
        ports: Some(vec![
            port("client", CLIENT_PORT),
            port("peer", PEER_PORT),
            port("http", HTTP_PORT),
        ]),
        startup_probe: Some(probe("/healthz", 2, STARTUP_PROBES)),
        liveness_probe: Some(probe("/healthz", 10, 3)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        resources: Some(resources(valid)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: None,
            }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: MOUNT.to_owned(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

fn probe(path: &str, period: i32, failures: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("http".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period),
        timeout_seconds: Some(3),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

fn resources(valid: &Valid) -> ResourceRequirements {
    let amounts = |amounts: &BTreeMap<String, IntOrString>| {
        let amounts = amounts.iter().map(|(name, amount)| {
            let amount = match amount {
                IntOrString::Int(number) => number.to_string(),
                IntOrString::String(text) => text.clone(),
            };
            (name.clone(), Quantity(amount))
        });
        Some(amounts.collect::<BTreeMap<_, _>>()).filter(|amounts| !amounts.is_empty())
    };
    ResourceRequirements {
        requests: amounts(&valid.spec.resources.requests),
        limits: amounts(&valid.spec.resources.limits),
        claims: None,
    }
}

/// The peers' addresses of those that found the cluster: as few as can, because each has to be there.
fn founders(valid: &Valid) -> String {
    let peers = peers_name(&valid.name);
    let address = |ordinal| {
        format!(
            "{}-{ordinal}.{peers}.{}.svc:{PEER_PORT}",
            valid.name, valid.namespace
        )
    };
    let addresses: Vec<String> = (0..valid.spec.replication_factor).map(address).collect();
    addresses.join(",")
}

fn environment(valid: &Valid, served: Served) -> Vec<EnvVar> {
    let field = |name: &str, path: &str| EnvVar {
        name: name.to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".to_owned()),
                field_path: path.to_owned(),
            }),
            ..EnvVarSource::default()
        }),
        value: None,
    };
    let value = |name: &str, value: String| EnvVar {
        name: name.to_owned(),
        value: Some(value),
        value_from: None,
    };
    let host = format!(
        "$(LOCKSTEP_NAME).{}.{}.svc",
        peers_name(&valid.name),
        valid.namespace
    );
    let any = if served.is_ipv6 { "[::]" } else { "0.0.0.0" };
    let spec = &valid.spec;
    vec![
        field("LOCKSTEP_NAME", "metadata.name"),
        // Kubernetes 1.35 and newer label pods with the zone of their machine; elsewhere it stays empty.
        field(
            "LOCKSTEP_ZONE",
            "metadata.labels['topology.kubernetes.io/zone']",
        ),
        value("LOCKSTEP_DATA_DIR", format!("{MOUNT}/data")),
        value("LOCKSTEP_CLIENT_LISTEN", format!("{any}:{CLIENT_PORT}")),
        value("LOCKSTEP_PEER_LISTEN", format!("{any}:{PEER_PORT}")),
        value("LOCKSTEP_HTTP_LISTEN", format!("{any}:{HTTP_PORT}")),
        value("LOCKSTEP_CLIENT_ADVERTISE", format!("{host}:{CLIENT_PORT}")),
        value("LOCKSTEP_PEER_ADVERTISE", format!("{host}:{PEER_PORT}")),
        value("LOCKSTEP_INITIAL_NODES", founders(valid)),
        value("LOCKSTEP_SHARDS", spec.shards.to_string()),
        value(
            "LOCKSTEP_REPLICATION_FACTOR",
            spec.replication_factor.to_string(),
        ),
        value(
            "LOCKSTEP_ELECTION_TIMEOUT_MS",
            spec.raft.election_timeout_ms.to_string(),
        ),
        value("LOCKSTEP_HEARTBEAT_MS", spec.raft.heartbeat_ms.to_string()),
        value(
            "LOCKSTEP_SNAPSHOT_ENTRIES",
            spec.raft.snapshot_entries.to_string(),
        ),
        // The operator alone decides that, by what it knows about machines and volumes.
        value("LOCKSTEP_REPLACE_LOST_AFTER_SECONDS", "0".to_owned()),
        value("LOCKSTEP_LOG", spec.log.filter.clone()),
        value("LOCKSTEP_LOG_FORMAT", spec.log.format.name().to_owned()),
    ]
}
