//! What the clients of one run share: the locks, what they guard, the record, the grants' times.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use lockstep_proto::lock::v1::{
    GetLockRequest, ListLocksRequest, LockInfo, lock_service_client::LockServiceClient,
};
use tonic::transport::Channel;

use super::grants::GrantTimes;
use crate::{
    checker::Violation,
    cluster::Cluster,
    history::{LockId, Recorder},
    poll::until,
    resource::Resource,
};

/// The lock API of one node, without the SDK's retries.
pub type Door = LockServiceClient<Channel>;

/// All locks of all drills begin so.
pub const PREFIX: &str = "drill/";
/// Names tried for each that is needed before giving up: the ring gives every shard a share of at
/// least a third of the mean, so this is far more than enough.
const TRIES_PER_LOCK: usize = 50;
/// How long it may take until nothing is held after all sessions were closed: their ends reach
/// every shard, over an election if need be.
const EMPTY_LIMIT: Duration = Duration::from_secs(30);
/// Rows asked for at once.
const PAGE: u32 = 1_000;

/// One lock of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArenaLock {
    /// Its index.
    pub id: LockId,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub shard: u32,
}

/// What the clients of one run share.
#[derive(Debug)]
pub struct Arena {
    /// Locks that the load uses, the same number on each shard.
    pub locks: Vec<ArenaLock>,
    /// One lock on each shard that the load leaves alone, for queues that are built on purpose.
    pub quiet: BTreeMap<u32, ArenaLock>,
    /// What the locks guard.
    pub resource: Resource,
    /// What was done and seen.
    pub recorder: Recorder,
    /// When each shard granted.
    pub grants: GrantTimes,
}

impl Arena {
    /// Chooses names so that each data shard has `per_shard` locks, and one that stays quiet.
    ///
    /// # Errors
    /// If the cluster does not say where a lock is, or leaves a shard out.
    pub async fn spread(cluster: &Cluster, per_shard: usize) -> anyhow::Result<Self> {
        Self::spread_behind(cluster.locks(0)?, cluster.options().shards, per_shard).await
    }

    /// Like [`Self::spread`], on a cluster with `shards` data shards of which one node is known.
    ///
    /// # Errors
    /// As [`Self::spread`].
    pub async fn spread_behind(
        mut door: Door,
        shards: u32,
        per_shard: usize,
    ) -> anyhow::Result<Self> {
        let needed = per_shard + 1;
        let mut found: BTreeMap<u32, Vec<String>> = (1..=shards).map(|s| (s, vec![])).collect();
        let tries = TRIES_PER_LOCK * needed * shards as usize;
        for number in 0..tries {
            if found.values().all(|names| names.len() == needed) {
                break;
            }
            let name = format!("{PREFIX}{number:05}");
            let asked = door.get_lock(GetLockRequest { name: name.clone() }).await;
            let info = asked.context("where a lock is")?.into_inner();
            let shard = info.lock.context("an answer without a lock")?.shard;
            let names = found.get_mut(&shard);
            let names = names.with_context(|| format!("{name} is on shard {shard} of {shards}"))?;
            if names.len() < needed {
                names.push(name);
            }
        }
        let mut locks = Vec::new();
        let mut quiet = BTreeMap::new();
        for (shard, names) in found {
            ensure!(
                names.len() == needed,
                "of {tries} names only {} are on shard {shard}",
                names.len()
            );
            for (nth, name) in names.into_iter().enumerate() {
                let id = LockId((locks.len() + quiet.len()) as u32);
                let lock = ArenaLock { id, name, shard };
                if nth == 0 {
                    quiet.insert(shard, lock);
                } else {
                    locks.push(lock);
                }
            }
        }
        Ok(Self {
            resource: Resource::new(locks.len() + quiet.len()),
            locks,
            quiet,
            recorder: Recorder::new(),
            grants: GrantTimes::new(shards),
        })
    }

    /// Waits until nobody holds or waits for any lock of the run, which must come true once every
    /// session was closed. If it does not, says what is left.
    ///
    /// # Errors
    /// Of the waiting; what is left is no error but a violation.
    pub async fn wait_empty(&self, cluster: &Cluster) -> anyhow::Result<Option<Violation>> {
        let doors: Result<Vec<Door>, _> = (0..cluster.size()).map(|at| cluster.locks(at)).collect();
        self.wait_empty_behind(&doors?).await
    }

    /// Like [`Self::wait_empty`], as the first of these nodes that answers says.
    ///
    /// # Errors
    /// As [`Self::wait_empty`].
    pub async fn wait_empty_behind(&self, doors: &[Door]) -> anyhow::Result<Option<Violation>> {
        let mut left = None;
        let empty = until("no lock is held", EMPTY_LIMIT, || async {
            let locks = list(doors).await.map_err(|error| format!("{error:#}"))?;
            match locks.into_iter().next() {
                None => Ok(()),
                Some(lock) => Err(format!("{lock:?}")),
            }
        });
        if let Err(timed_out) = empty.await {
            let first = list(doors).await?.into_iter().next();
            left = Some(first.map_or_else(
                || Violation::Unmet {
                    what: timed_out.to_string(),
                },
                |lock| Violation::LeftOver {
                    name: lock.name.clone(),
                    left: format!("{lock:?}"),
                },
            ));
        }
        Ok(left)
    }
}

/// All locks of drills that are held or waited for, as the first node that answers says.
async fn list(doors: &[Door]) -> anyhow::Result<Vec<LockInfo>> {
    let mut last = None;
    for door in doors {
        match list_at(door.clone()).await {
            Ok(locks) => return Ok(locks),
            Err(error) => last = Some(error),
        }
    }
    Err(last.context("the cluster has no nodes")?)
}

async fn list_at(mut door: Door) -> anyhow::Result<Vec<LockInfo>> {
    let mut locks = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListLocksRequest {
            prefix: PREFIX.to_owned(),
            page_size: PAGE,
            page_token,
        };
        let page = door.list_locks(request).await?.into_inner();
        locks.extend(page.locks);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(locks);
        }
    }
}
