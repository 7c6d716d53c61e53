//! Making what is to be put in place.
//!
//! Invariant: all of it is written beside what is there, where nobody sees it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use bytes::Bytes;
use lockstep_model::{Machine, Millis, NodeId, ShardId, meta::ClusterView};

use super::{
    directory::Directory,
    plan::{Plan, ShardPlan, Source, Take},
    readable::replay,
};
use crate::{
    raft::types::{LeaderId, LogId, Membership, PeerAddress, StoredMembership, Vote},
    storage::Staged,
};

/// What is going to be put in place in one directory.
#[derive(Default)]
pub(super) struct Ready {
    pub(super) staged: Vec<Staged>,
    pub(super) dropped: Vec<ShardId>,
}

/// All that is going to be put in place.
pub(super) struct Prepared {
    /// By the directory's place among them.
    pub(super) ready: BTreeMap<usize, Ready>,
    /// The new tables.
    pub(super) view: ClusterView,
    /// The longest TTL of the sessions that were found.
    pub(super) longest: Millis,
}

/// A replica of the new cluster.
struct Made {
    state: Bytes,
    last: LogId,
}

/// Writes all that is to be put in place, beside what is there.
pub(super) async fn prepare(directories: &[Directory], plan: &Plan) -> anyhow::Result<Prepared> {
    let nodes: BTreeSet<NodeId> = directories.iter().map(|one| one.identity.node).collect();
    let open: BTreeMap<usize, &Directory> = directories
        .iter()
        .enumerate()
        .filter(|(at, _)| plan.open.contains(at))
        .collect();
    let mut ready: BTreeMap<usize, Ready> = open.keys().map(|at| (*at, Ready::default())).collect();
    let mut longest = Millis(0);
    // The meta shard comes first: the others' members need its nodes' addresses.
    let mut view = plan.decided.clone();
    for (shard, planned) in &plan.shards {
        let mut made = None;
        if let Some(source) = planned.source {
            let (machine, last, ttl) = make(directories, *shard, source, plan, &nodes).await?;
            longest = longest.max(ttl);
            if let Machine::Meta(meta) = &machine {
                view = meta.cluster();
            }
            let state = Bytes::from(machine.snapshot());
            made = Some(Made { state, last });
        }
        let view = view.as_ref().context("the meta shard has no tables")?;
        for (at, one) in &open {
            let ready = ready.entry(*at).or_default();
            if planned.voters.contains(&one.identity.node) {
                let made = made.as_ref().context("a voter without a source")?;
                let staged = stage(one, *shard, made, planned, view).await;
                ready.staged.push(
                    staged.with_context(|| format!("shard {shard} in {}", one.path.display()))?,
                );
            } else {
                ready.dropped.push(*shard);
            }
        }
    }
    let view = view.context("the meta shard has no tables")?;
    Ok(Prepared {
        ready,
        view,
        longest,
    })
}

/// The state of a shard's new group, up to where its log begins, and the longest TTL of the sessions
/// that it ends.
async fn make(
    directories: &[Directory],
    shard: ShardId,
    source: Source,
    plan: &Plan,
    nodes: &BTreeSet<NodeId>,
) -> anyhow::Result<(Machine, LogId, Millis)> {
    let directory = directories
        .get(source.directory)
        .context("a plan for other directories")?;
    let replayed = replay(directory, shard).await?;
    let replayed =
        replayed.with_context(|| format!("shard {shard} in {}", directory.path.display()))?;
    let ttl = match &replayed.machine {
        Machine::Meta(_) => Millis(0),
        Machine::Data(shard) => shard.longest_ttl().unwrap_or(Millis(0)),
    };
    Ok(match source.take {
        Take::Copy => (replayed.machine, replayed.last, ttl),
        Take::Succeed { term } => {
            let leader_id = LeaderId {
                term,
                node_id: directory.identity.node.0,
            };
            let index = replayed.last.index.saturating_add(1);
            let machine = succeed(replayed.machine, plan, nodes)?;
            (machine, LogId { leader_id, index }, ttl)
        }
    })
}

/// The state that the new group begins with.
fn succeed(machine: Machine, plan: &Plan, nodes: &BTreeSet<NodeId>) -> anyhow::Result<Machine> {
    Ok(match machine {
        Machine::Meta(meta) => {
            let voters: BTreeMap<ShardId, Vec<NodeId>> = plan
                .shards
                .iter()
                .map(|(shard, planned)| (*shard, planned.voters.clone()))
                .collect();
            Machine::Meta(meta.recovered(plan.new, nodes, voters)?)
        }
        Machine::Data(shard) => {
            let above = shard
                .tokens_of_successor()
                .with_context(|| format!("shard {} has given its last tokens", shard.id()))?;
            Machine::Data(shard.successor(above))
        }
    })
}

async fn stage(
    directory: &Directory,
    shard: ShardId,
    made: &Made,
    planned: &ShardPlan,
    view: &ClusterView,
) -> anyhow::Result<Staged> {
    let Made { state, last } = made;
    let vote = Vote {
        leader_id: LeaderId {
            term: last.leader_id.term.saturating_add(1),
            node_id: last.leader_id.node_id,
        },
        committed: false,
    };
    let membership = membership(view, planned, *last)?;
    let storage = &directory.storage;
    let staged = storage.stage(shard, *last, membership, state.clone(), vote);
    Ok(staged.await?)
}

fn membership(
    view: &ClusterView,
    planned: &ShardPlan,
    last: LogId,
) -> anyhow::Result<StoredMembership> {
    let nodes = view.nodes.iter();
    let nodes: BTreeMap<u64, PeerAddress> = nodes
        .filter(|node| planned.voters.contains(&node.node))
        .map(|node| (node.node.0, PeerAddress(node.peer_address.clone())))
        .collect();
    let voters = planned.voters.iter().map(|node| node.0).collect();
    let membership = Membership::new(vec![voters], nodes)
        .map_err(|error| anyhow::anyhow!("the members do not fit together: {error}"))?;
    Ok(StoredMembership::new(Some(last), membership))
}
