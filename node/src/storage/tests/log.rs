//! The log against a naive model, and the writer's promises.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use futures::TryStreamExt;
use lockstep_model::ShardId;
use openraft::{
    LogState, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
    type_config::TypeConfigExt,
};
use proptest::prelude::*;

use super::{SHARD, all, append, batch, blank, id, open};
use crate::{
    raft::types::{Entry, LogId, TypeConfig, Vote},
    storage::{
        LogReader, LogStore, MAX_READ_BYTES, NotInLog, Storage,
        family::Family,
        high_water,
        op::Op,
        writer::{Durability, WriteFailed},
    },
};

#[derive(Clone, Debug)]
enum Step {
    Append {
        count: u64,
    },
    /// Keeps this share of what is there, in tenths.
    Truncate {
        keep: u64,
    },
    /// Removes this share of what is there, in tenths; more than ten goes beyond the end.
    Purge {
        remove: u64,
    },
    Read {
        skip: u64,
        count: u64,
    },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..12_u64).prop_map(|count| Step::Append { count }),
        2 => (0..11_u64).prop_map(|keep| Step::Truncate { keep }),
        2 => (0..12_u64).prop_map(|remove| Step::Purge { remove }),
        3 => (0..40_u64, 0..40_u64).prop_map(|(skip, count)| Step::Read { skip, count }),
        2 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..40)
}

/// What the log should be.
#[derive(Debug, Default)]
struct Model {
    term: u64,
    purged: Option<LogId>,
    entries: Vec<Entry>,
}

impl Model {
    fn next(&self) -> u64 {
        let before = self
            .entries
            .last()
            .map(|entry| entry.log_id)
            .or(self.purged);
        before.map_or(0, |last| last.index + 1)
    }

    fn state(&self) -> LogState<TypeConfig> {
        let last = self.entries.last().map(|entry| entry.log_id);
        LogState {
            last_purged_log_id: self.purged,
            last_log_id: last.or(self.purged),
        }
    }

    async fn step(&mut self, step: &Step, log: &mut LogStore) {
        let share = |tenths: u64| (self.entries.len() as u64 * tenths).div_ceil(10) as usize;
        match *step {
            Step::Append { count } => {
                self.term += 1;
                let next = self.next();
                let new: Vec<_> = (next..next + count)
                    .map(|index| batch(self.term, index, &index.to_le_bytes()))
                    .collect();
                append(log, new.clone()).await;
                self.entries.extend(new);
            }
            Step::Truncate { keep } => {
                let keep = share(keep);
                let last = keep
                    .checked_sub(1)
                    .map(|at| self.entries[at].log_id)
                    .or(self.purged);
                log.truncate_after(last).await.unwrap();
                self.entries.truncate(keep);
            }
            Step::Purge { remove } => {
                let upto = match share(remove) {
                    0 => return,
                    count => self
                        .entries
                        .get(count - 1)
                        .map_or_else(|| id(self.term, self.next() + 5), |entry| entry.log_id),
                };
                log.purge(upto).await.unwrap();
                self.entries.retain(|entry| entry.log_id.index > upto.index);
                self.purged = Some(upto);
            }
            Step::Read { skip, count } => {
                let from = self.purged.map_or(0, |purged| purged.index) + skip;
                let to = from + count;
                let mut reader = log.get_log_reader().await;
                let found = reader.try_get_log_entries(from..to).await.unwrap();
                let expected: Vec<_> = self
                    .entries
                    .iter()
                    .filter(|entry| (from..to).contains(&entry.log_id.index))
                    .cloned()
                    .collect();
                assert_eq!(found, expected, "{from}..{to}");
            }
            Step::Reopen => {}
        }
    }
}

async fn reopened(storage: Storage, log: LogStore, dir: &std::path::Path) -> (Storage, LogStore) {
    drop((storage, log));
    let storage = open(dir);
    let log = storage.log_store(SHARD).await.unwrap();
    (storage, log)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_log_is_what_was_written_also_after_a_restart(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut model = Model::default();
            let mut storage = open(dir.path());
            let mut log = storage.log_store(SHARD).await.unwrap();
            for step in &steps {
                model.step(step, &mut log).await;
                if matches!(step, Step::Reopen) {
                    (storage, log) = reopened(storage, log, dir.path()).await;
                }
                assert_eq!(log.get_log_state().await.unwrap(), model.state(), "after {step:?}");
            }
            assert_eq!(all(&mut log).await, model.entries);
            (storage, log) = reopened(storage, log, dir.path()).await;
            assert_eq!(log.get_log_state().await.unwrap(), model.state());
            assert_eq!(all(&mut log).await, model.entries);
            drop(log);
            assert_eq!(storage.verify(SHARD).unwrap().entries, model.entries.len() as u64);
        });
    }
}

#[tokio::test]
async fn entries_can_be_read_before_they_are_durable() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    let mut reader = log.get_log_reader().await;
    for index in 0..200 {
        let (done, durable) = TypeConfig::oneshot();
        log.append(vec![blank(1, index)], IOFlushed::signal(done))
            .await
            .unwrap();
        let found = reader.try_get_log_entries(0..=index).await.unwrap();
        assert_eq!(found.len() as u64, index + 1);
        drop(durable);
    }
}

#[tokio::test]
async fn a_hole_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    append(&mut log, vec![blank(1, 0)]).await;
    let error = log
        .append(vec![blank(1, 2)], IOFlushed::noop())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(all(&mut log).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_share_syncs_and_each_is_told_in_order() {
    const SHARDS: u32 = 9;
    const APPENDS: u64 = 50;
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut tasks = Vec::new();
    for shard in 0..SHARDS {
        let mut log = storage.log_store(ShardId(shard)).await.unwrap();
        tasks.push(tokio::spawn(async move {
            let told = Arc::new(AtomicU64::new(0));
            let mut all_done = Vec::new();
            for index in 0..APPENDS {
                let (done, durable) = TypeConfig::oneshot();
                log.append(vec![blank(1, index)], IOFlushed::signal(done))
                    .await
                    .unwrap();
                let told = Arc::clone(&told);
                all_done.push(async move {
                    durable.await.unwrap().unwrap();
                    assert_eq!(told.fetch_add(1, Ordering::Relaxed), index);
                });
            }
            for done in all_done {
                done.await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let counts = storage.stats().read();
    let appends = u64::from(SHARDS) * APPENDS;
    assert_eq!(counts.entries, appends);
    assert!(
        counts.syncs < appends / 2,
        "{} syncs for {appends} appends",
        counts.syncs
    );
    assert!(counts.largest_group > 1);
}

#[tokio::test]
async fn what_must_be_durable_is_synced_before_it_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    let stats = storage.stats();
    let mut expected = stats.read().syncs;
    let mut synced = |what: &str, syncs: u64| {
        expected += syncs;
        assert_eq!(stats.read().syncs, expected, "{what}");
    };
    append(&mut log, vec![blank(1, 0), blank(1, 1), blank(1, 2)]).await;
    synced("an append", 1);
    log.save_vote(&Vote::new(2, 1)).await.unwrap();
    synced("a vote", 1);
    log.truncate_after(Some(id(1, 1))).await.unwrap();
    synced("a truncation", 1);
    log.truncate_after(Some(id(1, 1))).await.unwrap();
    synced("a truncation of nothing", 0);
    storage.put_meta("name", b"value").await.unwrap();
    synced("a record of the node", 1);
    log.save_committed(Some(id(1, 1))).await.unwrap();
    log.purge(id(1, 0)).await.unwrap();
    storage.shared.writer.barrier().await.unwrap();
    synced("a commit mark and a purge", 0);
}

#[tokio::test]
async fn limited_reads_and_streams_cover_everything_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    let big = vec![7; MAX_READ_BYTES / 3];
    for index in 0..40 {
        append(&mut log, vec![batch(1, index, &big)]).await;
    }
    // More than is kept in memory for readers, so some of it comes from the engine; then all.
    let mut reader = log.get_log_reader().await;
    assert_read_in_pieces(&mut reader).await;
    drop(reader);
    let (_storage, mut log) = reopened(storage, log, dir.path()).await;
    let mut reader = log.get_log_reader().await;
    assert_read_in_pieces(&mut reader).await;

    let huge = vec![7; 2 * MAX_READ_BYTES];
    append(&mut log, vec![batch(1, 40, &huge)]).await;
    let found = reader.limited_get_log_entries(40, 41).await.unwrap();
    assert_eq!(found.len(), 1);
}

async fn assert_read_in_pieces(reader: &mut LogReader) {
    let indexes =
        |entries: &[Entry]| -> Vec<_> { entries.iter().map(|entry| entry.log_id.index).collect() };
    for from in 0..38 {
        let piece = reader.limited_get_log_entries(from, 40).await.unwrap();
        assert_eq!(indexes(&piece), (from..from + 3).collect::<Vec<_>>());
    }
    let streamed = reader.entries_stream(0..40).await;
    let streamed: Vec<_> = streamed.try_collect().await.unwrap();
    assert_eq!(indexes(&streamed), (0..40).collect::<Vec<_>>());
}

/// openraft takes all of a range for applied when the stream has ended.
#[tokio::test]
async fn what_is_to_be_applied_is_all_there_or_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    append(&mut log, (0..10).map(|index| blank(1, index)).collect()).await;
    log.purge(id(1, 3)).await.unwrap();
    let mut reader = log.get_log_reader().await;
    for (range, missing) in [(2..8, 2), (3..4, 3), (8..12, 10), (20..21, 20)] {
        let streamed = reader.entries_stream(range).await;
        let error = streamed.try_collect::<Vec<_>>().await.unwrap_err();
        let error = error.get_ref().and_then(|error| error.downcast_ref());
        let expected = NotInLog {
            shard: SHARD,
            index: missing,
            has: 4..10,
        };
        assert_eq!(error, Some(&expected));
    }
    let all = reader.entries_stream(..).await;
    assert_eq!(all.try_collect::<Vec<_>>().await.unwrap().len(), 6);
    // Other readers are given what there is.
    let found = reader.try_get_log_entries(2..12).await.unwrap();
    assert_eq!(found.len(), 6);
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    // A device with an error: each synced group fails when its number is noted.
    std::os::unix::fs::symlink("/proc/self/mem", high_water::path(dir.path())).unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    let (done, durable) = TypeConfig::oneshot();
    log.append(vec![blank(1, 0)], IOFlushed::signal(done))
        .await
        .unwrap();
    let error = durable.await.unwrap().unwrap_err();
    assert!(
        error.to_string().contains("nothing is written any more"),
        "{error}"
    );

    // A write that is not synced would succeed, were it tried.
    let put = Op::Put(Family::Meta, b"name".to_vec(), b"value".to_vec());
    let failed = storage
        .shared
        .writer
        .write(vec![put], Durability::Ordered)
        .await
        .unwrap_err();
    assert!(matches!(failed, WriteFailed::Engine(_)), "{failed}");
    assert_eq!(storage.get_meta("name").unwrap(), None);
    assert_eq!(storage.stats().read().failures, 2);
}

#[tokio::test]
async fn a_shutdown_writes_what_waits_and_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    let mut waiting = Vec::new();
    for index in 0..100 {
        let (done, durable) = TypeConfig::oneshot();
        log.append(vec![blank(1, index)], IOFlushed::signal(done))
            .await
            .unwrap();
        waiting.push(durable);
    }
    storage.shutdown().await.unwrap();
    for durable in waiting {
        durable.await.unwrap().unwrap();
    }
    assert!(
        log.append(vec![blank(1, 100)], IOFlushed::noop())
            .await
            .is_err()
    );
    assert!(storage.put_meta("name", b"value").await.is_err());
    storage.shutdown().await.unwrap();
}
