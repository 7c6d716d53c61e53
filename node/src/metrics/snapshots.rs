//! What snapshots cost: how many are made, and how much of them goes from node to node.
//!
//! Invariant: bytes are counted chunk by chunk, so that a transfer can be watched while it goes on.

use prometheus_client::{
    metrics::counter::Counter,
    registry::{Registry, Unit},
};

use lockstep_model::ShardId;

use super::{Shard, ShardGauge};

/// Counted when it happens.
#[derive(Default)]
pub struct Snapshots {
    builds: Counter,
    failed: Counter,
    bytes_sent: Counter,
    bytes_received: Counter,
    sent: Counter,
    received: Counter,
    size: ShardGauge,
}

impl Snapshots {
    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            (
                "snapshot_builds",
                "Snapshots made of this node's replicas",
                &self.builds,
            ),
            (
                "snapshot_builds_failed",
                "Snapshots of this node's replicas that could not be written",
                &self.failed,
            ),
            (
                "snapshot_bytes_sent",
                "Bytes of snapshots sent to followers, chunk by chunk",
                &self.bytes_sent,
            ),
            (
                "snapshot_bytes_received",
                "Bytes of snapshots that came from leaders, chunk by chunk",
                &self.bytes_received,
            ),
            (
                "snapshots_sent",
                "Snapshots that a follower has taken whole",
                &self.sent,
            ),
            (
                "snapshots_received",
                "Snapshots that came from a leader whole",
                &self.received,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register_with_unit(
            "snapshot_size",
            "Size of the replica's current snapshot",
            Unit::Bytes,
            self.size.clone(),
        );
    }

    /// A snapshot was made and stored.
    pub fn built(&self) {
        self.builds.inc();
    }

    /// A snapshot could not be written.
    pub fn failed(&self) {
        self.failed.inc();
    }

    /// A shard's current snapshot has this size.
    pub fn kept(&self, shard: ShardId, bytes: usize) {
        let shard = Shard { shard: shard.0 };
        self.size.get_or_create(&shard).set(bytes as u64);
    }

    /// A chunk was sent.
    pub fn sent(&self, bytes: usize) {
        self.bytes_sent.inc_by(bytes as u64);
    }

    /// The follower has installed what was sent.
    pub fn all_sent(&self) {
        self.sent.inc();
    }

    /// A chunk has come.
    pub fn received(&self, bytes: usize) {
        self.bytes_received.inc_by(bytes as u64);
    }

    /// A whole snapshot has come.
    pub fn all_received(&self) {
        self.received.inc();
    }
}
