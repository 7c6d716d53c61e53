//! What an operator is shown before deciding, and what a program is told afterwards.
//!
//! Invariant: the fields of the JSON keep their names and meanings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use lockstep_model::{NodeId, ShardId, Timestamp, meta::NodeRecord};
use serde::Serialize;

use super::{
    directory::Directory,
    plan::{Plan, Take},
    readable::Found,
};
use crate::raft::types::{LogId, StoredMembership};

/// All that is shown.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    old_cluster_id: String,
    new_cluster_id: String,
    /// True if an earlier recovery is finished by this one.
    resumed: bool,
    directories: Vec<ShownDirectory>,
    shards: Vec<ShownShard>,
    /// Nodes of the old cluster whose directories are not named.
    left_out: Vec<ShownLeftOut>,
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
    /// Those that cannot be read, and count as absent.
    damaged: Vec<ShownDamage>,
}

#[derive(Debug, Serialize)]
struct ShownDamage {
    shard: u32,
    problem: String,
}

#[derive(Debug, Serialize)]
struct ShownLeftOut {
    node_id: u64,
    name: String,
    client_address: String,
    peer_address: String,
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
    /// Whose replica is taken; none where an earlier recovery has put all in place.
    from_node_id: Option<u64>,
    voters: Vec<u64>,
    /// What is known of the old group; nothing where an earlier recovery has put its end in place.
    old: Option<ShownGroup>,
}

#[derive(Debug, Serialize)]
struct ShownGroup {
    /// How many voters it had.
    voters: usize,
    /// True if the lost nodes were enough to acknowledge something without these.
    may_lack: bool,
}

impl Shown {
    pub(super) fn new(directories: &[Directory], plan: &Plan, found: &Found) -> Self {
        let shown = directories
            .iter()
            .enumerate()
            .map(|(at, one)| ShownDirectory::new(at, one, plan));
        let shards = plan.shards.iter().map(|(shard, planned)| {
            let source = planned.source;
            let from = source.and_then(|source| directories.get(source.directory));
            let memberships = found.memberships.get(shard).filter(|_| {
                source.is_some_and(|source| matches!(source.take, Take::Succeed { .. }))
            });
            let have = directories
                .iter()
                .filter(|one| one.replicas.contains_key(shard));
            let here = have.map(|one| one.identity.node.0).collect();
            ShownShard {
                shard: shard.0,
                from_node_id: from.map(|one| one.identity.node.0),
                voters: planned.voters.iter().map(|node| node.0).collect(),
                old: memberships.map(|memberships| ShownGroup {
                    voters: voters(memberships),
                    may_lack: may_lack(&here, memberships),
                }),
            }
        });
        Self {
            old_cluster_id: plan.old.to_string(),
            new_cluster_id: plan.new.to_string(),
            resumed: plan.decided.is_some(),
            directories: shown.collect(),
            shards: shards.collect(),
            left_out: left_out(directories, found),
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
            one.write(out)?;
        }
        writeln!(out, "\nnew cluster {}", self.new_cluster_id)?;
        writeln!(out, "  SHARD  FROM NODE  NEW VOTERS")?;
        for shard in &self.shards {
            let from = shard.from_node_id;
            write!(
                out,
                "  {:>5}  {:>9}  {}",
                shard.shard,
                from.map_or("-".to_owned(), |node| node.to_string()),
                shard.voters.len()
            )?;
            if let Some(old) = &shard.old {
                write!(out, " of {}", old.voters)?;
                if old.may_lack {
                    write!(out, "  may lack what only lost nodes had acknowledged")?;
                }
            }
            writeln!(out)?;
        }
        if !self.left_out.is_empty() {
            writeln!(
                out,
                "\nNot named here, and never to run on their old directories again:"
            )?;
        }
        for node in &self.left_out {
            writeln!(
                out,
                "  node {} ({}) at {}",
                node.node_id, node.name, node.peer_address
            )?;
        }
        writeln!(
            out,
            "\nAll sessions will be over and all locks free; tokens will be greater than before."
        )
    }
}

impl ShownDirectory {
    fn new(at: usize, one: &Directory, plan: &Plan) -> Self {
        let mut nodes = one.identity.plan.nodes.iter();
        let own = nodes.find(|node| node.node == one.identity.node);
        let index = |id: Option<LogId>| id.map(|id| id.index);
        let taken = |shard: &ShardId| {
            let source = plan.shards.get(shard).and_then(|planned| planned.source);
            source.is_some_and(|source| source.directory == at)
        };
        let replicas = one.replicas.iter().map(|(shard, replica)| ShownReplica {
            shard: shard.0,
            vote_term: replica.vote.map_or(0, |vote| vote.leader_id.term),
            last_term: replica.last.leader_id.term,
            last_index: replica.last.index,
            purged_index: index(replica.purged),
            snapshot_index: index(replica.snapshot),
            taken: taken(shard),
        });
        let damaged = one.damaged.iter().map(|(shard, problem)| ShownDamage {
            shard: shard.0,
            problem: problem.clone(),
        });
        Self {
            path: one.path.display().to_string(),
            node_id: one.identity.node.0,
            name: own.map(|node| node.name.clone()).unwrap_or_default(),
            replicas: replicas.collect(),
            damaged: damaged.collect(),
        }
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(
            out,
            "\nnode {} ({}): {}",
            self.node_id, self.name, self.path
        )?;
        writeln!(
            out,
            "  SHARD  TERM  LAST TERM  LAST INDEX  PURGED  SNAPSHOT"
        )?;
        for replica in &self.replicas {
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
        for one in &self.damaged {
            writeln!(out, "  {:>5}  damaged: {}", one.shard, one.problem)?;
        }
        Ok(())
    }
}

/// Whom the cluster knew besides those whose directories are here: by its registry or, where that is
/// not read, by all that the directories remember of it.
fn left_out(directories: &[Directory], found: &Found) -> Vec<ShownLeftOut> {
    let named: BTreeSet<NodeId> = directories.iter().map(|one| one.identity.node).collect();
    let remembered = directories.iter().flat_map(|one| &one.identity.plan.nodes);
    let known: BTreeMap<NodeId, &NodeRecord> = if found.nodes.is_empty() {
        remembered.map(|node| (node.node, node)).collect()
    } else {
        found.nodes.iter().map(|node| (node.node, node)).collect()
    };
    let others = known.values().filter(|node| !named.contains(&node.node));
    let shown = others.map(|node| ShownLeftOut {
        node_id: node.node.0,
        name: node.name.clone(),
        client_address: node.client_address.clone(),
        peer_address: node.peer_address.clone(),
    });
    shown.collect()
}

/// How many voters a shard's group has.
fn voters(memberships: &[StoredMembership]) -> usize {
    let last = memberships.last();
    last.map_or(0, |last| last.membership().voter_ids().count())
}

/// Whether those of a shard's voters that are not here can have acknowledged something without those
/// that are: a majority of each of the sets of voters that had to agree.
fn may_lack(here: &BTreeSet<u64>, memberships: &[StoredMembership]) -> bool {
    let enough = |voters: &BTreeSet<u64>| voters.difference(here).count() > voters.len() / 2;
    memberships
        .iter()
        .any(|one| one.membership().get_joint_config().iter().all(enough))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::types::{Membership, PeerAddress};

    fn membership(configs: &[&[u64]]) -> StoredMembership {
        let sets: Vec<BTreeSet<u64>> = configs
            .iter()
            .map(|voters| voters.iter().copied().collect())
            .collect();
        let nodes: BTreeMap<u64, PeerAddress> = sets
            .iter()
            .flatten()
            .map(|node| (*node, PeerAddress(String::new())))
            .collect();
        StoredMembership::new(None, Membership::new(sets, nodes).unwrap())
    }

    #[test]
    fn a_shard_may_lack_what_a_majority_of_lost_voters_can_decide() {
        let here = |nodes: &[u64]| nodes.iter().copied().collect::<BTreeSet<u64>>();
        let of_three = [membership(&[&[1, 2, 3]])];
        assert_eq!(voters(&of_three), 3);
        assert!(may_lack(&here(&[1]), &of_three));
        assert!(may_lack(&here(&[1, 9]), &of_three));
        assert!(!may_lack(&here(&[1, 3]), &of_three));
        // All sets of voters have to agree.
        let joint = membership(&[&[1, 2, 3], &[1, 2, 4]]);
        assert!(!may_lack(&here(&[1, 4]), std::slice::from_ref(&joint)));
        assert!(may_lack(&here(&[4]), std::slice::from_ref(&joint)));
        // The last may never have been in force.
        let [before] = of_three;
        assert!(may_lack(&here(&[1, 4]), &[before, joint]));
    }
}
