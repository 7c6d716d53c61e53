//! Every object that a cluster owns.
//!
//! Invariants: pure, so the same cluster gives the same objects; and [`Objects`] is taken apart
//! without `..` where it is applied, so that an object cannot be forgotten. No field is used that
//! Kubernetes 1.20 does not know, because server-side apply refuses those.

mod access;
mod budget;
mod network;
mod overlay;
mod pod;
mod service;
mod stateful_set;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet, core::v1::Service, core::v1::ServiceAccount,
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference},
};
use kube::{Resource as _, core::DynamicObject};

use super::{plan::Plan, validate::Valid};
use crate::crd::v1alpha1::SyncCluster;

pub use budget::BudgetVersion;
pub(crate) use network::pod_monitor_resource;

/// The port for clients, everywhere.
pub const CLIENT_PORT: u16 = 7400;
/// The port for peers.
pub const PEER_PORT: u16 = 7401;
/// The port for health checks and metrics.
pub const HTTP_PORT: u16 = 7402;
/// The container that is a node.
pub const CONTAINER: &str = "lockstep";
/// The volume that keeps a node's data: the first part of its claims' names.
pub const VOLUME: &str = "data";
/// The label by which all that a cluster owns is found.
pub const INSTANCE_LABEL: &str = "app.kubernetes.io/instance";
/// Says who keeps an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY_LABEL`], and the operator's field manager.
pub const MANAGER: &str = "lockstep-operator";
/// On a StatefulSet: the namespace and the name of the lease of the operators that keep it.
pub const OPERATOR_ANNOTATION: &str = "lockstep.dev/operator";
/// On a StatefulSet: the last spec that was valid, as JSON.
pub const SPEC_ANNOTATION: &str = "lockstep.dev/spec";
/// On a StatefulSet and its claims: the data shards that the cluster was made with.
pub const SHARDS_ANNOTATION: &str = "lockstep.dev/shards";
/// On a StatefulSet and its claims: the replication factor that the cluster was made with.
pub const REPLICATION_FACTOR_ANNOTATION: &str = "lockstep.dev/replication-factor";
/// On a StatefulSet: see [`super::observed::Set::recorded`].
pub const REPLICAS_ANNOTATION: &str = "lockstep.dev/replicas";
/// On a StatefulSet: see [`super::observed::Set::leaving`].
pub const LEAVING_ANNOTATION: &str = "lockstep.dev/leaving";
/// On a SyncCluster: the id of the cluster, pinned by the operator, and changed by a person after a recovery.
pub const CLUSTER_ID_ANNOTATION: &str = "lockstep.dev/cluster-id";
/// On a claim: see [`super::observed::Claim::node_id`].
pub const NODE_ID_ANNOTATION: &str = "lockstep.dev/node-id";

/// What the API server serves, of what not all serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// In which version `PodDisruptionBudget` is served.
    pub budget: BudgetVersion,
    /// Whether `PodMonitor` of the Prometheus operator is.
    pub pod_monitor: bool,
    /// Whether the platform gives each namespace users of its own, as OpenShift does, and refuses others.
    pub assigns_users: bool,
    /// Whether pods have IPv6 addresses first: they listen to both families then. Elsewhere a machine may have
    /// no IPv6 at all.
    pub is_ipv6: bool,
}

/// Every object that a cluster owns.
#[derive(Clone, Debug)]
pub struct Objects {
    /// The pods' identity, which may do nothing.
    pub service_account: ServiceAccount,
    /// The names of the nodes.
    pub peers: Service,
    /// Where clients connect.
    pub clients: Service,
    /// How many nodes may be evicted at a time.
    pub budget: DynamicObject,
    /// Who may connect; none if not wanted.
    pub network_policy: Option<NetworkPolicy>,
    /// What Prometheus is told; none if not wanted or not served.
    pub pod_monitor: Option<DynamicObject>,
    /// The nodes.
    pub stateful_set: StatefulSet,
}

/// Why there are no objects.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// What is laid over the pods' template makes no template.
    #[error("spec.podTemplate: laid over the template it makes no pod: {0}")]
    Overlay(#[from] serde_json::Error),
    /// What is laid over the pods' template takes away what the operator needs.
    #[error(
        "spec.podTemplate: changes {0}, which the operator relies on: leave it out, or use the field of spec that is for it"
    )]
    Essential(String),
    /// What is laid over the pods' template has a field that pods do not have.
    #[error(
        "spec.podTemplate{0} is no field of a pod's template: correct its spelling or its place"
    )]
    Unknown(String),
}

/// Builds every object; `evictable` is how many nodes others may evict, and `keeper` whose they are.
///
/// # Errors
/// If `spec.podTemplate` does not fit.
pub fn build(
    valid: &Valid,
    plan: &Plan,
    served: Served,
    evictable: u32,
    keeper: &str,
) -> Result<Objects, BuildError> {
    Ok(Objects {
        service_account: access::service_account(valid),
        peers: service::peers(valid),
        clients: service::clients(valid),
        budget: budget::budget(valid, served.budget, evictable),
        network_policy: valid
            .spec
            .network_policy
            .enabled
            .then(|| network::policy(valid)),
        pod_monitor: (served.pod_monitor && valid.spec.monitoring.pod_monitor)
            .then(|| network::pod_monitor(valid)),
        stateful_set: stateful_set::stateful_set(valid, plan, served, keeper)?,
    })
}

/// The name of the service that names the nodes.
#[must_use]
pub fn peers_name(cluster: &str) -> String {
    format!("{cluster}-peers")
}

/// Where clients connect.
#[must_use]
pub fn endpoint(valid: &Valid) -> String {
    format!("{}.{}.svc:{CLIENT_PORT}", valid.name, valid.namespace)
}

/// The labels that select a cluster's pods.
#[must_use]
pub fn selector(cluster: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "lockstep"),
        ("app.kubernetes.io/component", "node"),
        (INSTANCE_LABEL, cluster),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The labels of everything that a cluster owns.
fn labels(cluster: &str) -> BTreeMap<String, String> {
    let mut labels = selector(cluster);
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGER.to_owned());
    labels
}

/// Whose an object is: deleted with it. The owner's deletion is not blocked until then, which would take a
/// right to its finalizers that nothing else needs.
#[must_use]
pub fn owner(name: &str, uid: &str) -> OwnerReference {
    OwnerReference {
        api_version: SyncCluster::api_version(&()).into_owned(),
        kind: SyncCluster::kind(&()).into_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: None,
    }
}

fn metadata(valid: &Valid, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: Some(valid.namespace.clone()),
        labels: Some(labels(&valid.name)),
        owner_references: Some(vec![owner(&valid.name, &valid.uid)]),
        ..ObjectMeta::default()
    }
}

fn label_selector(cluster: &str) -> LabelSelector {
    LabelSelector {
        match_labels: Some(selector(cluster)),
        match_expressions: None,
    }
}

#[cfg(test)]
mod tests;
