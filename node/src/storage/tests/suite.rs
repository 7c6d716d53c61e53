//! openraft's own suite, on shards of one database that has other shards to the left and right.

use std::{
    fmt::Debug,
    io,
    ops::RangeBounds,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use futures::{Stream, TryStreamExt, stream};
use lockstep_model::{Effect, ShardId};
use openraft::{
    OptionalSend, RaftLogReader, StorageError,
    storage::{RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine},
    testing::log::{StoreBuilder, Suite},
};
use parking_lot::Mutex;

use super::{all, append, batch, blank, id, open};
use crate::{
    raft::{
        snapshot_content::SnapshotContent,
        types::{
            Entry, EntryResponder, IoFlushed, LeaderId, LogId, LogState, Payload, Snapshot,
            SnapshotMeta, StoredMembership, TypeConfig, Vote,
        },
    },
    storage::{EffectSink, LogReader, LogStore, MachineStore, SnapshotBuilder, Storage},
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

/// The suite applies entries with gaps between them, which no log has and the machine refuses: here they
/// are filled.
struct Filled(MachineStore);

impl RaftStateMachine<TypeConfig> for Filled {
    type SnapshotData = SnapshotContent;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.0.applied_state().await
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let (last, _) = self.0.applied_state().await?;
            let next = last.map_or(0, |last| last.index + 1);
            let LogId { leader_id, index } = entry.log_id;
            let missing = (next..index).map(|index| Entry {
                log_id: LogId { leader_id, index },
                payload: Payload::Blank,
            });
            let mut all: Vec<_> = missing.map(|blank| Ok((blank, None))).collect();
            all.push(Ok((entry, responder)));
            self.0.apply(stream::iter(all)).await?;
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        self.0.try_create_snapshot_builder(force).await
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.0.get_snapshot_builder().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        content: SnapshotContent,
    ) -> Result<(), io::Error> {
        self.0.install_snapshot(meta, content).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        self.0.get_current_snapshot().await
    }
}

/// The suite streams beyond the end of a log, which is an error here: the end is brought in.
struct Bounded<T>(T);

impl RaftLogReader<TypeConfig> for Bounded<LogReader> {
    async fn try_get_log_entries<R>(&mut self, range: R) -> Result<Vec<Entry>, io::Error>
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        self.0.try_get_log_entries(range).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, io::Error> {
        self.0.limited_get_log_entries(start, end).await
    }

    async fn entries_stream<R>(
        &mut self,
        range: R,
    ) -> impl Stream<Item = Result<Entry, io::Error>> + OptionalSend
    where
        R: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let there = self.0.try_get_log_entries(range).await.unwrap();
        let indexes = || there.iter().map(|entry| entry.log_id.index);
        let start = indexes().min().unwrap_or_default();
        let end = indexes().max().map_or(start, |last| last + 1);
        self.0.entries_stream(start..end).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        self.0.read_vote().await
    }
}

impl RaftLogStorage<TypeConfig> for Bounded<LogStore> {
    type LogReader = Bounded<LogReader>;

    async fn get_log_state(&mut self) -> Result<LogState, io::Error> {
        self.0.get_log_state().await
    }

    async fn get_log_reader(&mut self) -> Bounded<LogReader> {
        Bounded(self.0.get_log_reader().await)
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.0.save_vote(vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.0.save_committed(committed).await
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        self.0.read_committed().await
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        self.0.append(entries, callback).await
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.0.truncate_after(last).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.0.purge(upto).await
    }
}

impl StoreBuilder<TypeConfig, Bounded<LogStore>, Filled> for Builder {
    async fn build(&self) -> Result<((), Bounded<LogStore>, Filled), StorageError<TypeConfig>> {
        let shard = ShardId(self.next.fetch_add(2, Ordering::Relaxed));
        self.fill(ShardId(shard.0 + 1)).await;
        let log = self.storage.log_store(shard).await.unwrap();
        let machine = MachineStore::open(&self.storage, shard, Arc::new(NoEffects))
            .await
            .unwrap();
        Ok(((), Bounded(log), Filled(machine)))
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
        let vote = log.get_log_reader().await.read_vote().await;
        assert_eq!(vote.unwrap(), Some(neighbours_vote(shard)));
        drop(log);
        assert_eq!(storage.verify(shard).unwrap().entries, 17);
    }
}
