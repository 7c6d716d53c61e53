//! Refusals as clients see them: gRPC code, stable reason, words.
//!
//! The same facts travel two ways: as a [`Status`] with `google.rpc.ErrorInfo` (domain
//! [`DOMAIN`]) from unary calls, and as [`pb::OperationError`] inside the session stream.
//! Invariant: reasons are stable; clients decide by them.

use std::{collections::HashMap, time::Duration};

use lockstep_model::{Refusal, SessionId, command::EndReason};
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
            RouteError::NoSession => Self::new(Code::NotFound, "SESSION_NOT_FOUND", words),
            RouteError::Incompatible { .. } => {
                Self::new(Code::Internal, "INCOMPATIBLE_VERSIONS", words)
            }
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        let words = refusal.to_string();
        let failed = |reason| Self::new(Code::FailedPrecondition, reason, words.clone());
        match refusal {
            Refusal::NotAttached { session }
            | Refusal::AttachTooOld { session }
            | Refusal::NoSession { session } => Self::no_session(session),
            Refusal::SessionEnded { session, reason } => {
                Self::new(Code::NotFound, ended(reason), words).with("session", session)
            }
            Refusal::SessionExists { session } => {
                Self::new(Code::AlreadyExists, "SESSION_EXISTS", words).with("session", session)
            }
            Refusal::SerialForgotten { serial, .. } => {
                failed("SERIAL_FORGOTTEN").with("serial", serial)
            }
            Refusal::SerialReused { serial } => failed("SERIAL_REUSED").with("serial", serial),
            Refusal::TooManyInFlight { limit } => {
                Self::new(Code::ResourceExhausted, "TOO_MANY_IN_FLIGHT", words)
                    .with("limit", limit)
                    .retriable()
            }
            Refusal::Unavailable { name } => failed("LOCK_UNAVAILABLE").with("lock", name),
            Refusal::WaitTimedOut { name } => {
                Self::new(Code::DeadlineExceeded, "WAIT_TIMEOUT", words).with("lock", name)
            }
            Refusal::WaitCancelled { name } => {
                Self::new(Code::Cancelled, "CANCELLED", words).with("lock", name)
            }
            Refusal::Abandoned { .. } => Self::new(Code::Cancelled, "CANCELLED", words),
            Refusal::NoSuchWait => Self::new(Code::NotFound, "NO_SUCH_WAIT", words),
            Refusal::TooManyWaiters { name, limit } => {
                Self::new(Code::ResourceExhausted, "TOO_MANY_WAITERS", words)
                    .with("lock", name)
                    .with("limit", limit)
                    .retriable()
            }
            Refusal::UpgradeDeadlock { name } => {
                Self::new(Code::Aborted, "UPGRADE_DEADLOCK", words).with("lock", name)
            }
            Refusal::Deadlock { name, cycle } => Self::new(Code::Aborted, "DEADLOCK", words)
                .with("lock", name)
                .with("cycle", cycle),
            Refusal::OtherUsage { .. }
            | Refusal::OtherPermits { .. }
            | Refusal::UpgradeRequired { .. }
            | Refusal::StaleToken { .. }
            | Refusal::WrongMode { .. }
            | Refusal::HeldAgain { .. }
            | Refusal::UpgradePending { .. }
            | Refusal::TooManyHolds { .. } => Self::about_holds(refusal),
            Refusal::Malformed { .. } | Refusal::WrongShard => {
                Self::new(Code::Internal, "INCOMPATIBLE_VERSIONS", words)
            }
            Refusal::NotEmpty { shard } => failed("NOT_EMPTY").with("shard", shard),
            Refusal::NoSuchNode { .. }
            | Refusal::OtherRevision { .. }
            | Refusal::TooManyNodes { .. }
            | Refusal::TooFewNodes { .. }
            | Refusal::NoMajorityWithout { .. }
            | Refusal::NodeNotEmpty { .. }
            | Refusal::NodeActive { .. }
            | Refusal::NodeReplaced { .. } => Self::about_nodes(refusal),
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
        let words = Refusal::NoSession { session }.to_string();
        Self::new(Code::NotFound, "SESSION_NOT_FOUND", words).with("session", session)
    }

    /// What is wrong with how a lock is used or held.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the first half of the match tells them apart"
    )]
    fn about_holds(refusal: Refusal) -> Self {
        let words = refusal.to_string();
        let failed = |reason| Self::new(Code::FailedPrecondition, reason, words.clone());
        match refusal {
            Refusal::OtherUsage { name, present } => failed("OTHER_USAGE")
                .with("lock", name)
                .with("present", present),
            Refusal::OtherPermits { name } => failed("OTHER_PERMITS").with("lock", name),
            Refusal::UpgradeRequired { name } => failed("UPGRADE_REQUIRED").with("lock", name),
            Refusal::StaleToken { name, token } => failed("STALE_TOKEN")
                .with("lock", name)
                .with("token", token),
            Refusal::WrongMode { name, .. } => failed("WRONG_MODE").with("lock", name),
            Refusal::HeldAgain { name, holds } => {
                failed("HELD_AGAIN").with("lock", name).with("holds", holds)
            }
            Refusal::UpgradePending { name } => failed("UPGRADE_PENDING").with("lock", name),
            Refusal::TooManyHolds { name, limit } => {
                Self::new(Code::ResourceExhausted, "TOO_MANY_HOLDS", words)
                    .with("lock", name)
                    .with("limit", limit)
            }
            other => Self::new(Code::Internal, "INCOMPATIBLE_VERSIONS", other.to_string()),
        }
    }

    /// What the meta shard refuses.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the first half of the match tells them apart"
    )]
    fn about_nodes(refusal: Refusal) -> Self {
        let words = refusal.to_string();
        let failed = |reason| Self::new(Code::FailedPrecondition, reason, words.clone());
        match refusal {
            Refusal::NoSuchNode { node } => {
                Self::new(Code::NotFound, "NODE_NOT_FOUND", words).with("node", node)
            }
            Refusal::OtherRevision { actual, .. } => {
                failed("OTHER_REVISION").with("revision", actual)
            }
            Refusal::TooManyNodes { limit } => {
                Self::new(Code::ResourceExhausted, "TOO_MANY_NODES", words).with("limit", limit)
            }
            Refusal::TooFewNodes { node, .. } => failed("TOO_FEW_NODES").with("node", node),
            Refusal::NoMajorityWithout { node, shard } => failed("NO_MAJORITY_WITHOUT")
                .with("node", node)
                .with("shard", shard),
            Refusal::NodeNotEmpty { node, replicas } => failed("NODE_NOT_EMPTY")
                .with("node", node)
                .with("replicas", replicas),
            Refusal::NodeActive { node } => failed("NODE_ACTIVE").with("node", node),
            Refusal::NodeReplaced { node, by } => {
                failed("NODE_REPLACED").with("node", node).with("by", by)
            }
            other => Self::new(Code::Internal, "INCOMPATIBLE_VERSIONS", other.to_string()),
        }
    }
}
