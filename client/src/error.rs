//! What can go wrong, by operation, and what to do about it.
//!
//! Invariant: a variant is a fact that a caller can act on; what the server said in words is kept.

mod reason;
mod refusal;

use std::time::Duration;

use lockstep_model::id::NameError;

pub(crate) use self::{reason::Disposition, refusal::Failure};
pub use self::{reason::Reason, refusal::ServerError};
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

/// Why locks were not acquired. None of them is held.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum AcquireError {
    /// The session is over: open another.
    #[error("the session is lost: {0}")]
    SessionLost(Loss),
    /// A name is not a lock's name.
    #[error(transparent)]
    InvalidName(#[from] NameError),
    /// The request is outside its bounds.
    #[error("{message}")]
    InvalidArgument {
        /// Which, in words.
        message: String,
    },
    /// Somebody holds it, and the request would not wait.
    #[error("{message}")]
    Unavailable {
        /// Which, in words.
        message: String,
    },
    /// It did not become free in time.
    #[error("{message}")]
    WaitTimeout {
        /// Which, in words.
        message: String,
    },
    /// The wait was part of a deadlock and was chosen to be given up: release what is held, then
    /// try again.
    #[error("{message}")]
    Deadlock {
        /// The cycle, in words.
        message: String,
        /// What the server adds, by name.
        metadata: std::collections::BTreeMap<String, String>,
    },
    /// This owner holds it shared: use [`crate::LockGuard::upgrade`].
    #[error("{message}")]
    UpgradeRequired {
        /// Which, in words.
        message: String,
    },
    /// The lock's queue is full: try again later.
    #[error("{message}")]
    TooManyWaiters {
        /// Which, in words.
        message: String,
    },
    /// This owner holds it too often: release some first.
    #[error("{message}")]
    TooManyHolds {
        /// Which, in words.
        message: String,
    },
    /// The wait was cancelled.
    #[error("{message}")]
    Cancelled {
        /// Which, in words.
        message: String,
    },
    /// No answer came in time. It is given up: a grant that comes nevertheless is released.
    #[error("no answer within {after:?}: the attempt is given up")]
    NoAnswer {
        /// The time that was spent.
        after: Duration,
    },
    /// Anything else.
    #[error(transparent)]
    Other(ServerError),
}

/// Why a hold was not given back.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReleaseError {
    /// The session is over, and the lock was released with it.
    #[error("the session is lost, and the lock with it: {0}")]
    SessionLost(Loss),
    /// The token is not current: the hold was lost before. Nothing was changed.
    #[error("{message}")]
    StaleToken {
        /// Which, in words.
        message: String,
    },
    /// No answer came in time. The release goes on in the background until it is answered or the
    /// session ends.
    #[error("no answer within {after:?}: the release goes on in the background")]
    NoAnswer {
        /// The time that was spent.
        after: Duration,
    },
    /// Anything else.
    #[error(transparent)]
    Other(ServerError),
}

/// Why a lock could not be confirmed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum RenewError {
    /// The session is over, and the lock was released with it.
    #[error("the session is lost, and the lock with it: {0}")]
    SessionLost(Loss),
    /// The lock is not held under this token any longer.
    #[error("{message}")]
    StaleToken {
        /// Which, in words.
        message: String,
    },
    /// No answer came in time. The lock may be held or not.
    #[error("no answer within {after:?}: the lock may be held or not")]
    NoAnswer {
        /// The time that was spent.
        after: Duration,
    },
    /// Anything else.
    #[error(transparent)]
    Other(ServerError),
}

/// Why a shared hold did not become exclusive. It is shared still, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum UpgradeError {
    /// The session is over, and the lock was released with it.
    #[error("the session is lost, and the lock with it: {0}")]
    SessionLost(Loss),
    /// The lock is not held under this token any longer.
    #[error("{message}")]
    StaleToken {
        /// Which, in words.
        message: String,
    },
    /// It is held exclusively already.
    #[error("{message}")]
    WrongMode {
        /// Which, in words.
        message: String,
    },
    /// Other readers hold it, and the request would not wait.
    #[error("{message}")]
    Unavailable {
        /// Which, in words.
        message: String,
    },
    /// The other readers did not leave in time.
    #[error("{message}")]
    WaitTimeout {
        /// Which, in words.
        message: String,
    },
    /// Another holder waits to upgrade, or the wait closed a cycle: release, then acquire
    /// exclusively.
    #[error("{message}")]
    Deadlock {
        /// The cycle, in words.
        message: String,
        /// What the server adds, by name.
        metadata: std::collections::BTreeMap<String, String>,
    },
    /// The lock's queue is full: try again later.
    #[error("{message}")]
    TooManyWaiters {
        /// Which, in words.
        message: String,
    },
    /// The wait was cancelled.
    #[error("{message}")]
    Cancelled {
        /// Which, in words.
        message: String,
    },
    /// The request is outside its bounds.
    #[error("{message}")]
    InvalidArgument {
        /// Which, in words.
        message: String,
    },
    /// No answer came in time. It is cancelled; the next operation on the guard waits for how it
    /// ended.
    #[error("no answer within {after:?}: the attempt is given up")]
    NoAnswer {
        /// The time that was spent.
        after: Duration,
    },
    /// Anything else.
    #[error(transparent)]
    Other(ServerError),
}

/// Why an exclusive hold did not become shared.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DowngradeError {
    /// The session is over, and the lock was released with it.
    #[error("the session is lost, and the lock with it: {0}")]
    SessionLost(Loss),
    /// The lock is not held under this token any longer.
    #[error("{message}")]
    StaleToken {
        /// Which, in words.
        message: String,
    },
    /// It is held shared already.
    #[error("{message}")]
    WrongMode {
        /// Which, in words.
        message: String,
    },
    /// No answer came in time; the next operation on the guard waits for how it ended.
    #[error("no answer within {after:?}: the downgrade goes on in the background")]
    NoAnswer {
        /// The time that was spent.
        after: Duration,
    },
    /// Anything else.
    #[error(transparent)]
    Other(ServerError),
}
