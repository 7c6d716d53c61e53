//! The pods' identity.
//!
//! Invariant: it may do nothing, and its token is not even mounted.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::{Valid, metadata};

pub(super) fn service_account(valid: &Valid) -> ServiceAccount {
    ServiceAccount {
        metadata: metadata(valid, valid.name.clone()),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
