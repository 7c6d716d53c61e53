//! Opens one replica.
//!
//! Invariant: a replica that was opened does not stand for election until it is told to.

use std::sync::Arc;

use lockstep_model::{NodeId, ShardId};
use openraft::{Raft, RaftLogReader as _, storage::RaftLogStorage as _};

use crate::{
    config::Config,
    metrics,
    raft::{config as raft_config, log_floor::LogFloor, network::Network},
    replica::{
        Effects, Leading, Replica, Storing,
        eligibility::{Eligibility, Promise},
        log_keeper::LogKeeper,
    },
    router::Router,
    storage::{MachineStore, Storage},
};

/// What it takes.
pub(super) struct Opener {
    pub(super) config: Config,
    pub(super) node: NodeId,
    pub(super) storage: Arc<Storage>,
    pub(super) router: Arc<Router>,
}

impl Opener {
    /// None if it cannot be opened, its records being damaged: that must not keep the others from
    /// serving, and its shard goes on with the replicas on the other nodes.
    pub(super) async fn open(&self, shard: ShardId) -> Option<Arc<Replica>> {
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
        let floor = Arc::<LogFloor>::default();
        let network = Network {
            router: Arc::clone(&self.router),
            shard,
            floor: Arc::clone(&floor),
        };
        let leading = Leading::new(shard);
        let mut log = self.storage.log_store(shard).await?;
        let last = log.get_log_state().await?.last_log_id;
        let me = self.node.0;
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
        let entries = self.config.snapshot_entries;
        let keeper = LogKeeper::new(log.usage(), machine_store.snapshots(), floor, entries);
        let config = raft_config::config(shard, timing, entries)?;
        let raft = Raft::new(me, config, network, log, machine_store).await?;
        let lease = timing.relied_lease();
        let storing = Storing {
            machine,
            keeper,
            space: self.storage.space(),
        };
        let replica = Replica::new(shard, raft, storing, &leading, eligibility, lease);
        Ok(replica)
    }
}
