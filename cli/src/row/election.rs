//! Elections as JSON.
//!
//! Invariant: see the module above.

use lockstep_client::{Leader, LockInfo, Mode};
use serde::Serialize;

use super::{
    lock::{LockWaiter, Value},
    unix_ms,
};

/// `elect show`.
#[derive(Debug, Serialize)]
pub(crate) struct Election {
    pub(crate) name: String,
    pub(crate) leader: Option<PresentLeader>,
    pub(crate) candidates: Vec<LockWaiter>,
    pub(crate) candidate_count: u32,
}

/// Who leads, and since when.
#[derive(Debug, Serialize)]
pub(crate) struct PresentLeader {
    #[serde(flatten)]
    pub(crate) leader: ElectionLeader,
    pub(crate) since_ms: u64,
}

/// One line of `elect observe`.
#[derive(Debug, Serialize)]
pub(crate) struct Leads {
    pub(crate) name: String,
    pub(crate) leader: Option<ElectionLeader>,
}

/// Who leads.
#[derive(Debug, Serialize)]
pub(crate) struct ElectionLeader {
    pub(crate) session: String,
    pub(crate) owner: String,
    pub(crate) token: u64,
    #[serde(flatten)]
    pub(crate) value: Value,
}

impl From<&LockInfo> for Election {
    fn from(lock: &LockInfo) -> Self {
        let leader = lock
            .holders
            .iter()
            .find(|holder| holder.mode == Some(Mode::Exclusive));
        Self {
            name: lock.name.clone(),
            leader: leader.map(|holder| PresentLeader {
                leader: ElectionLeader {
                    session: holder.session.to_string(),
                    owner: holder.owner.clone(),
                    token: holder.token.0,
                    value: holder.value.as_slice().into(),
                },
                since_ms: unix_ms(holder.since),
            }),
            candidates: lock.waiters.iter().map(Into::into).collect(),
            candidate_count: lock.waiter_count,
        }
    }
}

impl From<&Leader> for ElectionLeader {
    fn from(leader: &Leader) -> Self {
        Self {
            session: leader.session.to_string(),
            owner: leader.owner.clone(),
            token: leader.token.0,
            value: leader.value.as_slice().into(),
        }
    }
}
