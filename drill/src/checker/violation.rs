//! What can be wrong with a history, each with the operations that show it.

use std::fmt;

use serde::Serialize;

use super::Hold;
use crate::history::{ClientId, LockId, Moment, Operation, Session, Token};

/// An operation that shows a violation, as far as a reader needs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Witness(pub Operation);

impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation {
            client,
            session,
            lock: _,
            invoked,
            returned,
            action,
        } = &self.0;
        let session = format_args!("session {:016x}", session.0);
        write!(
            f,
            "client {} ({session}) {action:?} [{invoked} .. {returned}]",
            client.0
        )
    }
}

/// Something that the locks promise never to happen, and that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub enum Violation {
    /// Two conflicting holds at one time.
    #[error("lock {}: two holds exclude each other, yet both were held at {at}:\n  {first}\n  {second}", lock.0)]
    Overlap {
        /// Which lock.
        lock: LockId,
        /// A moment at which both were held.
        at: Moment,
        /// The one that was granted first.
        first: Hold,
        /// The other.
        second: Hold,
    },
    /// A later grant has a lower token than an earlier one.
    #[error("lock {}: a later grant has no higher token:\n  {earlier}\n  {later}", lock.0)]
    TokenWentBack {
        /// Which lock.
        lock: LockId,
        /// The one that was certainly granted first.
        earlier: Hold,
        /// The other.
        later: Hold,
    },
    /// A grant has no higher token than one of an earlier round.
    #[error("lock {}: token {} was reached before this grant was asked for:\n  {later}", lock.0, floor.0)]
    TokenBelowFloor {
        /// Which lock.
        lock: LockId,
        /// The highest token before.
        floor: Token,
        /// The grant.
        later: Hold,
    },
    /// Two grants have one token.
    #[error("lock {}: two grants have one token:\n  {first}\n  {second}", lock.0)]
    TokenReused {
        /// Which lock.
        lock: LockId,
        /// One.
        first: Hold,
        /// The other.
        second: Hold,
    },
    /// Someone was served before one who had waited longer.
    #[error("lock {}: a waiter was overtaken:\n  waiting {waiting}\n  served  {served}", lock.0)]
    Overtaken {
        /// Which lock.
        lock: LockId,
        /// Who had been in the queue.
        waiting: Witness,
        /// Who came later and was served first.
        served: Witness,
    },
    /// A hold that nobody gave back was gone.
    #[error("lock {}: an acknowledged grant was undone:\n  {hold}\n  {seen}", lock.0)]
    GrantUndone {
        /// Which lock.
        lock: LockId,
        /// What was granted.
        hold: Hold,
        /// What shows that it was gone.
        seen: Witness,
    },
    /// A hold that was given back was there again.
    #[error("lock {}: an acknowledged release was undone:\n  {hold}\n  {seen}", lock.0)]
    ReleaseUndone {
        /// Which lock.
        lock: LockId,
        /// What had been released.
        hold: Hold,
        /// What shows that it was held.
        seen: Witness,
    },
    /// The guarded resource had served a later holder while this one still held the lock.
    #[error("lock {}: the guarded resource refused a holder:\n  {hold}\n  {access}", lock.0)]
    HolderRefused {
        /// Which lock.
        lock: LockId,
        /// What was held.
        hold: Hold,
        /// The access.
        access: Witness,
    },
    /// A session was lost in a run in which none should be.
    #[error("session {:016x} of client {} was lost at {at}", session.0, client.0)]
    SessionLost {
        /// Whose.
        client: ClientId,
        /// Which.
        session: Session,
        /// When its client learned of it.
        at: Moment,
    },
    /// An operation was never answered.
    #[error("lock {}: an operation was never answered:\n  {operation}", lock.0)]
    Forgotten {
        /// Which lock.
        lock: LockId,
        /// The operation.
        operation: Witness,
    },
    /// After every session had been closed something was still held or waited for.
    #[error("lock {name:?} is still held or waited for after every session was closed: {left}")]
    LeftOver {
        /// The lock's name.
        name: String,
        /// Who holds and waits.
        left: String,
    },
    /// Something that the cluster as a whole promises did not come true in time.
    #[error("the cluster broke a promise: {what}")]
    Unmet {
        /// What should have been, and what was seen instead.
        what: String,
    },
}

impl Violation {
    /// The lock that it is about, where it is about one of the history.
    #[must_use]
    pub const fn lock(&self) -> Option<LockId> {
        match self {
            Self::Overlap { lock, .. }
            | Self::TokenWentBack { lock, .. }
            | Self::TokenBelowFloor { lock, .. }
            | Self::TokenReused { lock, .. }
            | Self::Overtaken { lock, .. }
            | Self::GrantUndone { lock, .. }
            | Self::ReleaseUndone { lock, .. }
            | Self::HolderRefused { lock, .. }
            | Self::Forgotten { lock, .. } => Some(*lock),
            Self::SessionLost { .. } | Self::LeftOver { .. } | Self::Unmet { .. } => None,
        }
    }
}
