//! What a recovery is going to do.
//!
//! Invariants: for every shard the replica with the greatest end of log is taken, by term, then index:
//! Raft's own order of who may lead (dissertation, section 3.6.1), so that nothing that a survivor
//! could have been told was committed is lost to a shorter log. And no group of the new cluster begins
//! with two states: an interrupted recovery is finished with exactly the directories that it was begun
//! with, and from the replicas that it has made; or it is given up for another cluster.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use anyhow::{Context as _, bail, ensure};
use lockstep_model::{
    ClusterId, NodeId, ShardId,
    meta::{ClusterView, MAX_VOTERS},
};

use super::{
    directory::Directory,
    mark::{Mark, Stage},
};

/// What is going to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The cluster that was.
    pub old: ClusterId,
    /// The cluster that will be.
    pub new: ClusterId,
    /// The new cluster's tables, where an interrupted recovery has decided them.
    pub decided: Option<ClusterView>,
    /// The directories, by their places, that have to be made part of the new cluster.
    pub open: BTreeSet<usize>,
    /// What becomes of each shard.
    pub shards: BTreeMap<ShardId, ShardPlan>,
}

/// What becomes of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPlan {
    /// The nodes that will hold it.
    pub voters: Vec<NodeId>,
    /// What the replicas that are missing are made of; none where none is.
    pub source: Option<Source>,
}

/// A replica that others are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// In which directory, by its place.
    pub directory: usize,
    /// How it is taken.
    pub take: Take,
}

/// How a replica is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It is of the old cluster, and the new group begins after it.
    Succeed {
        /// In this term, which is after all that were seen.
        term: u64,
    },
    /// The interrupted recovery has made it, and it is copied.
    Copy,
}

/// Makes the plan. `fresh` is the new cluster's id, unless one was begun already. `lost` are nodes of
/// an interrupted recovery which cannot be finished because their directories are gone.
///
/// # Errors
/// If the directories do not belong together, or a shard is in none.
pub fn plan(
    directories: &[Directory],
    lost: &BTreeSet<NodeId>,
    fresh: ClusterId,
) -> anyhow::Result<Plan> {
    let mut named = BTreeSet::new();
    for one in directories {
        ensure!(
            named.insert(one.identity.node),
            "{} is of node {}, as another is: name only the one that ran last",
            one.path.display(),
            one.identity.node
        );
    }
    let placed = directories.iter().find_map(|one| {
        let mark = one.mark.filter(|mark| mark.stage == Stage::Placed)?;
        Some((mark, &one.identity.plan))
    });
    let Some((mark, tables)) = placed else {
        ensure!(
            lost.is_empty(),
            "there is no interrupted recovery that lost nodes would have to be taken out of"
        );
        return afresh(directories, fresh);
    };
    let members = tables.nodes.iter().map(|node| node.node);
    let missing: BTreeSet<NodeId> = members.filter(|node| !named.contains(node)).collect();
    ensure!(
        lost.is_subset(&missing),
        "only nodes of the interrupted recovery whose directories are not named can be lost"
    );
    if missing.is_empty() {
        return resumed(directories, mark, tables);
    }
    ensure!(
        missing == *lost,
        "a recovery was interrupted that is of {} too: name the directories of all its nodes, or --lost for \
         each whose directory is gone",
        list(missing.difference(lost))
    );
    // What was put in place is a cluster that has lost nodes, like any other.
    afresh(directories, fresh)
}

fn list<'a>(nodes: impl Iterator<Item = &'a NodeId>) -> String {
    let nodes: Vec<_> = nodes.map(|node| format!("node {node}")).collect();
    nodes.join(", ")
}

/// A new cluster of these directories. It may be that a recovery was begun in some of them: as long
/// as nothing is in place where one looks, another id makes it void, because where it is in place no
/// node starts before it is everywhere.
fn afresh(directories: &[Directory], new: ClusterId) -> anyhow::Result<Plan> {
    let first = directories.first().context("name the data directories")?;
    let old = first.identity.cluster;
    for one in directories {
        let cluster = one.identity.cluster;
        if cluster != old {
            bail!(
                "{} belongs to cluster {cluster}, not {old}: a cluster is recovered once, from all \
                 directories that are left of it; empty those that were left out, and their nodes join",
                one.path.display()
            );
        }
        ensure!(
            !one.replicas.is_empty(),
            "{} has no replica of any shard that can be read: leave it out, empty it, and start it later: \
             it joins",
            one.path.display()
        );
    }
    let settings = first.identity.plan.settings;
    let all: BTreeSet<usize> = (0..directories.len()).collect();
    let mut shards = BTreeMap::new();
    for shard in (0..=settings.shards).map(ShardId) {
        let limit = if shard == ShardId::META {
            MAX_VOTERS
        } else {
            settings.replication_factor
        };
        let (source, mut voters) = furthest(directories, &all, shard)?;
        voters.truncate(limit as usize);
        voters.sort_unstable();
        let source = Some(source);
        shards.insert(shard, ShardPlan { voters, source });
    }
    Ok(Plan {
        old,
        new,
        decided: None,
        open: all,
        shards,
    })
}

/// The rest of a recovery that has put directories in place.
fn resumed(directories: &[Directory], begun: Mark, tables: &ClusterView) -> anyhow::Result<Plan> {
    let (mut open, mut done) = (BTreeSet::new(), false);
    for (at, one) in directories.iter().enumerate() {
        let same = |mark: &Mark| (mark.old, mark.new) == (begun.old, begun.new);
        let Some(mark) = one.mark.filter(same) else {
            bail!(
                "{} took no part in the recovery that was interrupted: leave it out; empty it, and its node joins",
                one.path.display()
            );
        };
        let cluster = match mark.stage {
            Stage::Begun => {
                open.insert(at);
                begun.old
            }
            Stage::Placed => begun.new,
            Stage::Done => {
                done = true;
                begun.new
            }
        };
        ensure!(
            one.identity.cluster == cluster,
            "{} belongs to cluster {}, which its mark contradicts",
            one.path.display(),
            one.identity.cluster
        );
    }
    ensure!(
        !done || open.is_empty(),
        "one directory says that all were put in place, another that it was not: an older copy is among them"
    );
    let mut shards = BTreeMap::new();
    for (shard, voters) in &tables.placement.shards {
        let source = source(directories, &open, *shard, voters)?;
        let voters = voters.clone();
        shards.insert(*shard, ShardPlan { voters, source });
    }
    Ok(Plan {
        old: begun.old,
        new: begun.new,
        decided: Some(tables.clone()),
        open,
        shards,
    })
}

/// What a shard's missing replicas are made of when a recovery is finished.
fn source(
    directories: &[Directory],
    open: &BTreeSet<usize>,
    shard: ShardId,
    voters: &[NodeId],
) -> anyhow::Result<Option<Source>> {
    let (missing, made): (Vec<_>, Vec<_>) = directories
        .iter()
        .enumerate()
        .filter(|(_, one)| voters.contains(&one.identity.node))
        .partition(|(at, _)| open.contains(at));
    if missing.is_empty() {
        return Ok(None);
    }
    if made.is_empty() {
        return Ok(Some(furthest(directories, open, shard)?.0));
    }
    let readable = made
        .iter()
        .find(|(_, one)| one.replicas.contains_key(&shard));
    let (directory, _) = readable.with_context(|| {
        format!(
            "shard {shard} was put in place, but cannot be read there any more: begin a new recovery with the \
             directories where nothing was put in place"
        )
    })?;
    Ok(Some(Source {
        directory: *directory,
        take: Take::Copy,
    }))
}

/// The furthest of a shard's replicas, and the nodes of all of them, the furthest first.
fn furthest(
    directories: &[Directory],
    among: &BTreeSet<usize>,
    shard: ShardId,
) -> anyhow::Result<(Source, Vec<NodeId>)> {
    let mut found: Vec<_> = directories
        .iter()
        .enumerate()
        .filter(|(at, _)| among.contains(at))
        .filter_map(|(at, one)| Some((at, one, one.replicas.get(&shard)?)))
        .collect();
    found.sort_by_key(|(_, _, replica)| Reverse(replica.last));
    let terms = found.iter().map(|(_, _, replica)| {
        let vote = replica.vote.map_or(0, |vote| vote.leader_id.term);
        vote.max(replica.last.leader_id.term)
    });
    let term = terms.max().unwrap_or_default().saturating_add(1);
    let Some(&(directory, ..)) = found.first() else {
        let problems = directories
            .iter()
            .filter_map(|one| one.damaged.get(&shard))
            .map(|problem| format!("; {problem}"));
        bail!(
            "shard {shard} is in none of the directories, or cannot be read: it is lost{}",
            problems.collect::<String>()
        );
    };
    let source = Source {
        directory,
        take: Take::Succeed { term },
    };
    let nodes = found.iter().map(|(_, one, _)| one.identity.node);
    Ok((source, nodes.collect()))
}
