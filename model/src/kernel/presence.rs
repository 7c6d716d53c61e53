//! Where a session stands in a shard.
//!
//! Invariant: a session that has ended here never acts here again.

mod codec;

use std::collections::BTreeSet;

use super::requests::Requests;
use crate::{
    id::{Millis, Priority, SessionEpoch, ShardId, ShardTime, Timestamp},
    session::{EndReason, Labels, Touch},
};

/// Where a session stands in a shard.
#[derive(Clone, Debug)]
pub(crate) enum Presence {
    /// It may act.
    Open(Member),
    /// It has ended here, in its home; other shards are yet to release it.
    Ending {
        home: Home,
        reason: EndReason,
        ended: ShardTime,
        touch: Touch,
    },
    /// It has ended. Forgotten at `until`: the floor is then raised to `touch`.
    Ended {
        reason: EndReason,
        until: ShardTime,
        touch: Touch,
    },
}

/// A session that may act here.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) requests: Requests,
}

/// Why a session may act here.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// The shard is its home.
    Home(Home),
    /// Its home attached it.
    Attached {
        priority: Priority,
        opened: Timestamp,
    },
}

/// The home's part of a session.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) ttl: Millis,
    pub(crate) epoch: SessionEpoch,
    pub(crate) priority: Priority,
    pub(crate) labels: Labels,
    pub(crate) opened: Timestamp,
    pub(crate) checkpoint: Option<Millis>,
    pub(crate) revoked: bool,
    pub(crate) touched: BTreeSet<ShardId>,
}

impl Member {
    /// A session that has done nothing here yet.
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            requests: Requests::default(),
        }
    }
}

impl Role {
    /// What decides who gives way in a deadlock: the session's priority, and when it was opened.
    pub(crate) const fn rank(&self) -> (Priority, Timestamp) {
        match self {
            Self::Home(home) => (home.priority, home.opened),
            Self::Attached { priority, opened } => (*priority, *opened),
        }
    }

    /// The home's part, if this is the home.
    pub(crate) const fn home(&self) -> Option<&Home> {
        match self {
            Self::Home(home) => Some(home),
            Self::Attached { .. } => None,
        }
    }

    /// The home's part, to change it.
    pub(crate) const fn home_mut(&mut self) -> Option<&mut Home> {
        match self {
            Self::Home(home) => Some(home),
            Self::Attached { .. } => None,
        }
    }
}
