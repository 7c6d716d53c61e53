//! `SyncCluster`: what a user says about a cluster of Lockstep.
//!
//! Invariant: every field is documented with its unit, default and bounds, and what the schema can
//! check it checks. [`crate::cluster::validate`] checks everything once more, because an old API
//! server or a stale definition may not.

#![expect(
    clippy::duplicated_attributes,
    reason = "each printer column has a type"
)]
#![expect(
    unreachable_pub,
    reason = "the derived schemas are of copies of these types within functions"
)]

mod status;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Affinity, Toleration, TopologySpreadConstraint},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use status::{Condition, ConditionKind, NodeReport, ShardSummary, SyncClusterStatus};

/// Most nodes of a cluster: a bound for what a slip of the finger may order.
pub const MAX_NODES: u32 = 99;
/// Most data shards, as the nodes have it.
pub const MAX_SHARDS: u32 = 1_024;

/// A cluster of Lockstep: locks that stay correct when machines do not.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "lockstep.dev",
    version = "v1alpha1",
    kind = "SyncCluster",
    plural = "syncclusters",
    shortname = "sync",
    category = "all",
    namespaced,
    status = "SyncClusterStatus",
    derive = "PartialEq",
    doc = "A cluster of Lockstep, kept by the operator as `spec` says.",
    scale(
        spec_replicas_path = ".spec.nodes",
        status_replicas_path = ".status.currentNodes",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Nodes",
        type_ = "integer",
        json_path = ".spec.nodes",
        description = "Nodes wanted"
    ),
    printcolumn(
        name = "Ready",
        type_ = "integer",
        json_path = ".status.readyNodes",
        description = "Nodes that serve"
    ),
    printcolumn(
        name = "Shards",
        type_ = "integer",
        json_path = ".status.shards.total",
        description = "Shards, the one of the cluster's own tables included"
    ),
    printcolumn(
        name = "Leaderless",
        type_ = "integer",
        json_path = ".status.shards.leaderless",
        description = "Shards that serve nobody"
    ),
    printcolumn(
        name = "Image",
        type_ = "string",
        json_path = ".status.currentImage",
        description = "The image of the nodes"
    ),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.phase",
        description = "What the operator is doing"
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    )
)]
#[x_kube(
    validation = Rule::new("self.nodes >= self.replicationFactor")
        .message("nodes must be at least replicationFactor; a cluster of one node needs replicationFactor: 1")
)]
#[serde(rename_all = "camelCase")]
pub struct SyncClusterSpec {
    /// How many nodes the cluster has: at least `replicationFactor`, at most 99. Default 3. Also the
    /// `replicas` of `kubectl scale`. Fewer nodes: the highest are emptied first, one after another,
    /// and their volumes are deleted once they have left the cluster.
    #[serde(default = "default::nodes")]
    #[schemars(range(min = 1, max = 99))]
    pub nodes: u32,
    /// The image of the nodes. Default: the one that the operator was installed with, in which case an
    /// upgrade of the operator rolls the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub image: Option<String>,
    /// When to pull the image. Default `IfNotPresent`.
    #[serde(default)]
    pub image_pull_policy: ImagePullPolicy,
    /// Data shards: each is a Raft group of its own. 1 to 1,024, default 8. Fixed for ever.
    #[serde(default = "default::shards")]
    #[schemars(range(min = 1, max = 1024))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("shards are fixed when the cluster is created"))]
    pub shards: u32,
    /// Replicas of each shard: 1, 3 (default) or 5. A cluster survives the loss of less than half of
    /// them at a time; with 1, none. Fixed for ever.
    #[serde(default = "default::replication_factor")]
    #[schemars(range(min = 1, max = 5))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("replicationFactor is fixed when the cluster is created"))]
    #[x_kube(validation = Rule::new("self in [1, 3, 5]").message("replicationFactor must be 1, 3 or 5"))]
    pub replication_factor: u32,
    /// Each node's volume.
    #[serde(default)]
    pub storage: Storage,
    /// Timing and size of the Raft groups.
    #[serde(default)]
    pub raft: Raft,
    /// What the nodes log.
    #[serde(default)]
    pub log: Log,
    /// Processor and memory of each node. Default: requests of 250m and 512Mi, no limits.
    #[serde(default)]
    pub resources: Resources,
    /// Where pods may run. Default: preferably no two of a cluster on a host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// How pods are spread. Default: over zones as evenly as can be, without refusing to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// Taints that the pods tolerate. Default none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Laid over the pods' template: objects are merged, lists of named items (containers, volumes,
    /// environment) by name, mounts by their path, and everything else is replaced. What the operator relies
    /// on (selector labels; of the container `lockstep` the name, the ports, the mount of the data, and the
    /// environment that it sets) may not change, and fields that pods do not have are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub pod_template: Option<serde_json::Map<String, serde_json::Value>>,
    /// The service that clients connect to.
    #[serde(default)]
    pub service: ClientService,
    /// `Running` (default); `Paused`: nothing is changed, only the status is kept; `Stopped`: no pods, and
    /// the volumes are kept.
    #[serde(default)]
    pub state: DesiredState,
    /// How long a node's machine may be away (its Node gone, unreachable or not ready) before the node is
    /// declared lost and built anew on an empty volume, such as `30s`, `5m` (default) or `1h30m`. `0`:
    /// never. Counted from when this operator first saw it; a new one counts anew. It happens only while
    /// every shard keeps a majority without it.
    #[serde(default = "default::replace_lost_nodes_after")]
    #[schemars(regex(pattern = r"^(0|([0-9]{1,6}(s|m|h))+)$"))]
    pub replace_lost_nodes_after: String,
    /// What Prometheus is told.
    #[serde(default)]
    pub monitoring: Monitoring,
    /// Who may connect.
    #[serde(default)]
    pub network_policy: NetworkPolicySpec,
}

/// When to pull an image.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ImagePullPolicy {
    /// Before every start.
    Always,
    /// If the machine does not have it.
    #[default]
    IfNotPresent,
    /// Never: it must be there.
    Never,
}

impl ImagePullPolicy {
    /// As Kubernetes spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// Each node's volume.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[x_kube(
    validation = Rule::new(
        "has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)"
    ).message("storageClassName is fixed when the cluster is created")
)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Its size, such as `10Gi` (default). It may grow, if the storage class can; never shrink.
    #[serde(default = "default::size")]
    #[schemars(regex(pattern = r"^[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$"))]
    pub size: String,
    /// The storage class. Default: the Kubernetes cluster's default. Fixed for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// What becomes of the volumes when the `SyncCluster` is deleted: `Retain` (default) keeps them, and a
    /// new one of the same name takes them over; `Delete` deletes them. Volumes of nodes that left the
    /// cluster in order are deleted in either case.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            size: default::size(),
            storage_class_name: None,
            reclaim_policy: ReclaimPolicy::default(),
        }
    }
}

/// What becomes of volumes when their cluster is deleted.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReclaimPolicy {
    /// They are kept.
    #[default]
    Retain,
    /// They are deleted too.
    Delete,
}

/// Timing and size of the Raft groups.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Raft {
    /// A replica that hears nothing from its leader for 0.7 to 1 times this stands for election. In
    /// milliseconds, 300 to 60,000, default 1,500.
    #[serde(default = "default::election_timeout_ms")]
    #[schemars(range(min = 300, max = 60000))]
    pub election_timeout_ms: u32,
    /// How often an idle leader is heard. In milliseconds, 10 to a fifth of `electionTimeoutMs`, default
    /// 250.
    #[serde(default = "default::heartbeat_ms")]
    #[schemars(range(min = 10, max = 12000))]
    pub heartbeat_ms: u32,
    /// Log entries between two snapshots of a shard: 10 to 10,000,000, default 20,000.
    #[serde(default = "default::snapshot_entries")]
    #[schemars(range(min = 10, max = 10_000_000))]
    pub snapshot_entries: u32,
}

impl Default for Raft {
    fn default() -> Self {
        Self {
            election_timeout_ms: default::election_timeout_ms(),
            heartbeat_ms: default::heartbeat_ms(),
            snapshot_entries: default::snapshot_entries(),
        }
    }
}

/// What the nodes log.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// A `tracing` filter. Default `info,openraft=warn`.
    #[serde(default = "default::log_filter")]
    #[schemars(length(min = 1, max = 1024))]
    pub filter: String,
    /// `json` (default) or `text`.
    #[serde(default)]
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            filter: default::log_filter(),
            format: LogFormat::default(),
        }
    }
}

/// How log lines look.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For machines: one JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

impl LogFormat {
    /// As the nodes spell it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Text => "text",
        }
    }
}

/// Processor and memory of each node.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct Resources {
    /// What is set aside, by resource, such as `cpu: 250m` and `memory: 512Mi` (default).
    #[serde(default = "default::requests")]
    #[schemars(schema_with = "amounts")]
    pub requests: BTreeMap<String, IntOrString>,
    /// What is never exceeded, by resource. Default none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "amounts")]
    pub limits: BTreeMap<String, IntOrString>,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            requests: default::requests(),
            limits: BTreeMap::new(),
        }
    }
}

/// The service that clients connect to.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ClientService {
    /// `ClusterIP` (default), `NodePort` or `LoadBalancer`.
    #[serde(default, rename = "type")]
    pub kind: ServiceKind,
    /// Annotations of the service, such as a cloud's load balancer wants. Default none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// From where a service is reached.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServiceKind {
    /// From inside of the Kubernetes cluster.
    #[default]
    ClusterIP,
    /// At a port of every machine too.
    NodePort,
    /// Through a cloud's load balancer too.
    LoadBalancer,
}

impl ServiceKind {
    /// As Kubernetes spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ClusterIP => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        }
    }
}

/// Whether a cluster runs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DesiredState {
    /// It runs, and is kept as its spec says.
    #[default]
    Running,
    /// It runs, and nothing is changed.
    Paused,
    /// It has no pods; its volumes are kept.
    Stopped,
}

/// What Prometheus is told.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Monitoring {
    /// Makes a `PodMonitor` of the Prometheus operator, if the API server serves that kind. Default
    /// `false`.
    #[serde(default)]
    pub pod_monitor: bool,
    /// Labels of the `PodMonitor`, by which Prometheus selects it. Default none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Who may connect.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicySpec {
    /// Makes a `NetworkPolicy` that lets nobody but the cluster's own nodes reach the peers' port 7401.
    /// Default `true`.
    #[serde(default = "default::yes")]
    pub enabled: bool,
}

impl Default for NetworkPolicySpec {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// Amounts by name, without the `anyOf` that Kubernetes 1.20 cannot publish in a map.
fn amounts(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "additionalProperties": {"x-kubernetes-int-or-string": true},
    })
}

/// A schema for what only the pods' own schema can check.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": true,
    })
}

/// What a field is that is not given.
mod default {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    pub(super) const fn nodes() -> u32 {
        3
    }
    pub(super) const fn shards() -> u32 {
        8
    }
    pub(super) const fn replication_factor() -> u32 {
        3
    }
    pub(super) fn size() -> String {
        "10Gi".to_owned()
    }
    pub(super) const fn election_timeout_ms() -> u32 {
        1_500
    }
    pub(super) const fn heartbeat_ms() -> u32 {
        250
    }
    pub(super) const fn snapshot_entries() -> u32 {
        20_000
    }
    pub(super) fn log_filter() -> String {
        "info,openraft=warn".to_owned()
    }
    pub(super) fn replace_lost_nodes_after() -> String {
        "5m".to_owned()
    }
    pub(super) const fn yes() -> bool {
        true
    }
    pub(super) fn requests() -> BTreeMap<String, IntOrString> {
        [("cpu", "250m"), ("memory", "512Mi")]
            .map(|(name, amount)| (name.to_owned(), IntOrString::String(amount.to_owned())))
            .into()
    }
}

#[cfg(test)]
mod tests;
