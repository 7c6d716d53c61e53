//! Checks a spec.
//!
//! Invariant: a [`Valid`] keeps every bound that the schema names, also where the API server did not
//! check it; all that is wrong is reported at once, each with its field and what would be right.

mod amount;

use super::plan::{Desired, RunState};
use crate::crd::v1alpha1::{DesiredState, MAX_NODES, MAX_SHARDS, SyncCluster, SyncClusterSpec};

pub use amount::{bytes, duration};

/// Longest name of a cluster: those of its pods and services have to fit into a DNS label of 63.
const MAX_NAME: usize = 50;

/// A spec that may be acted upon.
#[derive(Clone, Debug)]
pub struct Valid {
    /// The cluster's name.
    pub name: String,
    /// The namespace that it is in.
    pub namespace: String,
    /// It, and no other of its name.
    pub uid: String,
    /// The image of its nodes.
    pub image: String,
    /// What the planner has to know.
    pub desired: Desired,
    /// The rest.
    pub spec: SyncClusterSpec,
}

/// What was decided when the cluster was made, as noted at its StatefulSet, or else at its volumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founded {
    /// Data shards.
    pub shards: Option<u32>,
    /// Replicas of each.
    pub replication_factor: Option<u32>,
    /// Of the volumes' template, if there is one.
    pub storage: Option<FoundedStorage>,
}

/// What the template of volumes says for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundedStorage {
    /// The class.
    pub class: Option<String>,
    /// The size in bytes.
    pub bytes: u64,
}

/// One thing that is wrong with a spec.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {remedy}")]
pub struct Problem {
    /// The path of the field.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub remedy: String,
}

/// Checks a spec against its bounds and against what cannot be changed any more.
///
/// # Errors
/// With everything that is wrong.
pub fn validate(
    cluster: &SyncCluster,
    founded: Option<&Founded>,
    default_image: &str,
) -> Result<Valid, Vec<Problem>> {
    let spec = &cluster.spec;
    let mut checker = Checker::default();
    checker.name(cluster.metadata.name.as_deref().unwrap_or_default());
    checker.counts(spec);
    checker.raft(spec);
    let storage_bytes = checker.storage(spec);
    let replace_after = match duration(&spec.replace_lost_nodes_after) {
        Some(time) => (!time.is_zero()).then_some(time),
        None => {
            checker.problem(
                "spec.replaceLostNodesAfter",
                "must be 0, or a time such as 30s, 5m or 1h30m".to_owned(),
            );
            None
        }
    };
    let image = spec
        .image
        .clone()
        .unwrap_or_else(|| default_image.to_owned());
    if image.is_empty() || image.len() > 512 || image.contains(char::is_whitespace) {
        checker.problem(
            "spec.image",
            format!(
                "{image:?} is no image; name one, such as registry.example.com/lockstep-node:1.0"
            ),
        );
    }
    if let Some(founded) = founded {
        checker.unchanged(spec, founded, storage_bytes);
    }
    if !checker.problems.is_empty() {
        return Err(checker.problems);
    }
    Ok(Valid {
        name: cluster.metadata.name.clone().unwrap_or_default(),
        namespace: cluster.metadata.namespace.clone().unwrap_or_default(),
        uid: cluster.metadata.uid.clone().unwrap_or_default(),
        image,
        desired: Desired {
            nodes: spec.nodes,
            replication_factor: spec.replication_factor,
            storage_bytes,
            replace_after,
            state: match spec.state {
                DesiredState::Running => RunState::Running,
                DesiredState::Paused => RunState::Paused,
                DesiredState::Stopped => RunState::Stopped,
            },
        },
        spec: spec.clone(),
    })
}

/// Collects problems.
#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn problem(&mut self, field: &'static str, remedy: String) {
        self.problems.push(Problem { field, remedy });
    }

    fn bound(&mut self, field: &'static str, value: u32, least: u32, most: u32) {
        if !(least..=most).contains(&value) {
            self.problem(field, format!("is {value}; must be {least} to {most}"));
        }
    }

    fn name(&mut self, name: &str) {
        let good = name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.ends_with(|last: char| last.is_ascii_alphanumeric())
            && name
                .chars()
                .all(|sign| sign.is_ascii_lowercase() || sign.is_ascii_digit() || sign == '-')
            && name.len() <= MAX_NAME;
        if !good {
            self.problem("metadata.name", format!("{name:?} cannot name services: use at most {MAX_NAME} of a-z, 0-9 and -, beginning with a letter; create the cluster under another name"));
        }
    }

    fn counts(&mut self, spec: &SyncClusterSpec) {
        self.bound("spec.nodes", spec.nodes, 1, MAX_NODES);
        self.bound("spec.shards", spec.shards, 1, MAX_SHARDS);
        if ![1, 3, 5].contains(&spec.replication_factor) {
            self.problem(
                "spec.replicationFactor",
                format!("is {}; must be 1, 3 or 5", spec.replication_factor),
            );
        } else if spec.nodes < spec.replication_factor {
            self.problem("spec.nodes", format!("is {}, fewer than spec.replicationFactor: each replica needs a node of its own. Set at least {} nodes; a cluster of one node needs replicationFactor 1", spec.nodes, spec.replication_factor));
        }
    }

    fn raft(&mut self, spec: &SyncClusterSpec) {
        let election = spec.raft.election_timeout_ms;
        self.bound("spec.raft.electionTimeoutMs", election, 300, 60_000);
        self.bound(
            "spec.raft.heartbeatMs",
            spec.raft.heartbeat_ms,
            10,
            (election / 5).max(10),
        );
        self.bound(
            "spec.raft.snapshotEntries",
            spec.raft.snapshot_entries,
            10,
            10_000_000,
        );
        if spec.log.filter.is_empty() {
            self.problem(
                "spec.log.filter",
                "is empty; name a filter, such as info".to_owned(),
            );
        }
    }

    fn storage(&mut self, spec: &SyncClusterSpec) -> u64 {
        match bytes(&spec.storage.size) {
            Some(size) if size > 0 => size,
            Some(_) | None => {
                self.problem(
                    "spec.storage.size",
                    format!("{:?} is no size; write it as 10Gi", spec.storage.size),
                );
                0
            }
        }
    }

    fn unchanged(&mut self, spec: &SyncClusterSpec, founded: &Founded, storage_bytes: u64) {
        if let Some(was) = founded.shards.filter(|was| *was != spec.shards) {
            self.problem("spec.shards", format!("is {}, and was {was} when the cluster was created, which is for ever: set it back to {was}", spec.shards));
        }
        if let Some(was) = founded
            .replication_factor
            .filter(|was| *was != spec.replication_factor)
        {
            self.problem("spec.replicationFactor", format!("is {}, and was {was} when the cluster was created, which is for ever: set it back to {was}", spec.replication_factor));
        }
        let Some(storage) = &founded.storage else {
            return;
        };
        if storage.class != spec.storage.storage_class_name {
            let named = |class: &Option<String>| {
                class
                    .clone()
                    .unwrap_or_else(|| "the default class".to_owned())
            };
            self.problem("spec.storage.storageClassName", format!("is {}, and was {1} when the cluster was created, which is for ever: set it back to {1}", named(&spec.storage.storage_class_name), named(&storage.class)));
        }
        if storage_bytes != 0 && storage_bytes < storage.bytes {
            self.problem("spec.storage.size", format!("is {}, less than the {} bytes that the volumes have: volumes only grow. Set it back", spec.storage.size, storage.bytes));
        }
    }
}

#[cfg(test)]
mod tests;
