//! Exit codes, after BSD's `sysexits.h` where it has one, and `env`'s for commands that cannot run.
//!
//! Invariant: a code means one thing, and `--help` lists it.

use lockstep_client::{AcquireError, ConnectError, RequestError};

/// It was done.
pub(crate) const OK: u8 = 0;
/// Anything else went wrong.
pub(crate) const FAILED: u8 = 1;
/// The command line, or a name in it, is wrong.
pub(crate) const USAGE: u8 = 64;
/// The cluster does not answer.
pub(crate) const UNREACHABLE: u8 = 69;
/// The lock was not obtained: it was not free, or the wait for it was given up to break a deadlock.
pub(crate) const NOT_OBTAINED: u8 = 73;
/// The lock was lost while the command ran, and the command was ended.
pub(crate) const LOCK_LOST: u8 = 74;
/// The command was found but could not be started.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The command was not found.
pub(crate) const NOT_FOUND: u8 = 127;
/// Added to the number of a signal that ended the command or this program.
pub(crate) const SIGNAL_BASE: u8 = 128;

/// The codes, for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0        done
  1        refused or failed; the message says why; `lock validate`: the token is stale
  64       the command line is wrong
  69       the cluster cannot be reached
  73       `run` and `wait`: not obtained (--try, --timeout, deadlock, full queue)
  74       `run`: what was held was lost while the command ran; the command was ended
  126      `run`: the command cannot be started
  127      `run`: the command was not found
  128+N    ended by signal N
  other    `run`: the command's own

`run` is `lock run`, `semaphore run` and `elect run`; `wait` is `barrier wait`.";

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The cluster does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// The lock was not obtained.
    #[error("{0}")]
    NotObtained(String),
    /// The lock was lost.
    #[error("{0}")]
    LockLost(String),
    /// The command cannot be started.
    #[error("cannot start {program:?}: {error}")]
    CannotStart {
        /// Which.
        program: String,
        /// Why.
        error: std::io::Error,
    },
    /// A signal ended the wait.
    #[error("interrupted")]
    Interrupted {
        /// Which.
        signal: u8,
    },
    /// Nobody reads the output any longer; that is no error.
    #[error("the output is closed")]
    OutputClosed,
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Unreachable(_) => UNREACHABLE,
            Self::NotObtained(_) => NOT_OBTAINED,
            Self::LockLost(_) => LOCK_LOST,
            Self::CannotStart { error, .. } if error.kind() == std::io::ErrorKind::NotFound => {
                NOT_FOUND
            }
            Self::CannotStart { .. } => NOT_EXECUTABLE,
            Self::Interrupted { signal } => SIGNAL_BASE.saturating_add(*signal),
            Self::OutputClosed => OK,
            Self::Other(_) => FAILED,
        }
    }

    /// What to tell, if anything.
    pub(crate) fn words(&self) -> Option<String> {
        match self {
            Self::OutputClosed => None,
            Self::Usage(_)
            | Self::Unreachable(_)
            | Self::NotObtained(_)
            | Self::LockLost(_)
            | Self::CannotStart { .. }
            | Self::Interrupted { .. }
            | Self::Other(_) => Some(self.to_string()),
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::NoEndpoints | ConnectError::Endpoint(_) => Self::Usage(format!(
                "{error} (--endpoints, or LOCKSTEP_ENDPOINTS in the environment)"
            )),
            ConnectError::Unreachable { .. } => Self::Unreachable(format!(
                "{error} (--endpoints, or LOCKSTEP_ENDPOINTS in the environment)"
            )),
        }
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Unreachable { .. } => Self::Unreachable(error.to_string()),
            RequestError::InvalidName(_) => Self::Usage(error.to_string()),
            RequestError::Refused(_) | RequestError::Backup(_) => Self::Other(error.to_string()),
        }
    }
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Self {
        let words = error.to_string();
        match error {
            AcquireError::SessionLost(_) | AcquireError::NoAnswer { .. } => {
                Self::Unreachable(words)
            }
            AcquireError::InvalidName(_) | AcquireError::InvalidArgument { .. } => {
                Self::Usage(words)
            }
            AcquireError::Unavailable { .. }
            | AcquireError::WaitTimeout { .. }
            | AcquireError::Deadlock { .. }
            | AcquireError::TooManyWaiters { .. }
            | AcquireError::Cancelled { .. } => Self::NotObtained(words),
            AcquireError::UpgradeRequired { .. }
            | AcquireError::OtherUsage { .. }
            | AcquireError::OtherPermits { .. }
            | AcquireError::UpgradePending { .. }
            | AcquireError::TooManyHolds { .. }
            | AcquireError::Other(_) => Self::Other(words),
        }
    }
}
