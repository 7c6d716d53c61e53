//! The stable reasons of Lockstep's errors.
//!
//! Invariant: a reason alone decides what the SDK does: repeat, go elsewhere, give the session up,
//! or tell the caller.

/// The domain of `google.rpc.ErrorInfo` in Lockstep's errors.
pub(crate) const DOMAIN: &str = "lockstep.dev";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// Why the server refused: stable, machine-readable.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// One that this version does not know; empty where the server gave none.
            Unknown(String),
        }

        impl Reason {
            /// Reads a reason.
            #[must_use]
            pub fn parse(text: &str) -> Self {
                match text {
                    $($text => Self::$name,)*
                    _ => Self::Unknown(text.to_owned()),
                }
            }

            /// The reason as the server writes it.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Unknown(text) => text,
                }
            }
        }
    };
}

reasons! {
    /// No such session: ended long ago, or never opened.
    SessionNotFound = "SESSION_NOT_FOUND",
    /// No keep-alive reached the cluster within the TTL.
    SessionExpired = "SESSION_EXPIRED",
    /// It was closed.
    SessionClosed = "SESSION_CLOSED",
    /// A serial was used for two operations.
    SerialReused = "SERIAL_REUSED",
    /// A serial was used that was acknowledged before.
    SerialForgotten = "SERIAL_FORGOTTEN",
    /// Too many answers are kept for the session.
    TooManyInFlight = "TOO_MANY_IN_FLIGHT",
    /// The lock is held, and the request would not wait.
    LockUnavailable = "LOCK_UNAVAILABLE",
    /// The wait's time is over.
    WaitTimeout = "WAIT_TIMEOUT",
    /// The wait was given up by its client.
    Cancelled = "CANCELLED",
    /// There is nothing to cancel.
    NoSuchWait = "NO_SUCH_WAIT",
    /// The lock's queue is full.
    TooManyWaiters = "TOO_MANY_WAITERS",
    /// Two holders want to upgrade.
    UpgradeDeadlock = "UPGRADE_DEADLOCK",
    /// The wait was part of a circle, and was given up to break it.
    Deadlock = "DEADLOCK",
    /// The name is in use as something else.
    OtherUsage = "OTHER_USAGE",
    /// The owner holds another number of permits.
    OtherPermits = "OTHER_PERMITS",
    /// The changes after a watch's position are not known any more.
    WatchCompacted = "WATCH_COMPACTED",
    /// The owner holds it shared and asked for it exclusively.
    UpgradeRequired = "UPGRADE_REQUIRED",
    /// The token is not that of a current hold.
    StaleToken = "STALE_TOKEN",
    /// The hold has the other mode.
    WrongMode = "WRONG_MODE",
    /// The hold was taken more than once, and is not converted.
    HeldAgain = "HELD_AGAIN",
    /// The owner waits to upgrade its hold, and asked for it once more.
    UpgradePending = "UPGRADE_PENDING",
    /// The owner holds the lock too often.
    TooManyHolds = "TOO_MANY_HOLDS",
    /// A field is outside its bounds.
    InvalidArgument = "INVALID_ARGUMENT",
    /// The shard has no leader at present.
    NoLeader = "NO_LEADER",
    /// Whether the operation took place is not known; the same serial may be repeated.
    UnknownOutcome = "UNKNOWN_OUTCOME",
    /// The node is not part of a cluster yet.
    NotInCluster = "NOT_IN_CLUSTER",
    /// A session of that id is open already.
    SessionExists = "SESSION_EXISTS",
    /// The node is not known to the cluster.
    NodeNotFound = "NODE_NOT_FOUND",
    /// The node does not answer.
    NodeUnreachable = "NODE_UNREACHABLE",
    /// The cluster's tables have changed since the caller looked.
    OtherRevision = "OTHER_REVISION",
    /// The cluster has as many nodes as it can have.
    TooManyNodes = "TOO_MANY_NODES",
    /// Fewer nodes would be left than a shard needs.
    TooFewNodes = "TOO_FEW_NODES",
    /// A shard would keep no majority.
    NoMajorityWithout = "NO_MAJORITY_WITHOUT",
    /// The node still holds replicas.
    NodeNotEmpty = "NODE_NOT_EMPTY",
    /// The node is active, and was not drained.
    NodeActive = "NODE_ACTIVE",
    /// Another node has taken the node's name.
    NodeReplaced = "NODE_REPLACED",
    /// The cluster that is to go on from a backup is in use.
    NotEmpty = "NOT_EMPTY",
    /// The node is at one of its bounds.
    Overloaded = "OVERLOADED",
    /// The disk of the shard's leader is nearly full, and the request needs room.
    DiskLow = "DISK_LOW",
    /// The node is stopping.
    ShuttingDown = "SHUTTING_DOWN",
    /// Two versions do not understand each other.
    IncompatibleVersions = "INCOMPATIBLE_VERSIONS",
}

/// What the SDK does about a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// Repeat it, the same, after a pause.
    Retry,
    /// The session is over.
    SessionOver,
    /// It is the answer.
    Final,
}

impl Reason {
    /// What to do; none if the reason does not decide it, and the status code must.
    pub(crate) fn disposition(&self) -> Option<Disposition> {
        Some(match self {
            Self::SessionNotFound | Self::SessionExpired | Self::SessionClosed => {
                Disposition::SessionOver
            }
            Self::TooManyInFlight
            | Self::NoLeader
            | Self::NotInCluster
            | Self::UnknownOutcome
            | Self::Overloaded
            | Self::DiskLow
            | Self::ShuttingDown => Disposition::Retry,
            Self::SerialReused
            | Self::SerialForgotten
            | Self::LockUnavailable
            | Self::WaitTimeout
            | Self::Cancelled
            | Self::NoSuchWait
            | Self::TooManyWaiters
            | Self::UpgradeDeadlock
            | Self::Deadlock
            | Self::OtherUsage
            | Self::OtherPermits
            | Self::WatchCompacted
            | Self::UpgradeRequired
            | Self::StaleToken
            | Self::WrongMode
            | Self::HeldAgain
            | Self::UpgradePending
            | Self::TooManyHolds
            | Self::SessionExists
            | Self::NodeNotFound
            | Self::NodeUnreachable
            | Self::OtherRevision
            | Self::TooManyNodes
            | Self::TooFewNodes
            | Self::NoMajorityWithout
            | Self::NodeNotEmpty
            | Self::NodeActive
            | Self::NodeReplaced
            | Self::NotEmpty
            | Self::InvalidArgument
            | Self::IncompatibleVersions => Disposition::Final,
            Self::Unknown(_) => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_as_they_are_written() {
        for text in ["NO_LEADER", "UPGRADE_DEADLOCK", "SOMETHING_NEW", ""] {
            assert_eq!(Reason::parse(text).as_str(), text);
        }
        assert_eq!(Reason::parse("DEADLOCK"), Reason::Deadlock);
    }
}
