//! What an operator is shown before deciding, and what a program is told afterwards.
//!
//! Invariant: the fields of the JSON keep their names and meanings.

use std::fmt::Write as _;

use lockstep_model::{ShardId, Timestamp};
use serde::Serialize;

use super::{directory::Directory, plan::Plan};
use crate::raft::types::LogId;

/// All that is shown.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    old_cluster_id: String,
    new_cluster_id: String,
    /// True if an earlier recovery is finished by this one.
    resumed: bool,
    directories: Vec<ShownDirectory>,
    shards: Vec<ShownShard>,
    /// Unix time in milliseconds before which the nodes grant nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct ShownDirectory {
    path: String,
    node_id: u64,
    name: String,
    replicas: Vec<ShownReplica>,
}

#[derive(Debug, Serialize)]
struct ShownReplica {
    shard: u32,
    vote_term: u64,
    last_term: u64,
    last_index: u64,
    purged_index: Option<u64>,
    snapshot_index: Option<u64>,
    /// True for the one that is taken.
    taken: bool,
}

#[derive(Debug, Serialize)]
struct ShownShard {
    shard: u32,
    from_node_id: u64,
    voters: Vec<u64>,
    /// Of how many voters, by the newest tables that were found.
    of_voters: usize,
    /// True if the lost nodes were enough to acknowledge something without these.
    may_lack: bool,
}

impl Shown {
    pub(super) fn new(directories: &[Directory], plan: &Plan) -> Self {
        let shown = directories.iter().enumerate().map(|(at, one)| {
            let tables = &one.identity.plan;
            let own = tables
                .nodes
                .iter()
                .find(|node| node.node == one.identity.node);
            let index = |id: Option<LogId>| id.map(|id| id.index);
            let replicas = one.replicas.iter().map(|(shard, replica)| ShownReplica {
                shard: shard.0,
                vote_term: replica.vote.map_or(0, |vote| vote.leader_id.term),
                last_term: replica.last.leader_id.term,
                last_index: replica.last.index,
                purged_index: index(replica.purged),
                snapshot_index: index(replica.snapshot),
                taken: plan.shards.get(shard).is_some_and(|plan| plan.source == at),
            });
            ShownDirectory {
                path: one.path.display().to_string(),
                node_id: one.identity.node.0,
                name: own.map(|node| node.name.clone()).unwrap_or_default(),
                replicas: replicas.collect(),
            }
        });
        let shards = plan.shards.iter().map(|(shard, planned)| {
            let source = directories.get(planned.source);
            let (of_voters, may_lack) = lacks(directories, *shard, planned.finished);
            ShownShard {
                shard: shard.0,
                from_node_id: source.map_or(0, |one| one.identity.node.0),
                voters: planned.voters.iter().map(|node| node.0).collect(),
                of_voters,
                may_lack,
            }
        });
        Self {
            old_cluster_id: plan.old.to_string(),
            new_cluster_id: plan.new.to_string(),
            resumed: plan.resumed,
            directories: shown.collect(),
            shards: shards.collect(),
            not_before_ms: None,
        }
    }

    pub(super) fn json(mut self, not_before: Timestamp) -> anyhow::Result<String> {
        self.not_before_ms = Some(not_before.0);
        Ok(serde_json::to_string_pretty(&self)? + "\n")
    }

    pub(super) fn table(&self) -> String {
        let mut text = String::new();
        // Writing into a text cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "cluster {}", self.old_cluster_id)?;
        if self.resumed {
            writeln!(out, "an earlier recovery is finished")?;
        }
        for one in &self.directories {
            writeln!(out, "\nnode {} ({}): {}", one.node_id, one.name, one.path)?;
            writeln!(
                out,
                "  SHARD  TERM  LAST TERM  LAST INDEX  PURGED  SNAPSHOT"
            )?;
            for replica in &one.replicas {
                let dash = |index: Option<u64>| index.map_or("-".to_owned(), |at| at.to_string());
                writeln!(
                    out,
                    "  {:>5}  {:>4}  {:>9}  {:>10}  {:>6}  {:>8}{}",
                    replica.shard,
                    replica.vote_term,
                    replica.last_term,
                    replica.last_index,
                    dash(replica.purged_index),
                    dash(replica.snapshot_index),
                    if replica.taken { "  taken" } else { "" }
                )?;
            }
        }
        writeln!(out, "\nnew cluster {}", self.new_cluster_id)?;
        writeln!(out, "  SHARD  FROM NODE  NEW VOTERS")?;
        for shard in &self.shards {
            let warning = if shard.may_lack {
                "  may lack what only lost nodes had acknowledged"
            } else {
                ""
            };
            writeln!(
                out,
                "  {:>5}  {:>9}  {} of {}{warning}",
                shard.shard,
                shard.from_node_id,
                shard.voters.len(),
                shard.of_voters
            )?;
        }
        writeln!(
            out,
            "\nAll sessions will be over and all locks free; tokens will be greater than before."
        )
    }
}

/// How many voters the shard had, and whether a majority of them can be without those that are here.
fn lacks(directories: &[Directory], shard: ShardId, finished: bool) -> (usize, bool) {
    let newest = directories
        .iter()
        .map(|one| &one.identity.plan)
        .max_by_key(|tables| tables.revision);
    let voters = newest.and_then(|tables| tables.placement.shards.get(&shard));
    let voters = voters.map(Vec::as_slice).unwrap_or_default();
    let here = directories
        .iter()
        .filter(|one| voters.contains(&one.identity.node) && one.replicas.contains_key(&shard));
    let majority = voters.len() / 2 + 1;
    let may_lack = !finished && here.count() + majority <= voters.len();
    (voters.len(), may_lack)
}
