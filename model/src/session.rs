//! What a shard knows of a session: whether it may act here, what it holds here, what it asked.
//!
//! Invariants: a session acts in a shard only between its attach (or opening, in its home) and its
//! end there; once ended there, it never acts there again.
//!
//! # Why a delayed attach cannot revive a session
//! A session uses another shard only after its home has recorded the touch; the home's end of the
//! session therefore reaches every shard that it may use. What could go wrong is an
//! [`AttachSession`](crate::Command::AttachSession) that is applied after the
//! [`DetachSession`](crate::Command::DetachSession). The detached shard refuses it for
//! [`TOMBSTONE_LIFE`] by the end that it remembers, and afterwards by `not_after`, which is the
//! home's time of the touch plus [`ATTACH_WINDOW`]. The touch comes before the detach, so an attach
//! could slip through only if the home's clock, when it recorded the touch, was ahead of the other
//! shard's clock, when it applied the detach, by `TOMBSTONE_LIFE - ATTACH_WINDOW`, 55 s. Nodes must
//! keep their clocks closer than that. If they do not, no lock is granted twice; but what a revived
//! session takes in that shard stays taken until it is released or the session is detached again.
//! The other way round, a shard whose clock is more than [`ATTACH_WINDOW`] ahead of a home's refuses
//! all attaches from there until the clocks agree again.

mod requests;
mod wait;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use requests::{Admission, Answered, Requests};
pub(crate) use wait::{Acquisition, Goal, WaitingRequest};

use crate::{
    command::{EndReason, Labels},
    id::{
        FencingToken, LockName, Millis, Owner, Priority, SessionEpoch, SessionId, ShardId,
        Timestamp,
    },
};

/// How long after a touch a session may be attached. Longer than a proposal takes when all is well.
pub const ATTACH_WINDOW: Millis = Millis(5_000);
/// How long a shard remembers that a session has ended. See the module's text.
pub const TOMBSTONE_LIFE: Millis = Millis(60_000);
/// Most requests of a session in one shard that wait or whose answers are kept: a client that
/// acknowledges what it reads stays far below, one that does not cannot fill the memory.
pub const MAX_IN_FLIGHT: usize = 4_096;

/// An open session whose home the shard is: what its leader watches over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HomeSession {
    /// Which.
    pub session: SessionId,
    /// Its TTL.
    pub ttl: Millis,
    /// Its epoch.
    pub epoch: SessionEpoch,
    /// The life it had left when that was last recorded; none if it was opened or resumed since.
    pub checkpoint: Option<Millis>,
}

/// A session that has ended here, its home, while other shards have yet to release it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndingSession {
    /// Which.
    pub session: SessionId,
    /// Why.
    pub reason: EndReason,
    /// The shards that have not answered.
    pub shards: Vec<ShardId>,
}

/// Where a session stands in a shard.
#[derive(Clone, Debug)]
pub(crate) enum Presence {
    /// It may act.
    Open(Member),
    /// It has ended here, in its home; other shards are yet to release it.
    Ending {
        home: Home,
        reason: EndReason,
        ended: Timestamp,
    },
    /// It has ended. Forgotten at `until`.
    Ended { reason: EndReason, until: Timestamp },
}

/// A session that may act here.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) role: Role,
    pub(crate) requests: Requests,
}

/// What a session holds in a shard, by lock and owner.
pub(crate) type Holdings = BTreeMap<(LockName, Owner), FencingToken>;

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
