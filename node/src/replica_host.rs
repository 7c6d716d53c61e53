//! Keeps the replicas on this node in line with the placement: opens what is placed here, closes and
//! deletes what is not.
//!
//! Invariants: the tables by which a replica is opened or deleted are stored first, so a restart cannot
//! bring it back empty under an old vote, and what it finds of a replica that they do not place here is left
//! over; and a group is begun only by founders, once.

mod opener;

use std::{collections::BTreeMap, io, pin::pin, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use lockstep_model::{NodeId, ShardId};
use openraft::errors::{InitializeError, RaftError};
use parking_lot::Mutex;
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::opener::Opener;
use crate::{
    config::Config,
    identity::Identity,
    metrics,
    raft::types::PeerAddress,
    replica::{Replica, tend},
    router::Router,
    storage::{DropShardError, Storage},
};

/// How often the placement is looked at although nothing has changed: what could not be opened or
/// deleted is tried again.
const PERIOD: Duration = Duration::from_secs(5);
/// How many replicas are opened at a time when the node starts: decoding one keeps a core busy, and holds
/// its snapshot and its machine in memory; one that is large must not keep all others waiting.
const OPENED_AT_A_TIME: usize = 4;
/// How long the others leave it to the preferred leader to begin a group: it may be slower to open its
/// replicas, and whoever begins after it takes the lead away.
const BEGIN_ANYWAY: Duration = Duration::from_secs(5);

/// Opens and closes replicas.
pub struct Custody {
    opener: Arc<Opener>,
    identity: Identity,
    storage: Arc<Storage>,
    router: Arc<Router>,
    stop: CancellationToken,
    /// What looks after each replica.
    tending: Mutex<BTreeMap<ShardId, Tending>>,
    /// Shards that something may be left of, and what kept it from being deleted. At most one entry a shard.
    left_over: Mutex<BTreeMap<ShardId, String>>,
}

/// The task that looks after a replica.
struct Tending {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Custody {
    /// Over a router without replicas.
    #[must_use]
    pub fn new(
        config: Config,
        identity: Identity,
        storage: Arc<Storage>,
        router: Arc<Router>,
        stop: CancellationToken,
    ) -> Self {
        let shards = router.directory().shards();
        let elsewhere = shards.filter(|shard| !identity.holds(*shard));
        let left_over = elsewhere.map(|shard| (shard, String::new())).collect();
        let opener = Opener {
            config,
            node: identity.node,
            storage: Arc::clone(&storage),
            router: Arc::clone(&router),
        };
        Self {
            opener: Arc::new(opener),
            identity,
            storage,
            router,
            stop,
            tending: Mutex::default(),
            left_over: Mutex::new(left_over),
        }
    }

    /// Opens what is placed here.
    pub async fn open_all(&self) {
        let opener = Arc::clone(&self.opener);
        self.open_each(move |shard| {
            let opener = Arc::clone(&opener);
            async move { opener.open(shard).await }
        })
        .await;
    }

    /// Opens a few at a time, and lets others in to each as soon as it is open.
    async fn open_each<O>(&self, open: impl Fn(ShardId) -> O)
    where
        O: Future<Output = Option<Arc<Replica>>> + Send + 'static,
    {
        let opening = stream::iter(self.placed())
            .map(|shard| tokio::spawn(open(shard)))
            .buffer_unordered(OPENED_AT_A_TIME);
        let mut opening = pin!(opening);
        while let Some(opened) = opening.next().await {
            match opened {
                Ok(Some(replica)) => self.let_in(replica),
                // Why is noted.
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "a replica was not opened; it is tried again");
                }
            }
        }
        self.router.set_opened();
        if self.is_founding() {
            self.begin();
        }
    }

    /// True if the groups may have to be begun.
    fn is_founding(&self) -> bool {
        self.identity.plan.placement.revision == 1
    }

    /// Lets peers and clients in to a replica, and only then has it stand for election: one that nobody
    /// reaches could not lead, and would take the lead from another.
    fn let_in(&self, replica: Arc<Replica>) {
        self.router.add(Arc::clone(&replica));
        if replica.eligibility.is_admitted() {
            replica.raft.runtime_config().elect(true);
        }
        self.tend(replica);
    }

    /// Begins the groups, once all are open: the other founders open theirs at the same time, and a leader
    /// that they cannot hear yet would be replaced by the next one to begin.
    fn begin(&self) {
        for replica in self.router.replicas() {
            let preferred = self.router.directory().preferred_leader(replica.shard);
            let began = first_members(self.identity.clone(), replica, preferred);
            tokio::spawn(self.stop.clone().run_until_cancelled_owned(began));
        }
    }

    /// By the stored tables: the directory may have newer ones already.
    fn placed(&self) -> Vec<ShardId> {
        let shards = self.router.directory().shards();
        shards.filter(|shard| self.identity.holds(*shard)).collect()
    }

    /// Follows the placement until cancelled.
    pub async fn run(mut self) {
        let mut changes = self.router.directory().watch_changes();
        loop {
            changes.mark_unchanged();
            if self.store_tables().await {
                self.reconcile().await;
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep(PERIOD) => {}
            }
        }
    }

    /// Stores the tables that are acted by. False if that failed: then nothing may be deleted.
    async fn store_tables(&mut self) -> bool {
        let view = self.router.directory().view();
        if view.revision == self.identity.plan.revision {
            return true;
        }
        let newer = Identity {
            plan: view,
            ..self.identity.clone()
        };
        if let Err(error) = newer.save(&self.storage).await {
            tracing::error!(%error, "the cluster's tables cannot be stored");
            return false;
        }
        self.identity = newer;
        true
    }

    async fn reconcile(&self) {
        let placed = self.placed();
        for shard in self.router.closed.retain(&placed) {
            metrics::get().replica_opened(shard);
        }
        for shard in &placed {
            if self.router.replica(*shard).is_none()
                && let Some(replica) = self.opener.open(*shard).await
            {
                tracing::info!(%shard, "replica opened");
                self.let_in(replica);
            }
        }
        for replica in self.router.replicas() {
            if !placed.contains(&replica.shard) {
                self.close(replica).await;
            } else if let Some(why) = replica.stopped().or_else(|| self.untended(replica.shard)) {
                self.give_up(replica, &why).await;
            }
        }
        self.collect().await;
    }

    /// Takes out a replica that Raft has given up. It is opened anew at the next look: what made it stop,
    /// such as a full disk, may have gone away. Until then the node is not ready.
    async fn give_up(&self, replica: Arc<Replica>, why: &str) {
        let shard = replica.shard;
        metrics::get().replica_stopped(shard);
        self.router.closed.add(shard, why.to_owned());
        tracing::error!(%shard, why, "the replica has stopped; it is opened anew");
        self.stop_tending(shard);
        self.router.remove(shard);
        if let Err(error) = replica.raft.shutdown().await {
            tracing::debug!(%shard, %error, "the replica had ended by itself");
        }
    }

    fn stop_tending(&self, shard: ShardId) {
        if let Some(tending) = self.tending.lock().remove(&shard) {
            tending.stop.cancel();
        }
    }

    fn tend(&self, replica: Arc<Replica>) {
        let one = self.stop.child_token();
        let shard = replica.shard;
        let task = tokio::spawn(tend::tend(replica, Arc::clone(&self.router), one.clone()));
        self.tending
            .lock()
            .insert(shard, Tending { stop: one, task });
    }

    /// Says so if nothing looks after a replica any more, although it should.
    fn untended(&self, shard: ShardId) -> Option<String> {
        let tending = self.tending.lock();
        let ended = tending.get(&shard)?.task.is_finished() && !self.stop.is_cancelled();
        ended.then(|| "what looks after it has ended".to_owned())
    }

    async fn close(&self, replica: Arc<Replica>) {
        let shard = replica.shard;
        tracing::info!(%shard, "the replica has moved away: it is deleted here");
        self.stop_tending(shard);
        self.router.closed.remove(shard);
        self.router.remove(shard);
        if let Err(error) = replica.raft.shutdown().await {
            tracing::warn!(%shard, %error, "the replica did not stop cleanly");
        }
        drop(replica);
        self.left_over.lock().insert(shard, String::new());
    }

    /// Deletes what is left of replicas that are not placed here any more: those that were just closed, and
    /// those whose node died, or could not delete them, when it should have.
    async fn collect(&self) {
        let left: Vec<ShardId> = self.left_over.lock().keys().copied().collect();
        for shard in left {
            if self.identity.holds(shard) {
                // It came back, and goes on with what it has.
                self.left_over.lock().remove(&shard);
                continue;
            }
            match self.delete(shard).await {
                Ok(found) => {
                    self.left_over.lock().remove(&shard);
                    if found {
                        tracing::info!(%shard, "what was left of a replica that has moved away is deleted");
                    }
                }
                // Its last user is just finishing.
                Err(DropShardError::StillOpen(open)) => tracing::debug!(%shard, %open),
                Err(error) => {
                    let words = error.to_string();
                    let told = self.left_over.lock().insert(shard, words.clone());
                    if told != Some(words) {
                        tracing::error!(%shard, %error, "a replica that has moved away is not deleted; it is tried again");
                    }
                }
            }
        }
    }

    /// Deletes a replica; false if there is nothing of it. What it has promised stays.
    async fn delete(&self, shard: ShardId) -> Result<bool, DropShardError> {
        let storage = Arc::clone(&self.storage);
        let found = spawn_blocking(move || storage.has_replica(shard)).await;
        let found = found.map_err(io::Error::other)??;
        if found {
            self.storage.drop_shard(shard).await?;
        }
        Ok(found)
    }
}

/// Gives a new group its first members. Every founder does this with the same members, which Raft
/// allows; the preferred leader first, because who begins stands for election.
async fn first_members(identity: Identity, replica: Arc<Replica>, preferred: Option<NodeId>) {
    if preferred != Some(identity.node) {
        sleep(BEGIN_ANYWAY).await;
    }
    let voters = identity.plan.placement.shards.get(&replica.shard);
    let members: BTreeMap<u64, PeerAddress> = identity
        .plan
        .nodes
        .iter()
        .filter(|node| voters.is_some_and(|voters| voters.contains(&node.node)))
        .map(|node| (node.node.0, PeerAddress(node.peer_address.clone())))
        .collect();
    match replica.raft.initialize(members).await {
        Ok(()) => tracing::info!(shard = %replica.shard, "began"),
        // It has a log: begun before, or by another.
        Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
        Err(error) => tracing::error!(shard = %replica.shard, %error, "the group cannot begin"),
    }
}

#[cfg(test)]
mod tests;
