//! What can go wrong with what is held.
//!
//! Invariant: a variant says what is held afterwards, where its operation could have changed that.

use std::time::Duration;

use super::ServerError;
use crate::session::Loss;

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

/// Why a leader's value was not changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProclaimError {
    /// The session is over, and the lead was given up with it.
    #[error("the session is lost, and the lead with it: {0}")]
    SessionLost(Loss),
    /// It does not lead under this token any longer. Nothing was changed.
    #[error("{message}")]
    StaleToken {
        /// Which, in words.
        message: String,
    },
    /// The value is too long.
    #[error("{message}")]
    InvalidArgument {
        /// The bound, in words.
        message: String,
    },
    /// No answer came in time. It goes on in the background; the next proclamation waits for how it
    /// ended.
    #[error("no answer within {after:?}: the proclamation goes on in the background")]
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
    /// This owner holds it more than once, and its other guards would not learn of the change:
    /// release the others first.
    #[error("{message}")]
    HeldAgain {
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
    /// Another holder waits to upgrade, and each would wait for the other: release, then acquire
    /// exclusively.
    #[error("{message}")]
    SecondUpgrade {
        /// Which, in words.
        message: String,
    },
    /// The wait was part of a deadlock and was chosen to be given up: release what is held, this
    /// lock included, then acquire it exclusively.
    #[error(
        "the upgrade of lock {lock:?} was given up to break a deadlock: {cycle}; release what is held, then acquire exclusively"
    )]
    Deadlock {
        /// The lock.
        lock: String,
        /// The circle, in words.
        cycle: String,
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
    /// This owner holds it more than once, and its other guards would not learn of the change:
    /// release the others first.
    #[error("{message}")]
    HeldAgain {
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
