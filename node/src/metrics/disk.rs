//! The room on the node's volume, and what the shards' logs take of it.
//!
//! Invariant: looked up when the metrics are read, without asking the disk.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    metrics::gauge::Gauge,
    registry::{Registry, Unit},
};

use super::{Shard, ShardGauge};
use crate::{
    router::Router,
    storage::{Level, Storage},
};

/// See the module.
#[derive(Default)]
pub(super) struct Disk {
    free: Gauge<u64, AtomicU64>,
    level: Gauge<u64, AtomicU64>,
    budget: Gauge<u64, AtomicU64>,
    log: ShardGauge,
}

impl Disk {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register_with_unit(
            "disk_free",
            "Free space on the volume of the data directory",
            Unit::Bytes,
            self.free.clone(),
        );
        registry.register(
            "disk_level",
            "0 while there is room, 1 while nothing is taken on that needs more, 2 while writes wait for room",
            self.level.clone(),
        );
        registry.register_with_unit(
            "raft_log_budget",
            "What the logs of all replicas may have on disk",
            Unit::Bytes,
            self.budget.clone(),
        );
        registry.register_with_unit(
            "raft_log_size",
            "The replica's log on disk",
            Unit::Bytes,
            self.log.clone(),
        );
    }

    pub(super) fn look_up(&self, router: Option<&Router>, storage: &Storage) {
        let space = storage.space();
        self.free.set(space.free());
        self.level.set(match space.level() {
            Level::Ample => 0,
            Level::Low => 1,
            Level::Full => 2,
        });
        self.budget.set(space.budget().log);
        for replica in router.map(Router::replicas).unwrap_or_default() {
            let shard = Shard {
                shard: replica.shard.0,
            };
            self.log
                .get_or_create(&shard)
                .set(replica.keeper.log.bytes());
        }
    }
}
