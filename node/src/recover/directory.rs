//! One data directory of a node that is stopped.
//!
//! Invariant: it is open, and so locked, from the first look until all is done. A replica that was moved
//! away is none of its replicas, although something of it may be left.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use lockstep_model::ShardId;

use super::mark::Mark;
use crate::{
    identity::{Founding, Identity},
    storage::{ReadError, Storage, Survey, SurveyError},
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
    /// Its replicas that can be read, as far as is known.
    pub replicas: BTreeMap<ShardId, Survey>,
    /// Those that cannot, and why. They count as absent.
    pub damaged: BTreeMap<ShardId, String>,
}

impl Directory {
    /// Opens it and looks at all that it has.
    ///
    /// # Errors
    /// If a node runs on it, it is none of a cluster's, or the node's own records are damaged.
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
        let (mut replicas, mut damaged) = (BTreeMap::new(), BTreeMap::new());
        for shard in (0..=identity.plan.settings.shards).map(ShardId) {
            if !identity.holds(shard) {
                if storage.has_replica(shard)? {
                    damaged.insert(shard, moved_away(&identity));
                }
                continue;
            }
            match storage.survey(shard) {
                Ok(Some(found)) => {
                    replicas.insert(shard, found);
                }
                Ok(None) => {}
                Err(error) => {
                    damaged.insert(shard, problem(&error));
                }
            }
        }
        Ok(Self {
            path,
            storage,
            identity,
            mark,
            replicas,
            damaged,
        })
    }

    /// Takes a replica for absent, because it cannot be read.
    pub fn set_damaged(&mut self, shard: ShardId, error: &SurveyError) {
        self.replicas.remove(&shard);
        self.damaged.insert(shard, problem(error));
    }
}

fn moved_away(identity: &Identity) -> String {
    format!(
        "node {} has what is left of a replica that was moved away: others went on without it",
        identity.node
    )
}

/// What is wrong, without what a node that runs would have to do about it.
fn problem(error: &SurveyError) -> String {
    match error {
        SurveyError::Read(ReadError::Corrupt(corrupt)) => {
            format!("{}: {}", corrupt.record, corrupt.problem)
        }
        SurveyError::Read(ReadError::Engine(_)) | SurveyError::Open(_) | SurveyError::Absent(_) => {
            error.to_string()
        }
    }
}
