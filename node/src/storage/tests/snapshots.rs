//! Snapshots on disk: crashes between the steps of writing one, and reading one that is sent.

use std::sync::Arc;

use bytes::Bytes;
use lockstep_model::ShardId;
use openraft::storage::RaftStateMachine;

use super::{
    SHARD, id,
    machine::{apply, build, machine, session},
    open,
};
use crate::{
    raft::{
        snapshot_content::SnapshotContent,
        types::{Snapshot, SnapshotMeta},
    },
    storage::{
        CorruptRecord, DropShardError, RecordId, Storage,
        claim::Part,
        family::Family,
        records::shard_range,
        snapshot_record::{CHUNK_BYTES, Generation, chunk_key, generation_key},
        snapshot_store::{Kept, Origin, SnapshotStore, store_chunks},
    },
};

fn store(storage: &Storage) -> SnapshotStore {
    let claim = storage.shared.claims.take(SHARD, Part::Machine).unwrap();
    SnapshotStore::new(SHARD, Arc::clone(&storage.shared), claim)
}

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        last_log_id: Some(id(1, index)),
        ..SnapshotMeta::default()
    }
}

fn content(seed: u8, chunks: usize) -> Bytes {
    (0..chunks * CHUNK_BYTES + 17)
        .map(|at| (at as u8).wrapping_mul(seed))
        .collect()
}

fn chunks_on_disk(storage: &Storage) -> usize {
    let from = generation_key(SHARD, Generation::default());
    let (_, to) = shard_range(SHARD);
    let mut chunks = storage
        .shared
        .records
        .engine
        .iterate(Family::Snapshot, from, to)
        .unwrap();
    chunks.seek_to_first();
    let mut count = 0;
    while chunks.valid() {
        count += 1;
        chunks.next();
    }
    count
}

#[tokio::test]
async fn a_crash_before_the_switch_leaves_the_old_snapshot_whole() {
    let dir = tempfile::tempdir().unwrap();
    {
        let storage = open(dir.path());
        let store = store(&storage);
        let kept = store
            .save(meta(10), content(3, 2), Origin::Built)
            .await
            .unwrap();
        assert_eq!(kept, Kept::Yes);
        // All chunks of the next are durable, and then the process dies.
        let shared = &storage.shared;
        let head = store_chunks(
            &shared.records,
            SHARD,
            meta(20),
            &content(5, 4),
            &shared.scratch,
            Origin::Built,
        );
        assert_eq!(head.unwrap().unwrap().generation, Generation(2));
        assert_eq!(chunks_on_disk(&storage), 3 + 5);
    }
    let storage = open(dir.path());
    let store = store(&storage);
    let (head, bytes) = store.load().await.unwrap().unwrap();
    assert_eq!((head.meta, bytes), (meta(10), content(3, 2)));

    store
        .save(meta(30), content(7, 1), Origin::Received)
        .await
        .unwrap();
    let (head, bytes) = store.load().await.unwrap().unwrap();
    assert_eq!(
        head.generation,
        Generation(3),
        "the abandoned one's number is not used again"
    );
    assert_eq!((head.meta, bytes), (meta(30), content(7, 1)));
    assert_eq!(
        chunks_on_disk(&storage),
        2,
        "old and abandoned chunks are removed"
    );
}

#[tokio::test]
async fn a_snapshot_never_replaces_a_later_one() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let store = store(&storage);
    store
        .save(meta(10), content(3, 0), Origin::Received)
        .await
        .unwrap();
    let kept = store
        .save(meta(9), content(5, 0), Origin::Built)
        .await
        .unwrap();
    assert_eq!(kept, Kept::LaterOneExists);
    let (head, bytes) = store.load().await.unwrap().unwrap();
    assert_eq!((head.meta, bytes), (meta(10), content(3, 0)));
}

#[tokio::test]
async fn a_snapshot_that_is_sent_stays_until_then_and_is_read_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let store = store(&storage);
    let old = content(3, 2);
    store
        .save(meta(10), old.clone(), Origin::Built)
        .await
        .unwrap();
    let stored = store.current().await.unwrap().unwrap();
    for index in [20, 30] {
        store
            .save(meta(index), content(5, 1), Origin::Built)
            .await
            .unwrap();
    }
    let sent = SnapshotContent::Stored(stored);
    assert_eq!(sent.size(), old.len() as u64);
    for offset in [0, 1, CHUNK_BYTES, CHUNK_BYTES + 5, old.len() - 1, old.len()] {
        let rest = sent.read_to_end(offset as u64).await.unwrap();
        assert_eq!(rest, old.slice(offset..), "from {offset}");
    }
    let end = old.last_chunk().unwrap();
    assert_eq!(sent.checksum().await.unwrap(), u32::from_le_bytes(*end));
    assert_eq!(chunks_on_disk(&storage), 3 + 2 + 2);

    drop(sent);
    store
        .save(meta(40), content(7, 0), Origin::Built)
        .await
        .unwrap();
    assert_eq!(chunks_on_disk(&storage), 1);
}

#[tokio::test]
async fn a_checksum_may_lie_in_two_chunks() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let store = store(&storage);
    let bytes = content(3, 1).slice(..CHUNK_BYTES + 2);
    store
        .save(meta(10), bytes.clone(), Origin::Built)
        .await
        .unwrap();
    let stored = store.current().await.unwrap().unwrap();
    let checksum = SnapshotContent::Stored(stored).checksum().await.unwrap();
    assert_eq!(checksum, u32::from_le_bytes(*bytes.last_chunk().unwrap()));
}

#[tokio::test]
async fn damage_is_noticed_when_the_snapshot_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let store = store(&storage);
    store
        .save(meta(10), content(3, 2), Origin::Built)
        .await
        .unwrap();
    let stored = store.current().await.unwrap().unwrap();
    let sent = SnapshotContent::Stored(stored);
    storage.flip(
        Family::Snapshot,
        &chunk_key(SHARD, Generation(1), 1),
        CHUNK_BYTES / 2,
    );
    assert_eq!(sent.read(0).await.unwrap().len(), CHUNK_BYTES);
    let error = sent.read(CHUNK_BYTES as u64).await.unwrap_err();
    let record = RecordId::chunk(SHARD, Generation(1), 1);
    assert_eq!(CorruptRecord::behind(&error).unwrap().record, record);
    assert_eq!(storage.corruption_of(SHARD).unwrap().record, record);
}

#[tokio::test]
async fn a_shard_is_not_dropped_while_its_snapshot_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let current = {
        let (mut machine, _) = machine(&storage, SHARD).await;
        build(&mut machine).await;
        machine.get_current_snapshot().await.unwrap().unwrap()
    };
    let error = storage.drop_shard(SHARD).await.unwrap_err();
    assert!(matches!(error, DropShardError::StillOpen(_)));
    drop(current);
    storage.drop_shard(SHARD).await.unwrap();
}

#[tokio::test]
async fn no_snapshot_is_made_while_one_is_on_its_way() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let (mut machine, _) = machine(&storage, ShardId(5)).await;
    apply(&mut machine, [session(1, 0)]).await.unwrap();
    build(&mut machine).await;
    let Snapshot { snapshot: sent, .. } = machine.get_current_snapshot().await.unwrap().unwrap();
    assert!(machine.try_create_snapshot_builder(false).await.is_some());
    sent.progressed();
    assert!(machine.try_create_snapshot_builder(false).await.is_none());
    assert!(machine.try_create_snapshot_builder(true).await.is_some());
    // It has broken off, and may go on.
    drop(sent);
    assert!(machine.try_create_snapshot_builder(false).await.is_none());
}
