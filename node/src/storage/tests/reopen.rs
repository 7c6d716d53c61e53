//! What a restart finds, and what opening refuses.

use std::{
    fs,
    path::{Path, PathBuf},
};

use openraft::{RaftLogReader, storage::RaftLogStorage};

use super::{SHARD, all, append, batch, blank, id, open};
use crate::{
    raft::types::{LeaderId, Vote},
    storage::{OpenError, OpenShardError, Storage, family::Family, meta_record},
};

#[tokio::test]
async fn all_that_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let vote = Vote {
        leader_id: LeaderId {
            term: 9,
            node_id: 4,
        },
        committed: true,
    };
    {
        let storage = open(dir.path());
        let mut log = storage.log_store(SHARD).await.unwrap();
        append(
            &mut log,
            (0..10).map(|index| batch(1, index, b"content")).collect(),
        )
        .await;
        log.save_vote(&vote).await.unwrap();
        log.purge(id(1, 3)).await.unwrap();
        log.save_committed(Some(id(1, 8))).await.unwrap();
        append(&mut log, vec![blank(9, 10)]).await;
        log.save_committed(Some(id(9, 10))).await.unwrap();
        storage.put_meta("node", b"17").await.unwrap();
    }
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(id(1, 3)));
    assert_eq!(state.last_log_id, Some(id(9, 10)));
    assert_eq!(all(&mut log).await.len(), 7);
    assert_eq!(
        log.get_log_reader().await.read_vote().await.unwrap(),
        Some(vote)
    );
    let committed = log.read_committed().await.unwrap();
    assert_eq!(
        committed,
        Some(id(1, 8)),
        "the mark that was written along with an append"
    );
    assert_eq!(storage.get_meta("node").unwrap(), Some(b"17".to_vec()));
    assert_eq!(storage.get_meta("other").unwrap(), None);
}

#[tokio::test]
async fn a_directory_is_used_once_at_a_time_and_a_shard_is_open_once() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let error = Storage::open(dir.path()).unwrap_err();
    assert!(
        matches!(&error, OpenError::InUse { path } if path == dir.path()),
        "{error}"
    );

    let log = storage.log_store(SHARD).await.unwrap();
    let second = storage.log_store(SHARD).await;
    assert!(matches!(second, Err(OpenShardError::AlreadyOpen(_))));
    assert!(storage.drop_shard(SHARD).await.is_err());
    drop(storage);
    assert!(
        Storage::open(dir.path()).is_err(),
        "what was opened through it still uses it"
    );
    drop(log);
    let storage = open(dir.path());
    storage.log_store(SHARD).await.unwrap();
}

#[tokio::test]
async fn a_dropped_shard_is_gone_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let other = lockstep_model::ShardId(SHARD.0 + 1);
    for shard in [SHARD, other] {
        let mut log = storage.log_store(shard).await.unwrap();
        append(&mut log, vec![blank(1, 0), blank(1, 1)]).await;
        log.save_vote(&Vote::new(1, 1)).await.unwrap();
    }
    storage.drop_shard(SHARD).await.unwrap();
    drop(storage);
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, None);
    assert_eq!(log.get_log_reader().await.read_vote().await.unwrap(), None);
    append(&mut log, vec![blank(5, 0)]).await;
    assert_eq!(all(&mut log).await, [blank(5, 0)]);
    assert_eq!(
        all(&mut storage.log_store(other).await.unwrap())
            .await
            .len(),
        2
    );
}

/// The write-ahead log that is written to.
fn last_wal(dir: &Path) -> PathBuf {
    fs::read_dir(dir.join("db"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .max()
        .unwrap()
}

async fn ten_entries(dir: &Path) {
    let storage = open(dir);
    let mut log = storage.log_store(SHARD).await.unwrap();
    for index in 0..10 {
        append(&mut log, vec![batch(1, index, &[b'x'; 100])]).await;
    }
}

#[tokio::test]
async fn a_write_that_a_crash_cut_short_is_dropped_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    ten_entries(dir.path()).await;
    let wal = last_wal(dir.path());
    let bytes = fs::read(&wal).unwrap();
    // As if the last group were being written once more.
    let begun = &bytes[bytes.len() - 150..bytes.len() - 5];
    let begun = [&[1, 2, 3, 4, 200, 0, 1], begun].concat();
    fs::write(&wal, [&bytes[..], &begun].concat()).unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    assert_eq!(all(&mut log).await.len(), 10);
}

#[tokio::test]
async fn acknowledged_writes_that_the_write_ahead_log_has_lost_are_missed() {
    for cut in [1, 5, 200, 1_000] {
        let dir = tempfile::tempdir().unwrap();
        ten_entries(dir.path()).await;
        let wal = last_wal(dir.path());
        let length = fs::metadata(&wal).unwrap().len();
        fs::File::options()
            .write(true)
            .open(&wal)
            .unwrap()
            .set_len(length - cut)
            .unwrap();
        let error = Storage::open(dir.path()).unwrap_err();
        assert!(
            matches!(error, OpenError::LostWrites { .. }),
            "cut by {cut}: {error}"
        );
    }
}

#[tokio::test]
async fn any_changed_byte_of_the_write_ahead_log_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    ten_entries(dir.path()).await;
    let wal = last_wal(dir.path());
    let bytes = fs::read(&wal).unwrap();
    let database: Vec<_> = fs::read_dir(dir.path().join("db"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    // The headers of all records (checksum, length, type), and some of what is in them.
    let mut headers = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        headers.extend(at..at + 7);
        at += 7 + usize::from(u16::from_le_bytes([bytes[at + 4], bytes[at + 5]]));
    }
    assert!(headers.len() > 70, "each append has a record");
    for at in headers.into_iter().chain((0..bytes.len()).step_by(97)) {
        for (path, before) in &database {
            fs::write(path, before).unwrap();
        }
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        fs::write(&wal, &damaged).unwrap();
        let opened = Storage::open(dir.path());
        assert!(
            matches!(
                opened,
                Err(OpenError::Damaged { .. } | OpenError::LostWrites { .. })
            ),
            "byte {at} of {}: {opened:?}",
            bytes.len()
        );
    }
}

#[tokio::test]
async fn damage_in_the_middle_of_the_write_ahead_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    ten_entries(dir.path()).await;
    let wal = last_wal(dir.path());
    let mut bytes = fs::read(&wal).unwrap();
    let fifth = bytes
        .windows(100)
        .enumerate()
        .filter(|(_, piece)| *piece == [b'x'; 100])
        .nth(4);
    let (at, _) = fifth.unwrap();
    bytes[at + 50] ^= 1;
    fs::write(&wal, &bytes).unwrap();
    let error = Storage::open(dir.path()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(fs::read(&wal).unwrap(), bytes, "it must be left as it is");
}

#[tokio::test]
async fn another_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    {
        let storage = open(dir.path());
        let key = meta_record::FORMAT.as_bytes();
        let newer = meta_record::encode(key, &2_u32.to_be_bytes());
        storage.tamper(Family::Meta, key, |_| Some(newer));
    }
    let error = Storage::open(dir.path()).unwrap_err();
    assert!(
        matches!(&error, OpenError::Format { found, .. } if found == "2"),
        "{error}"
    );
}

#[tokio::test]
async fn names_and_sizes_of_records_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    for name in ["", "storage.format", &"x".repeat(129)] {
        assert!(storage.put_meta(name, b"").await.is_err(), "{name:?}");
    }
    assert!(
        storage
            .put_meta("large", &vec![0; (1 << 20) + 1])
            .await
            .is_err()
    );
    storage
        .put_meta(&"x".repeat(128), &vec![1; 1 << 20])
        .await
        .unwrap();
}
