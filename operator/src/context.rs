//! What every reconcile shares.
//!
//! Invariant: nothing in here decides: what is decided depends on what is read each time.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
};

use kube::{
    Client, Discovery,
    runtime::{events::Recorder, reflector::ObjectRef},
};
use parking_lot::Mutex;

use crate::{
    cluster::{
        Memory,
        build::{BudgetVersion, Served},
    },
    crd::v1alpha1::SyncCluster,
    metrics::Metrics,
    sentinel::Sentinel,
};

/// The group of what OpenShift assigns users by.
const OPENSHIFT: &str = "security.openshift.io";

/// Where pods are told that the API server is: an address of the family that comes first for all of them.
const API_HOST: &str = "KUBERNETES_SERVICE_HOST";

/// What every reconcile shares.
pub struct Context {
    /// To the API server.
    pub client: Client,
    /// For events.
    pub recorder: Recorder,
    /// The image of clusters that name none.
    pub default_image: String,
    /// Who keeps clusters here: `namespace/name` of the lease.
    pub keeper: String,
    /// What is counted.
    pub metrics: &'static Metrics,
    /// What was seen of clusters over time.
    pub memory: Memory,
    /// Watches the members.
    pub sentinel: Sentinel,
    served: Mutex<Served>,
    is_stale_definition_known: AtomicBool,
    failures: Mutex<HashMap<ObjectRef<SyncCluster>, u32>>,
}

impl Context {
    /// A context.
    #[must_use]
    pub fn new(
        client: Client,
        recorder: Recorder,
        default_image: String,
        keeper: String,
        sentinel: Sentinel,
        served: Served,
    ) -> Self {
        Self {
            client,
            recorder,
            default_image,
            keeper,
            metrics: crate::metrics::get(),
            memory: Memory::default(),
            sentinel,
            served: Mutex::new(served),
            is_stale_definition_known: AtomicBool::new(false),
            failures: Mutex::default(),
        }
    }

    /// What the API server serves, as last asked.
    #[must_use]
    pub fn served(&self) -> Served {
        *self.served.lock()
    }

    /// Notes what the API server serves.
    pub fn serves(&self, served: Served) {
        *self.served.lock() = served;
    }

    /// Notes that the definition of `SyncCluster` lacks what this operator writes. True the first time.
    pub fn definition_is_stale(&self) -> bool {
        !self.is_stale_definition_known.swap(true, Ordering::Relaxed)
    }

    /// Counts failures in a row of a cluster.
    pub fn failed(&self, cluster: ObjectRef<SyncCluster>) -> u32 {
        let mut failures = self.failures.lock();
        let count = failures.entry(cluster).or_default();
        *count = count.saturating_add(1);
        *count
    }

    /// Failures in a row of a cluster so far.
    #[must_use]
    pub fn failures(&self, cluster: &ObjectRef<SyncCluster>) -> u32 {
        self.failures.lock().get(cluster).copied().unwrap_or(0)
    }

    /// A cluster was reconciled.
    pub fn succeeded(&self, cluster: &ObjectRef<SyncCluster>) {
        self.failures.lock().remove(cluster);
    }
}

/// Asks what the API server serves, of what not all serve.
///
/// # Errors
/// If it does not answer.
pub async fn ask_served(client: &Client) -> Result<Served, kube::Error> {
    let found = Discovery::new(client.clone())
        .filter(&["policy", "monitoring.coreos.com", OPENSHIFT])
        .run()
        .await?;
    let has = |group: &str, version: &str, kind: &str| {
        let group = found.groups().find(|known| known.name() == group);
        group.is_some_and(|group| {
            group
                .versioned_resources(version)
                .iter()
                .any(|(resource, _)| resource.kind == kind)
        })
    };
    Ok(Served {
        budget: if has("policy", "v1", "PodDisruptionBudget") {
            BudgetVersion::V1
        } else {
            BudgetVersion::V1Beta1
        },
        pod_monitor: has("monitoring.coreos.com", "v1", "PodMonitor"),
        assigns_users: found.has_group(OPENSHIFT),
        is_ipv6: std::env::var(API_HOST).is_ok_and(|host| is_ipv6(&host)),
    })
}

fn is_ipv6(host: &str) -> bool {
    host.parse::<std::net::Ipv6Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn families_of_addresses() {
        assert!(super::is_ipv6("fd00:10:96::1"));
        assert!(!super::is_ipv6("10.96.0.1"));
        assert!(!super::is_ipv6("api.example.com"));
    }
}
