//! Deadlocks that the cluster has broken, as it shows them.
//!
//! Invariant: as in [`crate::LockInfo`], nothing is made up.

use std::time::SystemTime;

use lockstep_model::id::{FencingToken, SessionId, ShardId};
use lockstep_proto::lock::v1 as wire;

use crate::view::time;

/// The last deadlocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlocks {
    /// How many there were, ever.
    pub count: u64,
    /// At most 100, the newest first.
    pub last: Vec<Deadlock>,
}

/// A circle of waits that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadlock {
    /// When, by the cluster's clock.
    pub at: SystemTime,
    /// Whose wait was given up: of the lowest priority, then the youngest session.
    pub victim: SessionId,
    /// Which of the session's owners.
    pub victim_owner: String,
    /// The lock that it waited for.
    pub lock: String,
    /// The circle, in words.
    pub words: String,
    /// The circle: each one's holder waits next.
    pub cycle: Vec<WaitFor>,
}

/// A part of a circle: somebody waits for a lock that somebody else holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitFor {
    /// Who waits.
    pub session: SessionId,
    /// Which of the session's owners.
    pub owner: String,
    /// For which lock.
    pub lock: String,
    /// The lock's shard.
    pub shard: ShardId,
    /// Who holds it.
    pub holder: SessionId,
    /// Which of that session's owners.
    pub holder_owner: String,
    /// Under which token.
    pub token: FencingToken,
}

impl From<wire::ListDeadlocksResponse> for Deadlocks {
    fn from(response: wire::ListDeadlocksResponse) -> Self {
        Self {
            count: response.count,
            last: response.deadlocks.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<wire::Deadlock> for Deadlock {
    fn from(deadlock: wire::Deadlock) -> Self {
        Self {
            at: time(deadlock.at_ms),
            victim: SessionId(deadlock.victim_session_id),
            victim_owner: deadlock.victim_owner,
            lock: deadlock.name,
            words: deadlock.words,
            cycle: deadlock.cycle.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<wire::WaitFor> for WaitFor {
    fn from(wait: wire::WaitFor) -> Self {
        Self {
            session: SessionId(wait.session_id),
            owner: wait.owner,
            lock: wait.name,
            shard: ShardId(wait.shard),
            holder: SessionId(wait.holder_session_id),
            holder_owner: wait.holder_owner,
            token: FencingToken(wait.token),
        }
    }
}
