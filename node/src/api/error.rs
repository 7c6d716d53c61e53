//! Refusals as clients see them: gRPC code, stable reason, words.
//!
//! The same facts travel two ways: as a [`Status`] with `google.rpc.ErrorInfo` (domain
//! [`DOMAIN`]) from unary calls, and as [`pb::OperationError`] inside the session stream.
//! Invariant: reasons are stable; clients decide by them.

use std::{collections::HashMap, time::Duration};

use lockstep_model::{
    LockRefusal, MetaRefusal, Refusal, SessionId, SessionRefusal, session::EndReason,
};
use lockstep_proto::lock::v1 as pb;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::router::RouteError;

/// The domain of all reasons.
pub const DOMAIN: &str = "lockstep.dev";
/// When a client may come back after a bound was hit.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason.
    pub reason: &'static str,
    /// What happened and what to do.
    pub message: String,
    /// Facts.
    pub metadata: HashMap<String, String>,
    /// The request's field that is wrong, where one is.
    pub field: Option<String>,
    /// Whether to come back later.
    pub retry: bool,
}

impl Fault {
    /// A failure with its stable reason, and words that say what to do.
    pub fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            field: None,
            retry: false,
        }
    }

    /// Adds a fact.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    fn retriable(mut self) -> Self {
        self.retry = true;
        self
    }

    /// A field of the request is not right.
    #[must_use]
    pub fn invalid(field: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (field, remedy) = (field.into(), remedy.into());
        let mut fault = Self::new(
            Code::InvalidArgument,
            "INVALID_ARGUMENT",
            format!("{field}: {remedy}"),
        )
        .with("field", &field);
        fault.field = Some(field);
        fault
    }

    /// The request's bytes are no message of its kind. gRPC libraries call that an internal error,
    /// which is wrong: the caller can do something about it.
    #[must_use]
    pub fn undecodable(words: &str) -> Option<Self> {
        /// What tonic says of a message that prost cannot decode.
        const SIGN: &str = "failed to decode Protobuf message";
        words.contains(SIGN).then(|| {
            Self::new(
                Code::InvalidArgument,
                "INVALID_ARGUMENT",
                format!("{words}: encode the request by the .proto of this version"),
            )
        })
    }

    /// This node is not part of a cluster yet, or is stopping.
    #[must_use]
    pub fn unavailable(reason: &'static str, message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, reason, message).retriable()
    }

    /// A stream has too much unanswered.
    #[must_use]
    pub fn too_many_in_flight(limit: usize) -> Self {
        Self::new(
            Code::ResourceExhausted,
            "TOO_MANY_IN_FLIGHT",
            format!("{limit} operations are unanswered: read answers first"),
        )
        .retriable()
    }

    /// For the session stream.
    #[must_use]
    pub fn into_operation_error(self) -> pb::OperationError {
        let retry_after = if self.retry {
            RETRY_AFTER
        } else {
            Duration::ZERO
        };
        pb::OperationError {
            code: self.code.into(),
            reason: self.reason.to_owned(),
            message: self.message,
            metadata: self.metadata,
            retry_after_ms: u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        crate::metrics::get().refused(fault.reason);
        let mut details = ErrorDetails::new();
        details.set_error_info(fault.reason, DOMAIN, fault.metadata);
        if let Some(field) = fault.field {
            details.add_bad_request_violation(field, fault.message.clone());
        }
        if fault.retry {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Self::with_error_details(fault.code, fault.message, details)
    }
}

impl From<RouteError> for Fault {
    fn from(error: RouteError) -> Self {
        let words = error.to_string();
        match error {
            RouteError::NoLeader { shard } => Self::new(Code::Unavailable, "NO_LEADER", words)
                .with("shard", shard)
                .retriable(),
            RouteError::UnknownOutcome { shard } => {
                Self::new(Code::Unknown, "UNKNOWN_OUTCOME", words).with("shard", shard)
            }
            RouteError::Overloaded { shard } => {
                Self::new(Code::ResourceExhausted, "OVERLOADED", words)
                    .with("shard", shard)
                    .retriable()
            }
            RouteError::DiskLow { shard } => Self::new(Code::ResourceExhausted, "DISK_LOW", words)
                .with("shard", shard)
                .retriable(),
            RouteError::NoSession => Self::new(Code::NotFound, "SESSION_NOT_FOUND", words),
            RouteError::Incompatible { .. } => {
                Self::new(Code::Internal, "INCOMPATIBLE_VERSIONS", words)
            }
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Session(refusal) => refusal.into(),
            Refusal::Lock(refusal) => refusal.into(),
            Refusal::Meta(refusal) => refusal.into(),
            Refusal::Malformed { .. } | Refusal::WrongShard => {
                let words = refusal.to_string();
                Self::new(Code::Internal, "INCOMPATIBLE_VERSIONS", words)
            }
        }
    }
}

impl From<SessionRefusal> for Fault {
    fn from(refusal: SessionRefusal) -> Self {
        let words = refusal.to_string();
        match refusal {
            SessionRefusal::NotAttached { session }
            | SessionRefusal::AttachTooOld { session }
            | SessionRefusal::NoSession { session } => Self::no_session(session),
            SessionRefusal::SessionEnded { session, reason } => {
                Self::new(Code::NotFound, ended(reason), words).with("session", session)
            }
            SessionRefusal::SessionExists { session } => {
                Self::new(Code::AlreadyExists, "SESSION_EXISTS", words).with("session", session)
            }
            SessionRefusal::SerialForgotten { serial, .. } => {
                Self::failed("SERIAL_FORGOTTEN", words).with("serial", serial)
            }
            SessionRefusal::SerialReused { serial } => {
                Self::failed("SERIAL_REUSED", words).with("serial", serial)
            }
            SessionRefusal::TooManyInFlight { limit } => {
                Self::new(Code::ResourceExhausted, "TOO_MANY_IN_FLIGHT", words)
                    .with("limit", limit)
                    .retriable()
            }
            SessionRefusal::Abandoned { .. } => Self::new(Code::Cancelled, "CANCELLED", words),
        }
    }
}

impl From<LockRefusal> for Fault {
    fn from(refusal: LockRefusal) -> Self {
        let words = refusal.to_string();
        match refusal {
            LockRefusal::Unavailable { name } => {
                Self::failed("LOCK_UNAVAILABLE", words).with("lock", name)
            }
            LockRefusal::WaitTimedOut { name } => {
                Self::new(Code::DeadlineExceeded, "WAIT_TIMEOUT", words).with("lock", name)
            }
            LockRefusal::WaitCancelled { name } => {
                Self::new(Code::Cancelled, "CANCELLED", words).with("lock", name)
            }
            LockRefusal::NoSuchWait => Self::new(Code::NotFound, "NO_SUCH_WAIT", words),
            LockRefusal::TooManyWaiters { name, limit } => {
                Self::new(Code::ResourceExhausted, "TOO_MANY_WAITERS", words)
                    .with("lock", name)
                    .with("limit", limit)
                    .retriable()
            }
            LockRefusal::UpgradeDeadlock { name } => {
                Self::new(Code::Aborted, "UPGRADE_DEADLOCK", words).with("lock", name)
            }
            LockRefusal::Deadlock { name, cycle } => Self::new(Code::Aborted, "DEADLOCK", words)
                .with("lock", name)
                .with("cycle", cycle),
            LockRefusal::OtherUsage { name, present } => Self::failed("OTHER_USAGE", words)
                .with("lock", name)
                .with("present", present),
            LockRefusal::OtherPermits { name } => {
                Self::failed("OTHER_PERMITS", words).with("lock", name)
            }
            LockRefusal::UpgradeRequired { name } => {
                Self::failed("UPGRADE_REQUIRED", words).with("lock", name)
            }
            LockRefusal::StaleToken { name, token } => Self::failed("STALE_TOKEN", words)
                .with("lock", name)
                .with("token", token),
            LockRefusal::WrongMode { name, .. } => {
                Self::failed("WRONG_MODE", words).with("lock", name)
            }
            LockRefusal::HeldAgain { name, holds } => Self::failed("HELD_AGAIN", words)
                .with("lock", name)
                .with("holds", holds),
            LockRefusal::UpgradePending { name } => {
                Self::failed("UPGRADE_PENDING", words).with("lock", name)
            }
            LockRefusal::TooManyHolds { name, limit } => {
                Self::new(Code::ResourceExhausted, "TOO_MANY_HOLDS", words)
                    .with("lock", name)
                    .with("limit", limit)
            }
            LockRefusal::NotEmpty { shard } => {
                Self::failed("NOT_EMPTY", words).with("shard", shard)
            }
        }
    }
}

impl From<MetaRefusal> for Fault {
    fn from(refusal: MetaRefusal) -> Self {
        let words = refusal.to_string();
        match refusal {
            MetaRefusal::NoSuchNode { node } => {
                Self::new(Code::NotFound, "NODE_NOT_FOUND", words).with("node", node)
            }
            MetaRefusal::OtherRevision { actual, .. } => {
                Self::failed("OTHER_REVISION", words).with("revision", actual)
            }
            MetaRefusal::TooManyNodes { limit } => {
                Self::new(Code::ResourceExhausted, "TOO_MANY_NODES", words).with("limit", limit)
            }
            MetaRefusal::TooFewNodes { node, .. } => {
                Self::failed("TOO_FEW_NODES", words).with("node", node)
            }
            MetaRefusal::NoMajorityWithout { node, shard } => {
                Self::failed("NO_MAJORITY_WITHOUT", words)
                    .with("node", node)
                    .with("shard", shard)
            }
            MetaRefusal::NodeNotEmpty { node, replicas } => Self::failed("NODE_NOT_EMPTY", words)
                .with("node", node)
                .with("replicas", replicas),
            MetaRefusal::NodeActive { node } => {
                Self::failed("NODE_ACTIVE", words).with("node", node)
            }
            MetaRefusal::NodeReplaced { node, by } => Self::failed("NODE_REPLACED", words)
                .with("node", node)
                .with("by", by),
        }
    }
}

const fn ended(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Closed => "SESSION_CLOSED",
        EndReason::Expired => "SESSION_EXPIRED",
    }
}

impl Fault {
    fn no_session(session: SessionId) -> Self {
        let words = Refusal::Session(SessionRefusal::NoSession { session }).to_string();
        Self::new(Code::NotFound, "SESSION_NOT_FOUND", words).with("session", session)
    }

    /// What the state of things does not allow.
    fn failed(reason: &'static str, words: String) -> Self {
        Self::new(Code::FailedPrecondition, reason, words)
    }
}
