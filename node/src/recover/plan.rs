//! What a recovery is going to do.
//!
//! Invariant: for every shard the replica with the greatest end of log is taken, by term, then index:
//! Raft's own order of who may lead (dissertation, section 3.6.1), so that nothing that a survivor
//! could have been told was committed is lost to a shorter log.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use anyhow::{Context as _, bail, ensure};
use lockstep_model::{ClusterId, NodeId, ShardId, meta::MAX_VOTERS};

use super::directory::Directory;

/// What is going to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The cluster that was.
    pub old: ClusterId,
    /// The cluster that will be.
    pub new: ClusterId,
    /// What becomes of each shard.
    pub shards: BTreeMap<ShardId, ShardPlan>,
    /// True if an earlier recovery got as far as some of the directories.
    pub resumed: bool,
}

/// What becomes of one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardPlan {
    /// The directory, by its place among them, whose replica is taken.
    pub source: usize,
    /// The nodes that will hold it.
    pub voters: Vec<NodeId>,
    /// True if the replica was made by the earlier recovery, and is taken as it is.
    pub finished: bool,
    /// The term after all that were seen.
    pub term: u64,
}

/// Makes the plan. `fresh` is the new cluster's id, unless one was begun already.
///
/// # Errors
/// If the directories do not belong together, or a shard is in none.
pub fn plan(directories: &[Directory], fresh: ClusterId) -> anyhow::Result<Plan> {
    let done: Vec<&Directory> = directories.iter().filter(|one| one.is_fresh()).collect();
    // A directory that is done has changed sides. Without others that are not, there is nothing to
    // finish, and it is a cluster like any.
    let resumed = !done.is_empty() && done.len() < directories.len();
    let marks: BTreeSet<_> = done
        .iter()
        .filter_map(|one| one.mark)
        .map(|mark| (mark.old.0, mark.new.0))
        .collect();
    let (old, new) = match (resumed, marks.first()) {
        (true, Some((old, new))) => (ClusterId(*old), ClusterId(*new)),
        (true | false, _) => {
            let first = directories.first().context("name the data directories")?;
            (first.identity.cluster, fresh)
        }
    };
    let mut nodes = BTreeSet::new();
    for one in directories {
        let cluster = one.identity.cluster;
        let belongs = cluster == old || (resumed && cluster == new && one.is_fresh());
        if !belongs {
            bail!(
                "{} belongs to cluster {cluster}, not {old}; a node that has run since its recovery cannot \
                 be recovered together with others that have not: empty those, and they join",
                one.path.display()
            );
        }
        ensure!(
            nodes.insert(one.identity.node),
            "{} is of node {}, as another is: name only the one that ran last",
            one.path.display(),
            one.identity.node
        );
        ensure!(
            !one.replicas.is_empty(),
            "{} has no replica of any shard: leave it out, empty it, and start it later: it joins",
            one.path.display()
        );
    }
    let settings = directories
        .first()
        .map(|one| one.identity.plan.settings)
        .context("name the data directories")?;
    let decided = done
        .first()
        .filter(|_| resumed)
        .map(|one| &one.identity.plan.placement.shards);
    let mut shards = BTreeMap::new();
    for shard in (0..=settings.shards).map(ShardId) {
        let limit = if shard == ShardId::META {
            MAX_VOTERS
        } else {
            settings.replication_factor
        };
        let mut planned = of_shard(directories, shard, limit as usize, resumed)
            .with_context(|| format!("shard {shard} is in none of the directories: it is lost"))?;
        if let Some(voters) = decided.and_then(|decided| decided.get(&shard)) {
            planned.voters.clone_from(voters);
        }
        shards.insert(shard, planned);
    }
    Ok(Plan {
        old,
        new,
        shards,
        resumed,
    })
}

fn of_shard(
    directories: &[Directory],
    shard: ShardId,
    limit: usize,
    resumed: bool,
) -> Option<ShardPlan> {
    let mut found: Vec<_> = directories
        .iter()
        .enumerate()
        .filter_map(|(at, one)| Some((at, one, one.replicas.get(&shard)?)))
        .collect();
    found.sort_by_key(|(_, _, replica)| Reverse(replica.last));
    let terms = found.iter().map(|(_, _, replica)| {
        let vote = replica.vote.map_or(0, |vote| vote.leader_id.term);
        vote.max(replica.last.leader_id.term)
    });
    let term = terms.max().unwrap_or_default().saturating_add(1);
    let &(source, best, _) = found.first()?;
    let mut voters: Vec<_> = found
        .iter()
        .take(limit)
        .map(|(_, one, _)| one.identity.node)
        .collect();
    voters.sort_unstable();
    Some(ShardPlan {
        source,
        voters,
        finished: resumed && best.is_fresh(),
        term,
    })
}
