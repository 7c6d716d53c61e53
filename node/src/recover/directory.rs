//! One data directory of a node that is stopped.
//!
//! Invariant: it is open, and so locked, from the first look until all is done.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use lockstep_model::ShardId;

use super::mark::{Mark, Stage};
use crate::{
    identity::{Founding, Identity},
    storage::{Storage, Survey},
};

/// A directory and what is in it.
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// Open.
    pub storage: Storage,
    /// Whose it is.
    pub identity: Identity,
    /// Whether it was recovered before.
    pub mark: Option<Mark>,
    /// Its replicas.
    pub replicas: BTreeMap<ShardId, Survey>,
}

impl Directory {
    /// Opens it and looks at all that it has.
    ///
    /// # Errors
    /// If a node runs on it, it is none of a cluster's, or damaged.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        ensure!(
            path.join("db").is_dir(),
            "{} is no data directory of a node",
            path.display()
        );
        let owned = path.to_owned();
        let found = tokio::task::spawn_blocking(move || Self::look(owned)).await?;
        found.with_context(|| format!("data directory {}", path.display()))
    }

    fn look(path: PathBuf) -> anyhow::Result<Self> {
        let storage = Storage::open(&path)?;
        let Some(identity) = Identity::load(&storage)? else {
            bail!("it belongs to no cluster: leave it out");
        };
        ensure!(
            identity.state == Founding::Active,
            "the founding of its cluster was never completed, so there is nothing to recover: empty the \
             directories"
        );
        let mark = Mark::load(&storage)?;
        let mut replicas = BTreeMap::new();
        for shard in (0..=identity.plan.settings.shards).map(ShardId) {
            let found = storage.survey(shard).with_context(|| {
                format!(
                    "shard {shard} cannot be read: leave the directory out, if others have the shard"
                )
            })?;
            if let Some(found) = found {
                replicas.insert(shard, found);
            }
        }
        Ok(Self {
            path,
            storage,
            identity,
            mark,
            replicas,
        })
    }

    /// True if it was put into the new cluster by a recovery, and no node has run on it since: so
    /// what it has is what the recovery gave it.
    pub fn is_fresh(&self) -> bool {
        let done = self
            .mark
            .is_some_and(|mark| mark.stage == Stage::Done && mark.new == self.identity.cluster);
        done && self.replicas.values().all(|replica| {
            let ends = [replica.purged, replica.snapshot];
            let vote = replica.vote.filter(|vote| !vote.committed);
            ends == [Some(replica.last); 2]
                && vote.is_some_and(|vote| {
                    vote.leader_id.term == replica.last.leader_id.term.saturating_add(1)
                })
        })
    }
}
