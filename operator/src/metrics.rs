//! Prometheus metrics of the operator.
//!
//! Invariant: labels have few values: reasons and outcomes, never names of clusters.

use std::{
    sync::{OnceLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Buckets in seconds: from a look at a quiet cluster to leads that are handed over slowly.
const BUCKETS: [f64; 15] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0,
];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: String,
}

/// All metrics.
pub struct Metrics {
    registry: Registry,
    reconciles: Family<Outcome, Counter>,
    durations: Histogram,
    actions: Family<Reason, Counter>,
    refusals: Family<Reason, Counter>,
    leads: Gauge<u64, AtomicU64>,
}

/// The process's metrics.
#[must_use]
pub fn get() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(Metrics::new)
}

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::with_prefix("lockstep_operator");
        let reconciles = Family::default();
        registry.register("reconciles", "Reconciles by outcome", reconciles.clone());
        let durations = Histogram::new(BUCKETS);
        registry.register_with_unit(
            "reconcile_duration",
            "Time of a reconcile",
            Unit::Seconds,
            durations.clone(),
        );
        let actions = Family::default();
        registry.register(
            "actions",
            "Actions that were begun, by reason",
            actions.clone(),
        );
        let refusals = Family::default();
        registry.register(
            "refusals",
            "Clusters that became degraded, by reason",
            refusals.clone(),
        );
        let leads = Gauge::default();
        registry.register("leads", "1 if this operator holds the lease", leads.clone());
        Self {
            registry,
            reconciles,
            durations,
            actions,
            refusals,
            leads,
        }
    }

    /// A reconcile ended.
    pub fn reconciled(&self, outcome: &'static str, time: Duration) {
        self.reconciles.get_or_create(&Outcome { outcome }).inc();
        self.durations.observe(time.as_secs_f64());
    }

    /// An action was begun.
    pub fn action(&self, reason: &str) {
        self.actions
            .get_or_create(&Reason {
                reason: reason.to_owned(),
            })
            .inc();
    }

    /// A cluster became degraded.
    pub fn refusal(&self, reason: &str) {
        self.refusals
            .get_or_create(&Reason {
                reason: reason.to_owned(),
            })
            .inc();
    }

    /// The lease was taken or given up.
    pub fn leads(&self, leads: bool) {
        self.leads.set(u64::from(leads));
    }

    /// All of them as OpenMetrics text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a text does not fail.
        let _ = text::encode(&mut out, &self.registry);
        out
    }
}
