//! What a shard knows of a session: whether it may act here, what it holds here, what it asked.
//!
//! Invariants: a session acts in a shard only between its attach (or opening, in its home) and its
//! end there; once ended there, it never acts there again.
//!
//! # Why a delayed attach cannot revive a session
//! A session uses another shard only after its home has recorded the touch; the home's end of the
//! session therefore reaches every shard that it may use. What could go wrong is an
//! [`Attach`](SessionCommand::Attach) that is applied after the
//! [`Detach`](SessionCommand::Detach). No clock keeps it out:
//!
//! - A home numbers its touches ([`TouchNumber`]), and records no touch of a session that has ended. An
//!   attach carries the number of its touch; a detach carries the home's last number at the end, which no
//!   touch of that session is above.
//! - The detached shard refuses the session by the end that it remembers (a *tombstone*). When it forgets
//!   one, after [`TOMBSTONE_LIFE`] or because there are [`MAX_TOMBSTONES`], it raises its *floor* for
//!   that home to the detach's number.
//! - An attach of a session that it does not know, at or below the floor, is refused: touch again. The
//!   home then refuses the touch if the session has ended, or else gives a number above all that it has
//!   ever given, and so above every floor.
//!
//! How long tombstones are kept decides only how often an attach has to be asked for twice.

mod acked;
mod command;
mod end_reason;
pub(crate) mod labels;
mod query;
mod reply;
mod requests;
mod wait;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use acked::Acked;
pub use acked::MAX_ACKED_RANGES;
pub use command::{DEFAULT_SESSION_TTL, MAX_SESSION_TTL, MIN_SESSION_TTL, SessionCommand};
pub use end_reason::EndReason;
pub use labels::{Labels, MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES, MAX_LABELS};
pub use query::{MAX_SESSIONS_ASKED, SessionAnswer, SessionQuery, SessionView};
pub use reply::{SessionRefusal, SessionReply};
pub(crate) use requests::{Abandoned, Admission, Answered, Requests};
pub(crate) use wait::{Acquisition, Goal, WaitingRequest};

use crate::id::{
    FencingToken, LockName, Millis, Owner, Priority, SessionEpoch, SessionId, ShardId, ShardTime,
    Timestamp, TouchNumber,
};

/// How long a shard remembers that a session has ended, by its own time: an attach that was under way is
/// told so, and need not ask the home again. See the module's text.
pub const TOMBSTONE_LIFE: Millis = Millis(60_000);
/// Most ends that a shard remembers: the oldest are forgotten first. About 6 MiB; a thousand ends a
/// second for as long as they live.
pub const MAX_TOMBSTONES: usize = 65_536;
/// Most requests of a session in one shard that wait or whose answers are kept: a client that
/// acknowledges what it reads stays far below, one that does not cannot fill the memory.
pub const MAX_IN_FLIGHT: usize = 4_096;
/// Most acquisitions without a serial of the client's that a shard remembers to be given up: each is
/// undone by the node that took it, at once or when the shard has a leader again.
pub const MAX_ABANDONED: usize = 64;

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
    /// True if it is to end when its time is over, whatever its client says.
    pub revoked: bool,
}

/// A session that has ended here, its home, while other shards have yet to release it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndingSession {
    /// Which.
    pub session: SessionId,
    /// Why.
    pub reason: EndReason,
    /// The home's last touch when it ended.
    pub touch: Touch,
    /// The shards that have not answered.
    pub shards: Vec<ShardId>,
}

/// A touch, as the shard that is touched knows it: whose it is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Touch {
    /// The home that recorded it.
    pub home: ShardId,
    /// Its number there.
    pub number: TouchNumber,
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
