//! openraft's own suite, on shards of one database that has other shards to the left and right.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use lockstep_model::{Effect, ShardId};
use openraft::{
    StorageError,
    storage::{RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
};
use parking_lot::Mutex;

use super::{all, append, batch, blank, id, open};
use crate::{
    raft::types::{Entry, LeaderId, TypeConfig, Vote},
    storage::{EffectSink, LogStore, MachineStore, Storage},
};

struct NoEffects;

impl EffectSink for NoEffects {
    fn effects(&self, _: Vec<Effect>) {}
}

/// Gives every case shards of its own, an even one each, and fills the odd ones in between.
struct Builder {
    storage: Storage,
    next: AtomicU32,
    neighbours: Mutex<Vec<ShardId>>,
}

fn neighbours_vote(shard: ShardId) -> Vote {
    Vote {
        leader_id: LeaderId {
            term: u64::from(shard.0),
            node_id: 7,
        },
        committed: true,
    }
}

fn neighbours_entries(shard: ShardId) -> Vec<Entry> {
    let filling = shard.0.to_be_bytes();
    (3..20).map(|index| batch(2, index, &filling)).collect()
}

impl Builder {
    async fn fill(&self, shard: ShardId) {
        let mut log = self.storage.log_store(shard).await.unwrap();
        log.save_vote(&neighbours_vote(shard)).await.unwrap();
        append(&mut log, (0..3).map(|index| blank(1, index)).collect()).await;
        append(&mut log, neighbours_entries(shard)).await;
        log.purge(id(1, 2)).await.unwrap();
        let mut machine = MachineStore::open(&self.storage, shard, Arc::new(NoEffects))
            .await
            .unwrap();
        let mut builder = machine.get_snapshot_builder().await;
        builder.build_snapshot().await.unwrap();
        self.neighbours.lock().push(shard);
    }
}

impl StoreBuilder<TypeConfig, LogStore, MachineStore> for Builder {
    async fn build(&self) -> Result<((), LogStore, MachineStore), StorageError<TypeConfig>> {
        let shard = ShardId(self.next.fetch_add(2, Ordering::Relaxed));
        self.fill(ShardId(shard.0 + 1)).await;
        let log = self.storage.log_store(shard).await.unwrap();
        let machine = MachineStore::open(&self.storage, shard, Arc::new(NoEffects))
            .await
            .unwrap();
        Ok(((), log, machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openrafts_suite_passes_and_touches_no_other_shard() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let builder = Builder {
        storage: storage.clone(),
        next: AtomicU32::new(2),
        neighbours: Mutex::default(),
    };
    builder.fill(ShardId(1)).await;
    Suite::test_store(&builder).await.unwrap();

    let neighbours = builder.neighbours.into_inner();
    assert!(
        neighbours.len() > 40,
        "only {} cases were run",
        neighbours.len()
    );
    for shard in neighbours {
        let mut log = storage.log_store(shard).await.unwrap();
        assert_eq!(all(&mut log).await, neighbours_entries(shard));
        let vote = openraft::RaftLogReader::read_vote(&mut log.get_log_reader().await).await;
        assert_eq!(vote.unwrap(), Some(neighbours_vote(shard)));
        drop(log);
        assert_eq!(storage.verify(shard).unwrap().entries, 17);
    }
}
