//! How many nodes may be evicted at a time.
//!
//! Invariant: one, and always one: a budget of none would keep machines from being drained for ever,
//! and two could be a majority of three. While a pod is away for the operator's own sake, nobody else
//! may take another, and the operator evicts its pods under the same budget.

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use super::{Valid, label_selector, metadata};

/// In which version the API server serves `PodDisruptionBudget`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BudgetVersion {
    /// Kubernetes 1.21 and newer.
    #[default]
    V1,
    /// Kubernetes up to 1.24.
    V1Beta1,
}

impl BudgetVersion {
    /// `group/version`, of evictions too.
    #[must_use]
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "policy/v1",
            Self::V1Beta1 => "policy/v1beta1",
        }
    }

    /// How it is asked for.
    #[must_use]
    pub fn resource(self) -> ApiResource {
        let version = match self {
            Self::V1 => "v1",
            Self::V1Beta1 => "v1beta1",
        };
        ApiResource::from_gvk(&GroupVersionKind::gvk(
            "policy",
            version,
            "PodDisruptionBudget",
        ))
    }
}

pub(super) fn budget(valid: &Valid, version: BudgetVersion) -> DynamicObject {
    let mut object = DynamicObject::new(&valid.name, &version.resource());
    object.metadata = metadata(valid, valid.name.clone());
    object.data = json!({"spec": {"maxUnavailable": 1, "selector": label_selector(&valid.name)}});
    object
}
