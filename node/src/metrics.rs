//! Prometheus metrics of this process.
//!
//! Invariant: recording never blocks and never fails; what has to be looked up (Raft, machines,
//! storage) is looked up when the metrics are read, not when things happen.

use std::sync::{OnceLock, atomic::AtomicU64};

use lockstep_model::{Machine, ShardId};
use openraft::async_runtime::WatchReceiver as _;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::{
    router::Router,
    storage::{CorruptRecord, Storage},
};

/// Latency buckets in seconds: from a local answer to a blocked wait.
const LATENCY: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2.0, 8.0, 60.0,
];
/// Batch size buckets, in commands.
const BATCH: [f64; 10] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 256.0, 1_024.0, 4_096.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    method: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Method {
    method: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Shard {
    shard: u32,
}

mod connections;
mod disk;
mod snapshots;

pub use self::{connections::Connections, snapshots::Snapshots};

type ShardGauge = Family<Shard, Gauge<u64, AtomicU64>>;

/// All metrics.
pub struct Metrics {
    registry: Registry,
    calls: Family<Call, Counter>,
    latency: Family<Method, Histogram, fn() -> Histogram>,
    refusals: Family<Reason, Counter>,
    batches: Histogram,
    stopped: ShardGauge,
    /// Of the listeners.
    pub connections: Connections,
    /// Made, sent and received.
    pub snapshots: Snapshots,
    shards: Shards,
    storage: StorageGauges,
    disk: disk::Disk,
}

/// Looked up when read, per shard.
#[derive(Default)]
struct Shards {
    term: ShardGauge,
    leader: ShardGauge,
    leads: ShardGauge,
    last_index: ShardGauge,
    applied_index: ShardGauge,
    purged_index: ShardGauge,
    lag: ShardGauge,
    sessions: ShardGauge,
    locks: ShardGauge,
    holders: ShardGauge,
    waiters: ShardGauge,
    deadlocks: ShardGauge,
}

/// Looked up when read, from the storage's own counters.
#[derive(Default)]
struct StorageGauges {
    fsyncs: Gauge<u64, AtomicU64>,
    fsync_seconds: Gauge<f64, AtomicU64>,
    entries: Gauge<u64, AtomicU64>,
    bytes: Gauge<u64, AtomicU64>,
}

/// The process's metrics.
#[must_use]
pub fn get() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(Metrics::new)
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("lockstep");
        let calls = Family::default();
        registry.register(
            "grpc_calls",
            "Calls from clients, by method and gRPC code",
            calls.clone(),
        );
        let latency = Family::new_with_constructor(latency_histogram as fn() -> Histogram);
        registry.register_with_unit(
            "grpc_call_duration",
            "Time to answer a unary call from a client",
            Unit::Seconds,
            latency.clone(),
        );
        let refusals = Family::default();
        registry.register("refusals", "Requests refused, by reason", refusals.clone());
        let batches = Histogram::new(BATCH);
        registry.register("batch_commands", "Commands in a batch", batches.clone());
        let stopped = ShardGauge::default();
        registry.register(
            "replica_stopped",
            "1 for a replica of this node that is closed, because it was given up or its records are damaged",
            stopped.clone(),
        );
        let connections = Connections::default();
        connections.register(&mut registry);
        let snapshots = Snapshots::default();
        snapshots.register(&mut registry);
        let shards = Shards::default();
        shards.register(&mut registry);
        let storage = StorageGauges::default();
        storage.register(&mut registry);
        let disk = disk::Disk::default();
        disk.register(&mut registry);
        Self {
            registry,
            calls,
            latency,
            refusals,
            batches,
            stopped,
            connections,
            snapshots,
            shards,
            storage,
            disk,
        }
    }

    /// A call was answered.
    pub fn call(&self, method: &str, code: tonic::Code, seconds: f64) {
        let method = method.to_owned();
        self.calls
            .get_or_create(&Call {
                method: method.clone(),
                code: format!("{code:?}"),
            })
            .inc();
        self.latency
            .get_or_create(&Method { method })
            .observe(seconds);
    }

    /// Something was refused.
    pub fn refused(&self, reason: &str) {
        self.refusals
            .get_or_create(&Reason {
                reason: reason.to_owned(),
            })
            .inc();
    }

    /// A replica is closed.
    pub fn replica_stopped(&self, shard: ShardId) {
        self.stopped.get_or_create(&Shard { shard: shard.0 }).set(1);
    }

    /// A replica is open, or not to be open here.
    pub fn replica_opened(&self, shard: ShardId) {
        self.stopped.get_or_create(&Shard { shard: shard.0 }).set(0);
    }

    /// A batch of so many commands was proposed.
    pub fn batch(&self, commands: usize) {
        self.batches.observe(commands as f64);
    }

    /// The text that Prometheus reads.
    #[must_use]
    pub fn render(&self, router: Option<&Router>, storage: &Storage) -> String {
        if let Some(router) = router {
            self.shards.look_up(router);
        }
        for shard in storage
            .corruptions()
            .iter()
            .filter_map(CorruptRecord::shard)
        {
            self.replica_stopped(shard);
        }
        self.storage.look_up(storage);
        self.disk.look_up(router, storage);
        let mut text = String::new();
        if text::encode(&mut text, &self.registry).is_err() {
            // Writing to a String cannot fail.
            text.clear();
        }
        text
    }
}

fn latency_histogram() -> Histogram {
    Histogram::new(LATENCY)
}

impl Shards {
    fn register(&self, registry: &mut Registry) {
        for (name, help, gauge) in [
            ("raft_term", "The replica's Raft term", &self.term),
            (
                "raft_leader",
                "The leader's node id; 0 while unknown",
                &self.leader,
            ),
            (
                "raft_leads",
                "1 if this replica leads its shard",
                &self.leads,
            ),
            (
                "raft_last_index",
                "The last index in the replica's log",
                &self.last_index,
            ),
            (
                "raft_applied_index",
                "The last index that the replica has applied",
                &self.applied_index,
            ),
            (
                "raft_purged_index",
                "The last index that is not in the replica's log any more",
                &self.purged_index,
            ),
            (
                "raft_lag_entries",
                "Committed entries that the replica has not applied",
                &self.lag,
            ),
            (
                "sessions",
                "Sessions whose home the shard is",
                &self.sessions,
            ),
            ("locks", "Locks that are held or waited for", &self.locks),
            ("lock_holders", "Holds of locks", &self.holders),
            (
                "lock_waiters",
                "Blocked acquisitions and upgrades",
                &self.waiters,
            ),
            (
                "deadlocks_broken",
                "Waits of the shard that were given up to break deadlocks, so far",
                &self.deadlocks,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    fn look_up(&self, router: &Router) {
        for replica in router.replicas() {
            let shard = Shard {
                shard: replica.shard.0,
            };
            let set = |gauge: &ShardGauge, value: u64| {
                gauge.get_or_create(&shard).set(value);
            };
            {
                let metrics = replica.raft.metrics();
                let metrics = metrics.borrow_watched();
                let applied = metrics.last_applied.map_or(0, |id| id.index);
                let committed = metrics.cluster_committed.map_or(0, |id| id.index);
                set(&self.term, metrics.current_term);
                set(&self.leader, metrics.current_leader.unwrap_or(0));
                set(
                    &self.leads,
                    u64::from(metrics.current_leader == Some(metrics.id)),
                );
                set(&self.last_index, metrics.last_log_index.unwrap_or(0));
                set(&self.applied_index, applied);
                set(&self.purged_index, metrics.purged.map_or(0, |id| id.index));
                set(&self.lag, committed.saturating_sub(applied));
            }
            if let Machine::Data(data) = &*replica.machine.read() {
                let counts = data.counts();
                set(&self.sessions, counts.sessions as u64);
                set(&self.locks, counts.locks as u64);
                set(&self.holders, counts.holders as u64);
                set(&self.waiters, counts.waiters as u64);
                set(&self.deadlocks, counts.deadlocks);
            }
        }
    }
}

impl StorageGauges {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "storage_fsyncs",
            "Synced writes so far",
            self.fsyncs.clone(),
        );
        registry.register_with_unit(
            "storage_fsync_time",
            "Time spent in synced writes so far",
            Unit::Seconds,
            self.fsync_seconds.clone(),
        );
        registry.register(
            "storage_log_entries",
            "Log entries written so far",
            self.entries.clone(),
        );
        registry.register_with_unit(
            "storage_log_written",
            "Log bytes written so far",
            Unit::Bytes,
            self.bytes.clone(),
        );
    }

    fn look_up(&self, storage: &Storage) {
        let counts = storage.stats().read();
        self.fsyncs.set(counts.syncs);
        self.fsync_seconds.set(counts.sync_nanos as f64 / 1e9);
        self.entries.set(counts.entries);
        self.bytes.set(counts.bytes);
    }
}
