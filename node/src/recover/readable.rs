//! Reads what is going to be taken before anybody is asked, so that what is shown is what can be done.
//!
//! Invariant: nothing is changed; and every replica that the plan takes has been read whole. One that
//! cannot be read counts as absent, and the next furthest is taken, where another has the shard.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::{ClusterId, Machine, NodeId, ShardId, meta::NodeRecord};
use tokio::task::spawn_blocking;

use super::{
    directory::Directory,
    plan::{self, Plan},
};
use crate::{
    raft::types::StoredMembership,
    storage::{Replayed, SurveyError},
};

/// What the replicas that are taken say of the cluster that was.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The last memberships of each shard's group.
    pub(super) memberships: BTreeMap<ShardId, Vec<StoredMembership>>,
    /// The old cluster's registry, where its meta shard was read.
    pub(super) nodes: Vec<NodeRecord>,
}

/// Makes a plan of which every source can be read.
///
/// # Errors
/// If there is none.
pub(super) async fn plan(
    directories: &mut [Directory],
    lost: &BTreeSet<NodeId>,
    fresh: ClusterId,
) -> anyhow::Result<(Plan, Found)> {
    let mut found = Found::default();
    let mut read = BTreeSet::new();
    // Each round finds at least one more replica damaged, so there is a last.
    'plan: loop {
        let plan = plan::plan(directories, lost, fresh)?;
        for (shard, planned) in &plan.shards {
            let Some(source) = planned.source else {
                continue;
            };
            if !read.insert((source.directory, *shard)) {
                continue;
            }
            let Some(directory) = directories.get_mut(source.directory) else {
                continue;
            };
            match replay(directory, *shard).await? {
                Ok(replayed) => {
                    found.memberships.insert(*shard, replayed.memberships);
                    if plan.decided.is_none()
                        && let Machine::Meta(meta) = replayed.machine
                    {
                        found.nodes = meta.cluster().map(|view| view.nodes).unwrap_or_default();
                    }
                }
                Err(error) => {
                    directory.set_damaged(*shard, &error);
                    continue 'plan;
                }
            }
        }
        return Ok((plan, found));
    }
}

/// Applies a replica's whole log. What is wrong with the replica is the inner error.
///
/// # Errors
/// If the runtime is shutting down.
pub(super) async fn replay(
    directory: &Directory,
    shard: ShardId,
) -> anyhow::Result<Result<Replayed, SurveyError>> {
    let storage = directory.storage.clone();
    Ok(spawn_blocking(move || storage.replay(shard)).await?)
}
