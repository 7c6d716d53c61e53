//! What can go wrong, by operation, and what to do about it.
//!
//! Invariant: a variant is a fact that a caller can act on; what the server said in words is kept.

mod acquire;
mod hold;
mod reason;
mod refusal;

use std::time::Duration;

use lockstep_model::id::NameError;

pub use self::{
    acquire::AcquireError,
    hold::{DowngradeError, ProclaimError, ReleaseError, RenewError, UpgradeError},
    reason::Reason,
    refusal::ServerError,
};
pub(crate) use self::{reason::Disposition, refusal::Failure};
use crate::{address::AddressError, backup::BackupError, session::Loss};

/// Why [`crate::Client::connect`] failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No endpoint was given.
    #[error("no endpoint is configured: name at least one node as host:port")]
    NoEndpoints,
    /// An endpoint is not an address.
    #[error(transparent)]
    Endpoint(#[from] AddressError),
    /// No endpoint answered.
    #[error(
        "no endpoint answered ({last}): check that the nodes run and that the endpoints are theirs"
    )]
    Unreachable {
        /// The last error, with its endpoint.
        last: String,
    },
}

/// Why a request that is not part of a session's stream failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RequestError {
    /// No node gave an answer within the request timeout.
    #[error(
        "no answer from the cluster within {after:?} ({last}): check that a majority of its nodes runs"
    )]
    Unreachable {
        /// The time that was spent.
        after: Duration,
        /// The last error, with its node.
        last: String,
    },
    /// The name is not a lock's name.
    #[error(transparent)]
    InvalidName(#[from] NameError),
    /// The cluster refused.
    #[error(transparent)]
    Refused(#[from] ServerError),
    /// What was sent is no whole backup.
    #[error(transparent)]
    Backup(#[from] BackupError),
}

/// Why [`crate::Session::close`] failed. What the session held is released in any case, at the
/// latest when its TTL is over.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CloseError {
    /// It was lost before: what it held was released without it.
    #[error("the session was lost before it was closed: {0}")]
    SessionLost(Loss),
    /// The cluster could not be told.
    #[error(transparent)]
    Request(#[from] RequestError),
}
