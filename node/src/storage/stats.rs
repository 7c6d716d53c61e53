//! Counters of the writer thread, for metrics.
//!
//! Invariant: counters only grow; reading them costs the writer nothing.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Counts since the storage was opened. Updated by the writer thread alone.
#[derive(Debug, Default)]
pub struct StorageStats {
    groups: AtomicU64,
    requests: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    longest_sync_nanos: AtomicU64,
    largest_group: AtomicU64,
    failures: AtomicU64,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StorageCounts {
    /// Groups of requests, each written as one.
    pub groups: u64,
    /// Requests in them: appends, votes, truncations, purges and others.
    pub requests: u64,
    /// Log entries in them.
    pub entries: u64,
    /// Bytes of keys and values in them.
    pub bytes: u64,
    /// Groups that were synced to the device.
    pub syncs: u64,
    /// Time spent in writing and syncing those, in nanoseconds.
    pub sync_nanos: u64,
    /// The longest of them, in nanoseconds.
    pub longest_sync_nanos: u64,
    /// Most requests that one group ever had.
    pub largest_group: u64,
    /// Requests that failed.
    pub failures: u64,
}

/// What one group held.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct GroupSize {
    pub(crate) requests: usize,
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

impl StorageStats {
    /// Counts a group that was written, and how long its sync took if it had one.
    pub(crate) fn wrote(&self, size: GroupSize, sync: Option<Duration>) {
        add(&self.groups, 1);
        add(&self.requests, count(size.requests));
        add(&self.entries, count(size.entries));
        add(&self.bytes, count(size.bytes));
        self.largest_group
            .fetch_max(count(size.requests), Ordering::Relaxed);
        if let Some(took) = sync {
            let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            add(&self.syncs, 1);
            add(&self.sync_nanos, nanos);
            self.longest_sync_nanos.fetch_max(nanos, Ordering::Relaxed);
        }
    }

    /// Counts requests that failed.
    pub(crate) fn failed(&self, requests: usize) {
        add(&self.failures, count(requests));
    }

    /// The counts now. Not one atomic picture: each is right by itself.
    #[must_use]
    pub fn read(&self) -> StorageCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StorageCounts {
            groups: get(&self.groups),
            requests: get(&self.requests),
            entries: get(&self.entries),
            bytes: get(&self.bytes),
            syncs: get(&self.syncs),
            sync_nanos: get(&self.sync_nanos),
            longest_sync_nanos: get(&self.longest_sync_nanos),
            largest_group: get(&self.largest_group),
            failures: get(&self.failures),
        }
    }
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn count(number: usize) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}
