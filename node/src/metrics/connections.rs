//! Connections of this node's listeners, and why some are closed.
//!
//! Invariant: a listener is named by what it is for, of which there are three.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Listener {
    listener: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Closed {
    listener: &'static str,
    reason: &'static str,
}

/// Counted when it happens.
#[derive(Default)]
pub struct Connections {
    present: Family<Listener, Gauge<u64, AtomicU64>>,
    most: Family<Listener, Gauge<u64, AtomicU64>>,
    closed: Family<Closed, Counter>,
    failed: Family<Listener, Counter>,
}

impl Connections {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "connections",
            "Open connections, by listener",
            self.present.clone(),
        );
        registry.register(
            "connections_most",
            "How many connections the listener may have",
            self.most.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections that this node did not want to keep: full (turned away), crowded_out (silent, and another came), timed_out (silent for too long)",
            self.closed.clone(),
        );
        registry.register(
            "accept_failures",
            "Times that the system refused to accept a connection",
            self.failed.clone(),
        );
    }

    pub(crate) fn present(&self, listener: &'static str, count: usize) {
        self.present
            .get_or_create(&Listener { listener })
            .set(count as u64);
    }

    pub(crate) fn most(&self, listener: &'static str, count: usize) {
        self.most
            .get_or_create(&Listener { listener })
            .set(count as u64);
    }

    pub(crate) fn turned_away(&self, listener: &'static str) {
        self.close(listener, "full");
    }

    pub(crate) fn crowded_out(&self, listener: &'static str) {
        self.close(listener, "crowded_out");
    }

    pub(crate) fn timed_out(&self, listener: &'static str) {
        self.close(listener, "timed_out");
    }

    fn close(&self, listener: &'static str, reason: &'static str) {
        self.closed
            .get_or_create(&Closed { listener, reason })
            .inc();
    }

    pub(crate) fn accept_failed(&self, listener: &'static str) {
        self.failed.get_or_create(&Listener { listener }).inc();
    }
}
