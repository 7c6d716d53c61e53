//! What the operator says about a cluster.
//!
//! Invariant: every condition carries the generation that it speaks of, and its
//! `lastTransitionTime` changes only when its status does.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator has found and is doing.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SyncClusterStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What the operator is doing, in a word: the reason of the condition `Progressing`, or `Running`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub phase: String,
    /// `Available`, `Progressing`, `Degraded`, `QuorumHealthy`, `DataBalanced` and `StorageReady`.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Pods that there are to be now: between what was and what is wanted while the cluster is scaled.
    #[serde(default)]
    pub current_nodes: u32,
    /// Nodes that serve.
    #[serde(default)]
    pub ready_nodes: u32,
    /// The nodes, as the members say, in the order of their names.
    #[serde(default)]
    pub nodes: Vec<NodeReport>,
    /// The shards in numbers.
    #[serde(default)]
    pub shards: ShardSummary,
    /// The label selector of the pods.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selector: String,
    /// Where clients connect: `host:port`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    /// The image that most of the nodes run.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub current_image: String,
}

/// One of the conditions of a cluster.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in a word that does not change from version to version.
    pub reason: String,
    /// Why, in words for people, with what to do about it.
    pub message: String,
    /// The generation of the spec that it speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When the status last changed.
    pub last_transition_time: Time,
}

/// What conditions there are.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord,
)]
pub enum ConditionKind {
    /// Every shard has a leader, so that every lock can be taken.
    Available,
    /// The cluster is not yet as its spec says, and is being brought there.
    Progressing,
    /// Something is not as it should be, although the cluster may serve.
    Degraded,
    /// Every shard has a majority of its replicas.
    QuorumHealthy,
    /// Every shard has all its replicas, where they should be.
    DataBalanced,
    /// Every volume has the size that it should have.
    StorageReady,
}

/// A node of the cluster.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NodeReport {
    /// The name of its pod.
    pub name: String,
    /// Its number in the cluster: another one after its volume was lost.
    pub id: u64,
    /// Whether it answers and serves.
    pub ready: bool,
    /// `Active`, `Draining` or `Lost`.
    pub lifecycle: String,
    /// The version of its program.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Shards that it leads.
    pub shards_led: u32,
    /// Replicas that it holds.
    pub shards_held: u32,
    /// Log entries that its replica furthest behind is behind its leader, in steps: 0, 10, 100, ...
    pub lag: u64,
    /// What it fails together with.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub zone: String,
}

/// The shards in numbers.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ShardSummary {
    /// All, the one of the cluster's own tables included.
    pub total: u32,
    /// Those with fewer good replicas than they should have.
    pub under_replicated: u32,
    /// Those that nobody leads: they serve nobody.
    pub leaderless: u32,
}
