//! Which operators keep a cluster, where there are several releases.
//!
//! Invariant: two releases that watch the same namespace do not both act on a cluster: they may be of two
//! versions, or have two default images, and would undo each other's changes for ever. Who made the
//! StatefulSet keeps the cluster, as long as its lease is held; by the same rule as among the operators of
//! one release, no clocks are compared.

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;

use super::{build::OPERATOR_ANNOTATION, dereference::Dereferenced};
use crate::{context::Context, lease::Decision};

/// The operators that keep the cluster, if they are others and have not given it up.
pub(super) async fn other(context: &Context, seen: &Dereferenced) -> Option<String> {
    let keeper = seen.keeper.clone()?;
    (keeper != context.keeper && is_held(context, &keeper).await).then_some(keeper)
}

/// Is the lease of these operators held? What cannot be read may be.
async fn is_held(context: &Context, keeper: &str) -> bool {
    let Some((namespace, name)) = keeper.split_once('/') else {
        return false;
    };
    let leases: Api<Lease> = Api::namespaced(context.client.clone(), namespace);
    match leases.get_opt(name).await {
        Ok(None) => false,
        Ok(Some(lease)) => {
            let spec = lease.spec.as_ref();
            let renewal = spec.and_then(|spec| spec.renew_time.clone());
            let unchanged = context.memory.unchanged(keeper, renewal);
            crate::lease::decide(spec, "", unchanged) == Decision::Yield
        }
        Err(error) => {
            tracing::warn!(%error, keeper, "the lease of other operators cannot be read");
            true
        }
    }
}

/// What a person may do about it.
pub(super) fn words(other: &str) -> String {
    format!(
        "the operators of the lease {other} keep this cluster, and these do nothing: have one release watch a namespace; or, to have it kept by others, remove the annotation {OPERATOR_ANNOTATION} from its StatefulSet"
    )
}
