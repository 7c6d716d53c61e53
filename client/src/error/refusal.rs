//! What a server said, from a stream or from a status, in one form.
//!
//! Invariant: a status without Lockstep's error details is the transport's, not the service's.

use std::{collections::BTreeMap, error::Error as _, fmt, time::Duration};

use lockstep_proto::lock::v1::OperationError;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    AcquireError, DowngradeError, ProclaimError, ReleaseError, RenewError, UpgradeError,
    reason::{DOMAIN, Disposition, Reason},
};
use crate::session::Loss;

/// An error as the server gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerError {
    /// The gRPC status code.
    pub code: Code,
    /// The stable reason.
    pub reason: Reason,
    /// What happened, and what to do.
    pub message: String,
    /// Facts that belong to the reason.
    pub metadata: BTreeMap<String, String>,
    /// When to try again, where the server says.
    pub retry_after: Option<Duration>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason.as_str() {
            "" => write!(f, "{} ({})", self.message, self.code),
            reason => write!(f, "{} ({reason})", self.message),
        }
    }
}

impl std::error::Error for ServerError {}

impl ServerError {
    /// An answer that does not fit its question.
    pub(crate) fn protocol(message: impl Into<String>) -> Self {
        Self {
            code: Code::Internal,
            reason: Reason::Unknown(String::new()),
            message: message.into(),
            metadata: BTreeMap::new(),
            retry_after: None,
        }
    }

    pub(crate) fn from_operation(error: OperationError) -> Self {
        let retry_after = Duration::from_millis(error.retry_after_ms);
        Self {
            code: Code::from_i32(error.code),
            reason: Reason::parse(&error.reason),
            message: error.message,
            metadata: error.metadata.into_iter().collect(),
            retry_after: (!retry_after.is_zero()).then_some(retry_after),
        }
    }

    pub(crate) fn from_status(status: &Status) -> Self {
        let info = status
            .get_details_error_info()
            .filter(|info| info.domain == DOMAIN);
        let (reason, metadata) = match info {
            Some(info) => (
                Reason::parse(&info.reason),
                info.metadata.into_iter().collect(),
            ),
            None => (Reason::Unknown(String::new()), BTreeMap::new()),
        };
        Self {
            code: status.code(),
            reason,
            message: describe(status),
            metadata,
            retry_after: status
                .get_details_retry_info()
                .and_then(|info| info.retry_delay),
        }
    }

    /// Of a deadlock: the lock that was waited for, and the circle in words.
    fn circle(&self) -> (String, String) {
        let fact = |key| self.metadata.get(key).cloned();
        let cycle = fact("cycle").unwrap_or_else(|| self.message.clone());
        (fact("lock").unwrap_or_default(), cycle)
    }

    /// What the SDK does about it.
    pub(crate) fn disposition(&self) -> Disposition {
        if let Some(disposition) = self.reason.disposition() {
            return disposition;
        }
        let by_service = !self.reason.as_str().is_empty();
        match self.code {
            Code::Unavailable => Disposition::Retry,
            Code::ResourceExhausted if self.retry_after.is_some() => Disposition::Retry,
            // What transports and proxies answer when a node is away.
            Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
            | Code::Aborted
                if !by_service =>
            {
                Disposition::Retry
            }
            Code::Ok
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
            | Code::Aborted
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss
            | Code::Unauthenticated => Disposition::Final,
        }
    }
}

/// A status in words, with the cause that tonic keeps behind it.
fn describe(status: &Status) -> String {
    let mut cause = status.source();
    while let Some(deeper) = cause.and_then(|error| error.source()) {
        cause = Some(deeper);
    }
    match cause {
        Some(cause) if !status.message().contains(&cause.to_string()) => {
            format!("{}: {cause}", status.message())
        }
        Some(_) | None => status.message().to_owned(),
    }
}

/// Why an operation of a session has no result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Failure {
    /// The session is over.
    Lost(Loss),
    /// No answer came in time.
    NoAnswer { after: Duration },
    /// The server refused.
    Refused(ServerError),
}

impl Failure {
    /// True if it says that the lock is not held any longer.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self, Self::Refused(error) if error.reason == Reason::StaleToken)
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        Self::Refused(error)
    }
}

impl From<Failure> for AcquireError {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Lost(loss) => return Self::SessionLost(loss),
            Failure::NoAnswer { after } => return Self::NoAnswer { after },
            Failure::Refused(error) => error,
        };
        let message = error.message.clone();
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the others are told as they are"
        )]
        match error.reason {
            Reason::InvalidArgument => Self::InvalidArgument { message },
            Reason::LockUnavailable => Self::Unavailable { message },
            Reason::WaitTimeout => Self::WaitTimeout { message },
            Reason::Deadlock => {
                let (lock, cycle) = error.circle();
                Self::Deadlock { lock, cycle }
            }
            Reason::OtherUsage => Self::OtherUsage { message },
            Reason::OtherPermits => Self::OtherPermits { message },
            Reason::UpgradePending => Self::UpgradePending { message },
            Reason::UpgradeRequired => Self::UpgradeRequired { message },
            Reason::TooManyWaiters => Self::TooManyWaiters { message },
            Reason::TooManyHolds => Self::TooManyHolds { message },
            Reason::Cancelled => Self::Cancelled { message },
            _ => Self::Other(error),
        }
    }
}

impl From<Failure> for ReleaseError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost(loss) => Self::SessionLost(loss),
            Failure::NoAnswer { after } => Self::NoAnswer { after },
            Failure::Refused(error) if error.reason == Reason::StaleToken => Self::StaleToken {
                message: error.message,
            },
            Failure::Refused(error) => Self::Other(error),
        }
    }
}

impl From<Failure> for RenewError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost(loss) => Self::SessionLost(loss),
            Failure::NoAnswer { after } => Self::NoAnswer { after },
            Failure::Refused(error) if error.reason == Reason::StaleToken => Self::StaleToken {
                message: error.message,
            },
            Failure::Refused(error) => Self::Other(error),
        }
    }
}

impl From<Failure> for ProclaimError {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Lost(loss) => return Self::SessionLost(loss),
            Failure::NoAnswer { after } => return Self::NoAnswer { after },
            Failure::Refused(error) => error,
        };
        let message = error.message.clone();
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the others are told as they are"
        )]
        match error.reason {
            Reason::StaleToken => Self::StaleToken { message },
            Reason::InvalidArgument => Self::InvalidArgument { message },
            _ => Self::Other(error),
        }
    }
}

impl From<Failure> for UpgradeError {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Lost(loss) => return Self::SessionLost(loss),
            Failure::NoAnswer { after } => return Self::NoAnswer { after },
            Failure::Refused(error) => error,
        };
        let message = error.message.clone();
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the others are told as they are"
        )]
        match error.reason {
            Reason::StaleToken => Self::StaleToken { message },
            Reason::WrongMode => Self::WrongMode { message },
            Reason::HeldAgain => Self::HeldAgain { message },
            Reason::LockUnavailable => Self::Unavailable { message },
            Reason::WaitTimeout => Self::WaitTimeout { message },
            Reason::UpgradeDeadlock => Self::SecondUpgrade { message },
            Reason::Deadlock => {
                let (lock, cycle) = error.circle();
                Self::Deadlock { lock, cycle }
            }
            Reason::TooManyWaiters => Self::TooManyWaiters { message },
            Reason::Cancelled => Self::Cancelled { message },
            Reason::InvalidArgument => Self::InvalidArgument { message },
            _ => Self::Other(error),
        }
    }
}

impl From<Failure> for DowngradeError {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::Lost(loss) => return Self::SessionLost(loss),
            Failure::NoAnswer { after } => return Self::NoAnswer { after },
            Failure::Refused(error) => error,
        };
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the others are told as they are"
        )]
        match error.reason {
            Reason::StaleToken => Self::StaleToken {
                message: error.message,
            },
            Reason::WrongMode => Self::WrongMode {
                message: error.message,
            },
            Reason::HeldAgain => Self::HeldAgain {
                message: error.message,
            },
            _ => Self::Other(error),
        }
    }
}
