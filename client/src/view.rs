//! Locks and sessions as the cluster shows them.
//!
//! Invariant: what the server left out is left out here too, never made up.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use lockstep_model::{
    id::{FencingToken, Priority, SessionEpoch, SessionId, ShardId},
    locks::mode::Mode,
};
use lockstep_proto::lock::v1 as wire;

use crate::mode::mode_of;

/// Some of many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// For the next page; none on the last.
    pub next_page_token: Option<String>,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockInfo {
    /// Its name.
    pub name: String,
    /// The shard that keeps it.
    pub shard: ShardId,
    /// Who holds it, by token; at most 100.
    pub holders: Vec<Holder>,
    /// How many hold it.
    pub holder_count: u32,
    /// Who waits, from the head of the queue; at most 100.
    pub waiters: Vec<Waiter>,
    /// How many wait.
    pub waiter_count: u32,
}

/// A holder of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its session.
    pub session: SessionId,
    /// Which of the session's owners.
    pub owner: String,
    /// None where the server did not say.
    pub mode: Option<Mode>,
    /// The token that it holds the lock under.
    pub token: FencingToken,
    /// How often it holds it.
    pub holds: u32,
    /// Since when, by the cluster's clock.
    pub since: SystemTime,
    /// What it says: in an election, who it is.
    pub value: Vec<u8>,
}

/// A waiter of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// Its session.
    pub session: SessionId,
    /// Which of the session's owners.
    pub owner: String,
    /// None where the server did not say.
    pub mode: Option<Mode>,
    /// True for a shared holder that waits to become exclusive.
    pub upgrade: bool,
    /// Since when, by the cluster's clock.
    pub since: SystemTime,
    /// Its place in the queue: 1 goes next.
    pub position: u32,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// Its id.
    pub id: SessionId,
    /// Its TTL.
    pub ttl: Duration,
    /// How often it was resumed; 1 when new.
    pub epoch: SessionEpoch,
    /// For choosing a deadlock's victim.
    pub priority: Priority,
    /// What its client said about it.
    pub labels: BTreeMap<String, String>,
    /// When it was opened, by the cluster's clock.
    pub opened: SystemTime,
    /// The shards that it may hold locks in.
    pub shards: Vec<ShardId>,
    /// True once it has ended, while its locks are being released.
    pub ending: bool,
}

pub(crate) fn time(unix_ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_millis(unix_ms))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

impl From<wire::LockInfo> for LockInfo {
    fn from(lock: wire::LockInfo) -> Self {
        Self {
            name: lock.name,
            shard: ShardId(lock.shard),
            holders: lock.holders.into_iter().map(Into::into).collect(),
            holder_count: lock.holder_count,
            waiters: lock.waiters.into_iter().map(Into::into).collect(),
            waiter_count: lock.waiter_count,
        }
    }
}

impl From<wire::Holder> for Holder {
    fn from(holder: wire::Holder) -> Self {
        Self {
            session: SessionId(holder.session_id),
            mode: mode_of(holder.mode(), holder.permits, holder.size),
            owner: holder.owner,
            token: FencingToken(holder.token),
            holds: holder.holds,
            since: time(holder.since_ms),
            value: holder.value,
        }
    }
}

impl From<wire::Waiter> for Waiter {
    fn from(waiter: wire::Waiter) -> Self {
        Self {
            session: SessionId(waiter.session_id),
            mode: mode_of(waiter.mode(), waiter.permits, waiter.size),
            owner: waiter.owner,
            upgrade: waiter.upgrade,
            since: time(waiter.since_ms),
            position: waiter.position,
        }
    }
}

impl From<wire::SessionInfo> for SessionInfo {
    fn from(session: wire::SessionInfo) -> Self {
        Self {
            id: SessionId(session.session_id),
            ttl: Duration::from_millis(session.ttl_ms),
            epoch: SessionEpoch(session.epoch),
            priority: Priority(session.priority),
            labels: session.labels.into_iter().collect(),
            opened: time(session.opened_at_ms),
            shards: session.shards.into_iter().map(ShardId).collect(),
            ending: session.ending,
        }
    }
}
