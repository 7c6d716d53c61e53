//! How many nodes may be evicted at a time.
//!
//! Invariant: one while every shard survives the loss of any one node, and none while a shard would not:
//! while replicas catch up or are made anew, another drain could take the majority. Where no member says
//! anything it is one, so that machines can be drained. Never two, which could be a majority of three. While a pod is away for the operator's own sake, nobody else
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

pub(super) fn budget(valid: &Valid, version: BudgetVersion, evictable: u32) -> DynamicObject {
    let mut object = DynamicObject::new(&valid.name, &version.resource());
    object.metadata = metadata(valid, valid.name.clone());
    object.data =
        json!({"spec": {"maxUnavailable": evictable, "selector": label_selector(&valid.name)}});
    object
}
