//! What a shard is told about sessions: by nodes, never by clients themselves.
//!
//! Invariant: each may be repeated, for it changes nothing the second time, or nothing that matters.

mod codec;

use super::{EndReason, Labels, Touch};
use crate::id::{Millis, Priority, SessionId, ShardId, Timestamp};

/// Shortest session TTL: below it, one lost packet ends a session.
pub const MIN_SESSION_TTL: Millis = Millis(1_000);
/// Longest session TTL: an hour, so that what a dead client held comes back within one.
pub const MAX_SESSION_TTL: Millis = Millis(3_600_000);
/// The TTL of a session that asked for none.
pub const DEFAULT_SESSION_TTL: Millis = Millis(10_000);

/// A change of the sessions that a shard knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionCommand {
    /// Home: a new session.
    Open {
        /// Chosen at random by the node that took the request.
        session: SessionId,
        /// Within [`MIN_SESSION_TTL`]..=[`MAX_SESSION_TTL`].
        ttl: Millis,
        /// For choosing a deadlock's victim.
        priority: Priority,
        /// Shown in listings.
        labels: Labels,
    },
    /// Home: a client has come back on a new stream: next epoch.
    Resume {
        /// Which.
        session: SessionId,
    },
    /// Home: the session is about to use another shard. Recorded before the shard hears of it, so
    /// that the session's end reaches every shard where it may hold something.
    TouchShard {
        /// Which.
        session: SessionId,
        /// The shard about to be used.
        shard: ShardId,
    },
    /// Home: what sessions that have been silent have left, so that elections never give endless life.
    Checkpoint {
        /// Session and remaining life.
        remaining: Vec<(SessionId, Millis)>,
    },
    /// Home: a keep-alive came from a session whose checkpoint says that it has less than its TTL: it has
    /// its whole TTL again.
    Revive {
        /// Which.
        session: SessionId,
    },
    /// Home: the session is to end, but its client may believe in its locks for as long as its lease
    /// lasts: from now on it is not kept alive, resumed, or let into another shard, and its leader ends it
    /// when its time is over.
    Revoke {
        /// Which.
        session: SessionId,
    },
    /// Home: the session is over. Its home part is released at once; the other shards follow.
    End {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// Home: a touched shard has released all that an ended session held there.
    ShardReleased {
        /// Which.
        session: SessionId,
        /// The shard that has answered.
        shard: ShardId,
    },
    /// Any shard: the session may be used here from now on. Refused at or below the shard's floor,
    /// because a delayed one must not revive a session that has ended since: see [`crate::kernel`].
    Attach {
        /// Which.
        session: SessionId,
        /// For choosing a deadlock's victim.
        priority: Priority,
        /// For choosing a deadlock's victim: when it was opened.
        opened: Timestamp,
        /// The touch that the home recorded for it.
        touch: Touch,
    },
    /// Any shard: the session is over: release all, drop its waits, remember its end for
    /// [`crate::kernel::TOMBSTONE_LIFE`].
    Detach {
        /// Which.
        session: SessionId,
        /// Why: told to those whose waits are dropped.
        reason: EndReason,
        /// The home's last touch when the session ended.
        touch: Touch,
    },
}

impl SessionCommand {
    /// True if the state may need more room afterwards: see [`crate::Command::grows`].
    #[must_use]
    pub const fn grows(&self) -> bool {
        match self {
            Self::Open { .. } | Self::TouchShard { .. } | Self::Attach { .. } => true,
            Self::Resume { .. }
            | Self::Checkpoint { .. }
            | Self::Revive { .. }
            | Self::Revoke { .. }
            | Self::End { .. }
            | Self::ShardReleased { .. }
            | Self::Detach { .. } => false,
        }
    }

    /// True if doing it twice is the same as doing it once.
    #[must_use]
    pub const fn repeatable(&self) -> bool {
        match self {
            Self::Open { .. }
            | Self::Resume { .. }
            | Self::TouchShard { .. }
            | Self::Checkpoint { .. }
            | Self::Revive { .. }
            | Self::Revoke { .. }
            | Self::End { .. }
            | Self::ShardReleased { .. }
            | Self::Attach { .. }
            | Self::Detach { .. } => true,
        }
    }

    /// The request that it may block; none of them is any.
    #[must_use]
    pub const fn waits(&self) -> Option<(SessionId, crate::id::Serial)> {
        match self {
            Self::Open { .. }
            | Self::Resume { .. }
            | Self::TouchShard { .. }
            | Self::Checkpoint { .. }
            | Self::Revive { .. }
            | Self::Revoke { .. }
            | Self::End { .. }
            | Self::ShardReleased { .. }
            | Self::Attach { .. }
            | Self::Detach { .. } => None,
        }
    }

    /// About how many bytes its parts of no fixed length are encoded in.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Open { labels, .. } => labels
                .iter()
                .map(|(key, value)| key.len() + value.len() + 8)
                .sum(),
            Self::Checkpoint { remaining } => remaining.len() * 16,
            Self::Resume { .. }
            | Self::TouchShard { .. }
            | Self::Revive { .. }
            | Self::Revoke { .. }
            | Self::End { .. }
            | Self::ShardReleased { .. }
            | Self::Attach { .. }
            | Self::Detach { .. } => 0,
        }
    }
}
