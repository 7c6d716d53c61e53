//! Deadlocks as JSON.
//!
//! Invariant: see the module above.

use lockstep_client::{Deadlock, Deadlocks, WaitFor};
use serde::Serialize;

use super::unix_ms;

/// `deadlocks`.
#[derive(Debug, Serialize)]
pub(crate) struct DeadlockList {
    /// How many there were, ever.
    pub(crate) count: u64,
    pub(crate) deadlocks: Vec<BrokenDeadlock>,
}

/// One of `deadlocks`.
#[derive(Debug, Serialize)]
pub(crate) struct BrokenDeadlock {
    pub(crate) at_ms: u64,
    pub(crate) victim_session: String,
    pub(crate) victim_owner: String,
    pub(crate) name: String,
    pub(crate) words: String,
    pub(crate) cycle: Vec<CycleWait>,
}

/// Who waits for whom.
#[derive(Debug, Serialize)]
pub(crate) struct CycleWait {
    pub(crate) session: String,
    pub(crate) owner: String,
    pub(crate) name: String,
    pub(crate) shard: u32,
    pub(crate) holder_session: String,
    pub(crate) holder_owner: String,
    pub(crate) token: u64,
}

impl From<&Deadlocks> for DeadlockList {
    fn from(deadlocks: &Deadlocks) -> Self {
        Self {
            count: deadlocks.count,
            deadlocks: deadlocks.last.iter().map(Into::into).collect(),
        }
    }
}

impl From<&Deadlock> for BrokenDeadlock {
    fn from(deadlock: &Deadlock) -> Self {
        Self {
            at_ms: unix_ms(deadlock.at),
            victim_session: deadlock.victim.to_string(),
            victim_owner: deadlock.victim_owner.clone(),
            name: deadlock.lock.clone(),
            words: deadlock.words.clone(),
            cycle: deadlock.cycle.iter().map(Into::into).collect(),
        }
    }
}

impl From<&WaitFor> for CycleWait {
    fn from(wait: &WaitFor) -> Self {
        Self {
            session: wait.session.to_string(),
            owner: wait.owner.clone(),
            name: wait.lock.clone(),
            shard: wait.shard.0,
            holder_session: wait.holder.to_string(),
            holder_owner: wait.holder_owner.clone(),
            token: wait.token.0,
        }
    }
}
