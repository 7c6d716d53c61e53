//! What can go wrong when something is to be held, or a barrier to be passed.
//!
//! Invariant: whatever it is, nothing is held.

use std::time::Duration;

use lockstep_model::id::NameError;

use super::ServerError;
use crate::session::Loss;

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
    /// try again. See [`crate::LockRequest::owner`] for which deadlocks are found.
    #[error(
        "the wait for lock {lock:?} was given up to break a deadlock: {cycle}; release what is held, then try again"
    )]
    Deadlock {
        /// The lock that was waited for.
        lock: String,
        /// The circle, in words.
        cycle: String,
    },
    /// The name is in use as something else (a lock, a semaphore or a barrier of another size):
    /// choose another, or wait until it is free.
    #[error("{message}")]
    OtherUsage {
        /// As what, in words.
        message: String,
    },
    /// This owner holds another number of permits: release them first, or use another owner.
    #[error("{message}")]
    OtherPermits {
        /// Of what, in words.
        message: String,
    },
    /// This owner waits to upgrade it: take it again once that is answered.
    #[error("{message}")]
    UpgradePending {
        /// Which, in words.
        message: String,
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
