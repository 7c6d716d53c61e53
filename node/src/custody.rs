//! Keeps the replicas on this node in line with the placement: opens what is placed here, closes and
//! deletes what is not.
//!
//! Invariants: the tables by which a replica is deleted are stored first, so a restart cannot bring
//! it back empty under an old vote; and a group is begun only by founders, once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use lockstep_model::{NodeId, ShardId};
use openraft::{
    Raft,
    errors::{InitializeError, RaftError},
    storage::{RaftLogReader as _, RaftLogStorage as _},
};
use parking_lot::Mutex;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    identity::Identity,
    metrics,
    raft::{config as raft_config, network::Network, types::PeerAddress},
    replica::{
        Effects, Leading, Replica, Replicas,
        eligibility::{Eligibility, Promise},
        tend,
    },
    router::Router,
    storage::{DropShardError, MachineStore, Storage},
};

/// How often the placement is looked at although nothing has changed: what could not be opened or
/// deleted is tried again.
const PERIOD: Duration = Duration::from_secs(5);
/// How long the others leave it to the preferred leader to begin a group.
const BEGIN_ANYWAY: Duration = Duration::from_secs(2);
/// Pause before it is tried again to delete a replica whose last user is just finishing.
const DELETE_PAUSE: Duration = Duration::from_millis(100);
/// How often that is tried before it is left for the next look.
const DELETE_ATTEMPTS: u32 = 50;

/// Opens and closes replicas.
pub struct Custody {
    config: Config,
    identity: Identity,
    storage: Arc<Storage>,
    router: Arc<Router>,
    stop: CancellationToken,
    /// What looks after each replica.
    tending: Mutex<BTreeMap<ShardId, Tending>>,
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
        Self {
            config,
            identity,
            storage,
            router,
            stop,
            tending: Mutex::default(),
        }
    }

    /// Opens what is placed here.
    pub async fn open_all(&self) {
        let mut replicas = Replicas::new();
        for shard in self.placed() {
            if let Some(replica) = self.open(shard).await {
                replicas.insert(shard, replica);
            }
        }
        self.router.serve(replicas.clone());
        for replica in replicas.into_values() {
            if self.identity.plan.placement.revision == 1 {
                let began = first_members(
                    self.identity.clone(),
                    Arc::clone(&replica),
                    self.router.directory().preferred_leader(replica.shard),
                );
                tokio::spawn(self.stop.clone().run_until_cancelled_owned(began));
            }
            self.tend(replica);
        }
    }

    fn placed(&self) -> Vec<ShardId> {
        let directory = self.router.directory();
        let shards = directory.shards();
        shards
            .filter(|shard| directory.is_placed_here(*shard))
            .collect()
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
                && let Some(replica) = self.open(*shard).await
            {
                tracing::info!(%shard, "replica opened");
                self.router.add(Arc::clone(&replica));
                self.tend(replica);
            }
        }
        for replica in self.router.replicas().unwrap_or_default() {
            if !placed.contains(&replica.shard) {
                self.close(replica).await;
            } else if let Some(why) = replica.stopped().or_else(|| self.untended(replica.shard)) {
                self.give_up(replica, &why).await;
            }
        }
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

    /// None if it cannot be opened, its records being damaged: that must not keep the others from
    /// serving, and its shard goes on with the replicas on the other nodes.
    async fn open(&self, shard: ShardId) -> Option<Arc<Replica>> {
        match self.try_open(shard).await {
            Ok(replica) => {
                metrics::get().replica_opened(shard);
                self.router.closed.remove(shard);
                Some(Arc::new(replica))
            }
            Err(error) => {
                metrics::get().replica_stopped(shard);
                self.router.closed.add(shard, format!("{error:#}"));
                tracing::error!(%shard, "the replica stays closed: {error:#}");
                None
            }
        }
    }

    async fn try_open(&self, shard: ShardId) -> anyhow::Result<Replica> {
        let network = Network {
            router: Arc::clone(&self.router),
            shard,
        };
        let leading = Leading::new(shard);
        let mut log = self.storage.log_store(shard).await?;
        let last = log.get_log_state().await?.last_log_id;
        let me = self.identity.node.0;
        let timing = &self.config.timing;
        let promise = Promise::of(
            log.get_log_reader().await.read_vote().await?,
            me,
            timing.leader_lease(),
        );
        let eligibility = Eligibility::new(log.reach(), last, promise);
        let effects = Arc::new(Effects::new(&leading));
        let machine_store = MachineStore::open(&self.storage, shard, effects).await?;
        let machine = machine_store.machine();
        let may_stand = eligibility.is_admitted();
        let config = raft_config::config(shard, timing, self.config.snapshot_entries, may_stand)?;
        let raft = Raft::new(me, config, network, log, machine_store).await?;
        let lease = timing.relied_lease();
        let replica = Replica::new(shard, raft, machine, &leading, eligibility, lease);
        Ok(replica)
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
        for _ in 0..DELETE_ATTEMPTS {
            match self.storage.drop_shard(shard).await {
                Ok(()) => return,
                Err(DropShardError::StillOpen(_)) => sleep(DELETE_PAUSE).await,
                Err(error) => {
                    tracing::error!(%shard, %error, "the replica's records are not deleted");
                    return;
                }
            }
        }
        tracing::error!(%shard, "the replica's records are still in use and are not deleted");
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
