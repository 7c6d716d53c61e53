//! Damage on disk: it is named, it stops one replica, and nothing is lost silently.

use std::sync::Arc;

use lockstep_model::{Effect, ShardId};
use openraft::{
    RaftLogReader,
    storage::{RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine},
};

use super::{SHARD, all, append, batch, id, open};
use crate::{
    raft::types::Vote,
    storage::{
        CorruptRecord, EffectSink, MachineStore, OpenShardError, Problem, ReadError, RecordId,
        Storage, VerifyError, committed_record,
        family::Family,
        log_entry, purged_record,
        snapshot_record::{Generation, chunk_key, head_key},
        vote_record,
    },
};

const OTHER: ShardId = ShardId(SHARD.0 + 1);

struct NoEffects;

impl EffectSink for NoEffects {
    fn effects(&self, _: Vec<Effect>) {}
}

/// Two shards with entries 0..10, a vote and a snapshot each, read from disk from here on.
async fn filled(dir: &std::path::Path) -> Storage {
    {
        let storage = open(dir);
        for shard in [SHARD, OTHER] {
            let mut log = storage.log_store(shard).await.unwrap();
            append(
                &mut log,
                (0..10).map(|index| batch(1, index, b"content")).collect(),
            )
            .await;
            log.save_vote(&Vote::new(1, 1)).await.unwrap();
            let machine = MachineStore::open(&storage, shard, Arc::new(NoEffects)).await;
            let mut builder = machine.unwrap().get_snapshot_builder().await;
            builder.build_snapshot().await.unwrap();
        }
    }
    open(dir)
}

#[tokio::test]
async fn a_changed_entry_is_named_and_stops_only_its_shard() {
    let dir = tempfile::tempdir().unwrap();
    let storage = filled(dir.path()).await;
    storage.flip(Family::Log, &log_entry::key(SHARD, 4), 20);

    let mut log = storage.log_store(SHARD).await.unwrap();
    let mut reader = log.get_log_reader().await;
    assert_eq!(reader.try_get_log_entries(5..10).await.unwrap().len(), 5);
    assert_eq!(storage.corruption_of(SHARD), None);
    let error = reader.try_get_log_entries(0..10).await.unwrap_err();
    let corrupt = CorruptRecord::behind(&error)
        .expect("the damage is behind the error")
        .clone();
    assert_eq!(
        corrupt.record,
        RecordId::LogEntry {
            shard: SHARD,
            index: 4
        }
    );
    assert!(matches!(corrupt.problem, Problem::Checksum { .. }));
    let words = error.to_string();
    for said in [
        "log entry 4 of shard 3",
        "log",
        "checksum",
        "other replicas",
        "peers",
    ] {
        assert!(words.contains(said), "{said:?} is not in {words:?}");
    }
    assert!(words.contains(dir.path().to_str().unwrap()), "{words}");
    assert_eq!(storage.corruption_of(SHARD), Some(corrupt.clone()));
    assert_eq!(storage.corruptions(), std::slice::from_ref(&corrupt));
    drop((log, reader));
    assert_eq!(
        storage.verify(SHARD),
        Err(VerifyError::Read(corrupt.into()))
    );

    assert_eq!(storage.verify(OTHER).unwrap().entries, 10);
    let mut other = storage.log_store(OTHER).await.unwrap();
    append(&mut other, vec![batch(1, 10, b"content")]).await;
    assert_eq!(all(&mut other).await.len(), 11);
    assert_eq!(storage.corruption_of(OTHER), None);

    storage.drop_shard(SHARD).await.unwrap();
    assert_eq!(
        storage.corruption_of(SHARD),
        None,
        "its records are gone, and the damage with them"
    );
}

#[tokio::test]
async fn a_missing_entry_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let storage = filled(dir.path()).await;
    storage.tamper(Family::Log, &log_entry::key(SHARD, 6), |_| None);
    let mut log = storage.log_store(SHARD).await.unwrap();
    let error = log
        .get_log_reader()
        .await
        .try_get_log_entries(2..9)
        .await
        .unwrap_err();
    let corrupt = CorruptRecord::behind(&error).unwrap();
    assert_eq!(
        corrupt.record,
        RecordId::LogEntry {
            shard: SHARD,
            index: 6
        }
    );
    assert_eq!(corrupt.problem, Problem::Missing);
}

#[tokio::test]
async fn an_entry_moved_to_another_place_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let storage = filled(dir.path()).await;
    let mut moved = None;
    storage.tamper(Family::Log, &log_entry::key(OTHER, 5), |value| {
        moved.clone_from(&value);
        value
    });
    storage.tamper(Family::Log, &log_entry::key(SHARD, 5), |_| moved);
    let VerifyError::Read(ReadError::Corrupt(corrupt)) = storage.verify(SHARD).unwrap_err() else {
        panic!("it must be found damaged");
    };
    assert!(matches!(corrupt.problem, Problem::Checksum { .. }));
}

#[tokio::test]
async fn damage_to_what_is_read_first_keeps_the_shard_from_opening() {
    let cases = [
        (
            Family::Vote,
            vote_record::key(SHARD).to_vec(),
            RecordId::Vote { shard: SHARD },
        ),
        (
            Family::Vote,
            purged_record::key(SHARD).to_vec(),
            RecordId::Purged { shard: SHARD },
        ),
        (
            Family::Vote,
            committed_record::key(SHARD).to_vec(),
            RecordId::Committed { shard: SHARD },
        ),
        (
            Family::Log,
            log_entry::key(SHARD, 10).to_vec(),
            RecordId::LogEntry {
                shard: SHARD,
                index: 10,
            },
        ),
    ];
    for (family, key, record) in cases {
        let dir = tempfile::tempdir().unwrap();
        let storage = filled(dir.path()).await;
        {
            let mut log = storage.log_store(SHARD).await.unwrap();
            log.purge(id(1, 2)).await.unwrap();
            log.save_committed(Some(id(1, 5))).await.unwrap();
            append(&mut log, vec![batch(1, 10, b"content")]).await;
        }
        storage.flip(family, &key, 3);
        let Err(OpenShardError::Read(ReadError::Corrupt(corrupt))) = storage.log_store(SHARD).await
        else {
            panic!("{record} must be found damaged");
        };
        assert_eq!(corrupt.record, record);
        assert_eq!(corrupt.shard(), Some(SHARD));
        storage.log_store(OTHER).await.unwrap();
    }
}

#[tokio::test]
async fn a_lost_first_entry_keeps_the_shard_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let storage = filled(dir.path()).await;
    storage
        .log_store(SHARD)
        .await
        .unwrap()
        .purge(id(1, 2))
        .await
        .unwrap();
    storage.shared.writer.barrier().await.unwrap();
    storage.tamper(Family::Log, &log_entry::key(SHARD, 3), |_| None);
    let Err(OpenShardError::Read(ReadError::Corrupt(corrupt))) = storage.log_store(SHARD).await
    else {
        panic!("the log must be found to begin too late");
    };
    assert_eq!(
        corrupt.record,
        RecordId::LogEntry {
            shard: SHARD,
            index: 3
        }
    );
}

#[tokio::test]
async fn a_damaged_snapshot_is_named_and_stops_only_its_shard() {
    let chunk = chunk_key(SHARD, Generation(1), 0);
    let damages: [(Vec<u8>, RecordId); 2] = [
        (
            head_key(SHARD).to_vec(),
            RecordId::SnapshotHead { shard: SHARD },
        ),
        (
            chunk,
            RecordId::SnapshotChunk {
                shard: SHARD,
                generation: 1,
                chunk: 0,
            },
        ),
    ];
    for (key, record) in damages {
        let dir = tempfile::tempdir().unwrap();
        let storage = filled(dir.path()).await;
        storage.flip(Family::Snapshot, &key, 3);
        let opened = MachineStore::open(&storage, SHARD, Arc::new(NoEffects)).await;
        let Err(OpenShardError::Io(error)) = opened else {
            panic!("{record} must be found damaged")
        };
        assert_eq!(CorruptRecord::behind(&error).unwrap().record, record);
        assert_eq!(storage.corruption_of(SHARD).unwrap().record, record);
        MachineStore::open(&storage, OTHER, Arc::new(NoEffects))
            .await
            .unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let storage = filled(dir.path()).await;
    storage.tamper(
        Family::Snapshot,
        &chunk_key(SHARD, Generation(1), 0),
        |_| None,
    );
    assert!(matches!(
        storage.verify(SHARD),
        Err(VerifyError::Read(ReadError::Corrupt(CorruptRecord {
            problem: Problem::Missing,
            ..
        })))
    ));
}

#[tokio::test]
async fn a_damaged_record_of_the_node_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    storage.put_meta("node", b"17").await.unwrap();
    storage.flip(Family::Meta, b"node", 2);
    let Err(ReadError::Corrupt(corrupt)) = storage.get_meta("node") else {
        panic!("it must be found damaged");
    };
    assert_eq!(
        corrupt.record,
        RecordId::Meta {
            name: "node".into()
        }
    );
    assert_eq!(corrupt.shard(), None);
}
