//! A disk that fills up and is relieved, on a small file system of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use rustix::fs::{FallocateFlags, fallocate};
use tokio::time::{sleep, timeout};

use super::{SHARD, all, batch, id, open};
use crate::storage::{Level, LogStore, Storage};

const MIB: u64 = 1 << 20;
/// How long something may take that takes moments, RocksDB's look at the free space every 5 s aside.
const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);

/// A file system of its own, gone when dropped.
struct Volume(tempfile::TempDir);

impl Volume {
    /// None, with the reason on standard error, where this process may not mount one.
    fn mount(mib: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "tmpfs"])
            .arg(dir.path())
            .output();
        match mounted {
            Ok(done) if done.status.success() => Some(Self(dir)),
            Ok(refused) => {
                let words = String::from_utf8_lossy(&refused.stderr).into_owned();
                eprintln!("skipped: no file system can be mounted here: {words}");
                None
            }
            Err(error) => {
                eprintln!("skipped: there is no mount command: {error}");
                None
            }
        }
    }

    fn data(&self) -> PathBuf {
        self.0.path().join("data")
    }

    /// Takes all that is free.
    fn fill(&self) {
        let path = self.filler();
        let file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        let mut size = file.metadata().unwrap().len();
        for step in [16 * MIB, MIB, 64 << 10, 4 << 10] {
            while fallocate(&file, FallocateFlags::empty(), size, step).is_ok() {
                size += step;
            }
        }
    }

    fn relieve(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.0.path().join("filler")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.0.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} stays mounted", self.0.path().display());
        }
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waits = async {
        while !holds() {
            sleep(POLL).await;
        }
    };
    assert!(timeout(LIMIT, waits).await.is_ok(), "never: {what}");
}

/// Appends, entry after entry, and tells how many are durable.
async fn write(mut log: LogStore, done: Arc<AtomicU64>, bytes: usize) {
    loop {
        let index = done.load(Ordering::Relaxed) + 1;
        let entry = batch(1, index, &vec![index as u8; bytes]);
        if log.blocking_append(vec![entry]).await.is_err() {
            return;
        }
        done.store(index, Ordering::Relaxed);
        // As the log's keeper would, so that it does not fill the disk by itself.
        if index.is_multiple_of(64) && index > 128 {
            log.purge(id(1, index - 128)).await.unwrap();
        }
    }
}

fn ballast(data: &Path) -> bool {
    data.join("ballast").exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_wait_while_the_disk_is_full_and_go_on_when_it_is_not() {
    let Some(volume) = Volume::mount(128) else {
        return;
    };
    let data = volume.data();
    let storage = open(&data);
    let space = storage.space();
    let done = Arc::<AtomicU64>::default();
    let count = || done.load(Ordering::Relaxed);
    let log = storage.log_store(SHARD).await.unwrap();
    let writing = tokio::spawn(write(log, Arc::clone(&done), 64 << 10));
    for _ in 0..3 {
        space.look();
        assert!(ballast(&data), "there is room for it");
        let before = count();
        until("some are written", || count() > before + 100).await;
        until("writes wait", || {
            volume.fill();
            space.look();
            space.level() == Level::Full
        })
        .await;
        assert!(!ballast(&data), "it was given up");
        assert!(!storage.has_stopped());
        assert!(storage.not_writing().unwrap().starts_with("disk full"));
        volume.relieve();
        let before = count();
        until("writes go on", || count() > before + 200).await;
        until("all of them", || space.level() != Level::Full).await;
        until("there is a reserve again", || {
            space.look();
            ballast(&data)
        })
        .await;
    }
    writing.abort();
    let _ = writing.await;
    storage.shutdown().await.unwrap();
    let acknowledged = count();
    drop((storage, space));
    let storage = open(&data);
    let mut log = storage.log_store(SHARD).await.unwrap();
    let last = log.get_log_state().await.unwrap().last_log_id.unwrap();
    assert!(last.index >= acknowledged, "{last} of {acknowledged}");
    for entry in all(&mut log).await {
        let index = entry.log_id.index;
        assert_eq!(entry, batch(1, index, &vec![index as u8; 64 << 10]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_stopped_on_a_full_disk_starts_again() {
    let Some(volume) = Volume::mount(128) else {
        return;
    };
    let data = volume.data();
    let storage = open(&data);
    let space = storage.space();
    space.look();
    let done = Arc::<AtomicU64>::default();
    let log = storage.log_store(SHARD).await.unwrap();
    let writing = tokio::spawn(write(log, Arc::clone(&done), 64 << 10));
    until("some are written", || done.load(Ordering::Relaxed) > 100).await;
    until("writes wait", || {
        volume.fill();
        space.level() == Level::Full
    })
    .await;
    let stopped = timeout(LIMIT, storage.shutdown()).await;
    assert!(stopped.unwrap().is_err(), "what waited was not written");
    let _ = writing.await;
    drop((storage, space));
    let acknowledged = done.load(Ordering::Relaxed);
    volume.fill();
    let reopened = Storage::open(&data);
    if let Err(error) = &reopened {
        assert!(error.is_full(), "{error}");
    }
    drop(reopened);
    volume.relieve();
    let storage = open(&data);
    let mut log = storage.log_store(SHARD).await.unwrap();
    let last = log.get_log_state().await.unwrap().last_log_id.unwrap();
    assert!(last.index >= acknowledged);
}

#[tokio::test]
async fn the_log_is_counted_as_it_is_written_and_again_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut log = storage.log_store(SHARD).await.unwrap();
    let entries = (1..=9).map(|index| batch(1, index, &vec![7; 1_000]));
    super::append(&mut log, entries.collect()).await;
    let usage = log.usage();
    let each = usage.bytes() / 9;
    assert!((1_000..1_100).contains(&each));
    assert_eq!(usage.bytes_above(Some(7)), 2 * each);
    assert_eq!(usage.surplus(5 * each), Some(4));
    log.truncate_after(Some(id(1, 8))).await.unwrap();
    log.purge(id(1, 2)).await.unwrap();
    assert_eq!(usage.bytes(), 6 * each);
    drop((log, usage));
    storage.shutdown().await.unwrap();
    drop(storage);
    let storage = open(dir.path());
    let log = storage.log_store(SHARD).await.unwrap();
    assert_eq!(log.usage().bytes(), 6 * each);
}
