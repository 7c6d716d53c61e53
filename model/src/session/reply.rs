//! What a shard answers about sessions.
//!
//! Invariant: every refusal changed nothing but the de-duplication record.

use super::{EndReason, Touch};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, tagged},
    id::{Millis, Priority, SessionEpoch, SessionId, Timestamp},
};

/// The answer to a command about a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionReply {
    /// The session is open (again).
    Opened {
        /// Which.
        session: SessionId,
        /// Its TTL.
        ttl: Millis,
        /// Its epoch.
        epoch: SessionEpoch,
    },
    /// The touch is recorded; the session may be attached.
    Touched {
        /// For the attach.
        touch: Touch,
        /// The session's priority, for the attach.
        priority: Priority,
        /// When it was opened, for the attach.
        opened: Timestamp,
    },
    /// The session gets no more time.
    Revoked {
        /// How long it lasts at most: its TTL.
        lease: Millis,
    },
}

/// Why an operation was not done: its session, or its serial. Each says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefusal {
    /// The shard does not know the session: touch it at its home and attach it, then repeat. Never
    /// reaches clients.
    #[error("session {session} is not attached to this shard")]
    NotAttached {
        /// Which.
        session: SessionId,
    },
    /// The shard has forgotten an end that the home recorded after this touch, perhaps that of this
    /// session: touch again. Never reaches clients.
    #[error("the attach of session {session} is of an old touch: touch again")]
    AttachTooOld {
        /// Which.
        session: SessionId,
    },
    /// There is no such session.
    #[error("session {session} does not exist: it has ended, or was never opened; open another")]
    NoSession {
        /// Which.
        session: SessionId,
    },
    /// The session has ended.
    #[error("session {session} has ended ({reason:?}); what it held is released: open another")]
    SessionEnded {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// A session of this id is open already.
    #[error("session {session} exists already: choose another id")]
    SessionExists {
        /// Which.
        session: SessionId,
    },
    /// The answer of this serial was acknowledged and forgotten.
    #[error(
        "the client has acknowledged the answer of serial {serial}, as those of all below {acked_below}: use a serial once"
    )]
    SerialForgotten {
        /// Which.
        serial: u64,
        /// All below are acknowledged too.
        acked_below: u64,
    },
    /// The serial was used by another kind of operation or with other arguments.
    #[error("serial {serial} was used for a different operation: use a new serial for each")]
    SerialReused {
        /// Which.
        serial: u64,
    },
    /// Too many answers are kept for the session.
    #[error(
        "session has {limit} unacknowledged operations: read answers, then acknowledge them by acked_below and acked"
    )]
    TooManyInFlight {
        /// The bound.
        limit: usize,
    },
    /// The acquisition was given up by its client, or by the node that had taken it.
    #[error("the acquisition of serial {serial} was given up: nothing of it is held")]
    Abandoned {
        /// Which.
        serial: u64,
    },
}

tagged!(SessionReply, "session reply", {
    1 => Opened { session, ttl, epoch },
    2 => Touched { touch, priority, opened },
    3 => Revoked { lease },
});

tagged!(SessionRefusal, "session refusal", {
    1 => NotAttached { session },
    2 => AttachTooOld { session },
    3 => NoSession { session },
    4 => SessionEnded { session, reason },
    5 => SessionExists { session },
    6 => SerialForgotten { serial, acked_below },
    7 => SerialReused { serial },
    8 => TooManyInFlight { limit },
    9 => Abandoned { serial },
});
