//! What a restart finds, and what opening refuses.

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use lockstep_model::Effect;
use openraft::{
    RaftLogReader,
    storage::{RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine},
};
use tempfile::TempDir;

use super::{SHARD, all, append, batch, blank, id, open};
use crate::{
    raft::types::{LeaderId, LogState, Vote},
    storage::{
        EffectSink, MachineStore, OpenError, OpenShardError, Storage, family::Family, meta_record,
    },
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
async fn a_dropped_replica_leaves_its_vote_and_how_far_its_log_reached() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let vote = Vote::new(2, 1);
    let histories = [
        (vec![blank(1, 0), blank(2, 1)], id(2, 1)),
        (vec![blank(1, 0), blank(1, 1), blank(1, 2)], id(2, 1)),
        (vec![], id(2, 1)),
        (vec![blank(3, 0)], id(3, 0)),
    ];
    for (entries, reach) in histories {
        let mut log = storage.log_store(SHARD).await.unwrap();
        append(&mut log, entries).await;
        log.save_vote(&vote).await.unwrap();
        drop(log);
        storage.drop_shard(SHARD).await.unwrap();
        let mut log = storage.log_store(SHARD).await.unwrap();
        assert_eq!(log.reach(), Some(reach));
        assert_eq!(log.get_log_state().await.unwrap(), LogState::default());
        let read = log.get_log_reader().await.read_vote().await.unwrap();
        assert_eq!(read, Some(vote));
    }
    storage.put_in_place(&[], &[], &[]).await.unwrap();
    let recovered = storage.log_store(SHARD).await.unwrap();
    assert_eq!(recovered.reach(), None, "another cluster is not bound");
}

#[tokio::test]
async fn a_forgotten_shard_is_gone_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let other = lockstep_model::ShardId(SHARD.0 + 1);
    for shard in [SHARD, other] {
        let mut log = storage.log_store(shard).await.unwrap();
        append(&mut log, vec![blank(1, 0), blank(1, 1)]).await;
        log.save_vote(&Vote::new(1, 1)).await.unwrap();
    }
    storage.forget_shard(SHARD).await.unwrap();
    drop(storage);
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    assert_eq!(log.reach(), None);
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

/// The directory of a node that was killed: all files as they are while it is open. The database removes
/// files in the background; a copy that misses one is of no single moment, and is made anew.
fn killed(dir: &Path) -> TempDir {
    fn copy(from: &Path, to: &Path) -> io::Result<()> {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            let to = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                copy(&entry.path(), &to)?;
            } else {
                fs::copy(entry.path(), to)?;
            }
        }
        Ok(())
    }
    loop {
        let copied = tempfile::tempdir().unwrap();
        match copy(dir, copied.path()) {
            Ok(()) => return copied,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The segment that was written to.
fn active(dir: &Path) -> PathBuf {
    let files = fs::read_dir(dir.join("journal")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths.max().unwrap()
}

/// A node that wrote ten entries, each by itself, and was killed.
async fn ten_entries() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    for index in 0..10 {
        append(&mut log, vec![batch(1, index, &[b'x'; 100])]).await;
    }
    killed(dir.path())
}

/// Where the frames of a segment are, as the format says.
fn frames(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut frames = Vec::new();
    let mut at = 0;
    while bytes[at + 15] != 0 {
        let payload = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap());
        frames.push(at..at + 32 + payload as usize);
        at = frames.last().unwrap().end;
    }
    frames
}

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_there_and_a_write_cut_short_is_not() {
    let dir = ten_entries().await;
    let path = active(dir.path());
    let mut bytes = fs::read(&path).unwrap();
    let last = frames(&bytes).pop().unwrap();
    // As if the last group were being written once more.
    let begun = bytes[last.start..last.end - 5].to_vec();
    bytes[last.end..last.end + begun.len()].copy_from_slice(&begun);
    fs::write(&path, bytes).unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    assert_eq!(all(&mut log).await.len(), 10);
}

/// The device refuses to take the last group. Its pages count as clean all the same, and the node that is
/// started anew finds it; then power is lost, and with it what the page cache had.
#[tokio::test]
async fn what_a_restart_relies_upon_is_there_after_a_loss_of_power() {
    let dir = ten_entries().await;
    let bytes = fs::read(active(dir.path())).unwrap();
    let refused = frames(&bytes).pop().unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    assert_eq!(all(&mut log).await.len(), 10);
    append(&mut log, vec![blank(1, 10)]).await;

    let lost = killed(dir.path());
    for file in fs::read_dir(lost.path().join("journal")).unwrap() {
        let path = file.unwrap().path();
        let mut content = fs::read(&path).unwrap();
        if content.get(refused.clone()) == Some(&bytes[refused.clone()]) {
            content[refused.clone()].fill(0);
            fs::write(&path, content).unwrap();
        }
    }
    let storage = open(lost.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    assert_eq!(all(&mut log).await.len(), 11);
}

#[tokio::test]
async fn any_changed_byte_of_the_journal_is_noticed() {
    let dir = ten_entries().await;
    let frames = frames(&fs::read(active(dir.path())).unwrap());
    assert!(frames.len() > 10, "each append has a frame");
    let heads = frames
        .iter()
        .flat_map(|frame| frame.start..frame.start + 32);
    let end = frames.last().unwrap().end;
    for at in heads.chain((0..end).step_by(97)) {
        let damaged = killed(dir.path());
        let path = active(damaged.path());
        let mut bytes = fs::read(&path).unwrap();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let opened = Storage::open(damaged.path());
        let refused = matches!(
            opened,
            Err(OpenError::Damaged { .. } | OpenError::LostWrites { .. })
        );
        assert!(refused, "byte {at} of {end}: {opened:?}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "it is left as it is");
    }
}

#[tokio::test]
async fn acknowledged_writes_that_the_journal_has_lost_are_missed() {
    let whole = ten_entries().await;
    let frames = frames(&fs::read(active(whole.path())).unwrap());
    let ends = frames.iter().map(|frame| frame.end - 1);
    for length in [0, 1].into_iter().chain(ends) {
        let dir = killed(whole.path());
        let files = || fs::read_dir(dir.path().join("journal")).unwrap().count();
        let before = files();
        let file = fs::File::options().write(true).open(active(dir.path()));
        file.unwrap().set_len(length as u64).unwrap();
        let error = Storage::open(dir.path()).unwrap_err();
        let missed = matches!(
            error,
            OpenError::LostWrites { .. } | OpenError::Damaged { .. }
        );
        assert!(missed, "cut to {length}: {error}");
        assert!(files() <= before, "nothing is begun");
    }
    fs::remove_dir_all(whole.path().join("journal")).unwrap();
    let error = Storage::open(whole.path()).unwrap_err();
    assert!(matches!(error, OpenError::LostWrites { .. }), "{error}");
}

/// Chunks do not pass through the journal: a deletion in it must not reach those that came later.
#[tokio::test]
async fn a_snapshot_made_after_its_shard_was_dropped_survives_a_kill() {
    struct NoEffects;
    impl EffectSink for NoEffects {
        fn effects(&self, _: Vec<Effect>) {}
    }
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    for _ in 0..2 {
        storage.drop_shard(SHARD).await.unwrap();
        for _ in 0..3 {
            let machine = MachineStore::open(&storage, SHARD, Arc::new(NoEffects)).await;
            let mut builder = machine.unwrap().get_snapshot_builder().await;
            builder.build_snapshot().await.unwrap();
        }
    }
    let killed = killed(dir.path());
    let storage = open(killed.path());
    storage.verify(SHARD).unwrap();
    MachineStore::open(&storage, SHARD, Arc::new(NoEffects))
        .await
        .unwrap();
}

#[tokio::test]
async fn another_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    {
        let storage = open(dir.path());
        let key = meta_record::FORMAT.as_bytes();
        let newer = meta_record::encode(key, &4_u32.to_be_bytes());
        storage.tamper(Family::Meta, key, |_| Some(newer));
    }
    let error = Storage::open(dir.path()).unwrap_err();
    assert!(
        matches!(&error, OpenError::Format { found, .. } if found == "4"),
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
