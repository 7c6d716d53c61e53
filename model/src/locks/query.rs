//! What a shard can be asked about locks, and what it answers.
//!
//! Invariant: a decoded query is within every bound that its fields document.

use super::{
    deadlock::{Blocked, Deadlock, Edge, MAX_ASKED, MAX_CYCLE},
    mode::Mode,
};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, bounded_list, check_bounds, fields, put, tagged},
    id::{
        FencingToken, LockName, MAX_LOCK_NAME_BYTES, Owner, Party, Revision, SessionId, Timestamp,
    },
    page::{Page, decode_limit},
    value::Value,
};

/// Most holders listed for one lock; 65,536 of a semaphore would make an answer of 300 MiB.
pub const MAX_LISTED_HOLDERS: usize = 100;
/// Most waiters listed for one lock: the head of the queue is what one looks at.
pub const MAX_LISTED_WAITERS: usize = 100;

/// A question about locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockQuery {
    /// One lock.
    Lock {
        /// Which.
        name: LockName,
    },
    /// Locks by name, after one, by prefix.
    Locks {
        /// Only names that begin so.
        prefix: String,
        /// Only names greater than this.
        after: Option<LockName>,
        /// At most this many, 1..=[`crate::page::MAX_PAGE`].
        limit: u32,
    },
    /// Is this token that of a present holder?
    Validate {
        /// Of which lock.
        name: LockName,
        /// Which token.
        token: FencingToken,
        /// Only if this session holds it, where given.
        session: Option<SessionId>,
    },
    /// What parties wait for in this shard, and for whom.
    Waits {
        /// Which: at most [`super::deadlock::MAX_ASKED`].
        parties: Vec<Party>,
    },
    /// Do all these waits and holds of this shard stand?
    Stand {
        /// Which: at most [`super::deadlock::MAX_CYCLE`].
        edges: Vec<Edge>,
    },
    /// The deadlocks that were broken last.
    Deadlocks,
    /// How many changes there were.
    Revision,
}

/// An answer about locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockAnswer {
    /// One lock; one that nobody holds or waits for has no holders and no waiters.
    Lock(LockView),
    /// A page of locks that are held or waited for, by name.
    Locks(Page<LockView>),
    /// Whether the token is valid.
    Valid(bool),
    /// The waits.
    Waits(Vec<Blocked>),
    /// Whether they stand.
    Stand(bool),
    /// Broken deadlocks.
    Deadlocks {
        /// How many there were.
        count: u64,
        /// The last of them, the oldest first.
        last: Vec<Deadlock>,
    },
    /// The last change's number.
    Revision(Revision),
}

/// A lock as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockView {
    /// Its name.
    pub name: LockName,
    /// Who holds it, by token; at most [`MAX_LISTED_HOLDERS`].
    pub holders: Vec<HolderView>,
    /// How many hold it.
    pub holder_count: u32,
    /// Who waits, from the head; at most [`MAX_LISTED_WAITERS`].
    pub waiters: Vec<WaiterView>,
    /// How many wait.
    pub waiter_count: u32,
}

/// A holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderView {
    /// Whose.
    pub session: SessionId,
    /// Which of its owners.
    pub owner: Owner,
    /// How.
    pub mode: Mode,
    /// Under which token.
    pub token: FencingToken,
    /// How often.
    pub holds: u32,
    /// Since when.
    pub since: Timestamp,
    /// What it says.
    pub value: Value,
}

/// A waiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiterView {
    /// Whose.
    pub session: SessionId,
    /// Which of its owners.
    pub owner: Owner,
    /// For which mode.
    pub mode: Mode,
    /// True for a shared holder that waits to be exclusive.
    pub upgrade: bool,
    /// Since when.
    pub since: Timestamp,
}

impl Encode for LockQuery {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Lock { name } => put(out, 1, &[name]),
            Self::Locks {
                prefix,
                after,
                limit,
            } => put(out, 2, &[prefix, after, limit]),
            Self::Validate {
                name,
                token,
                session,
            } => put(out, 3, &[name, token, session]),
            Self::Waits { parties } => put(out, 4, &[parties]),
            Self::Stand { edges } => put(out, 5, &[edges]),
            Self::Deadlocks => put(out, 6, &[]),
            Self::Revision => put(out, 7, &[]),
        }
    }
}

impl Decode for LockQuery {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            1 => Self::Lock {
                name: Decode::decode_from(input)?,
            },
            2 => Self::Locks {
                prefix: prefix(input)?,
                after: Decode::decode_from(input)?,
                limit: decode_limit(input)?,
            },
            3 => Self::Validate {
                name: Decode::decode_from(input)?,
                token: Decode::decode_from(input)?,
                session: Decode::decode_from(input)?,
            },
            4 => Self::Waits {
                parties: bounded_list(input, "number of parties", 0, MAX_ASKED)?,
            },
            5 => Self::Stand {
                edges: bounded_list(input, "number of edges", 0, MAX_CYCLE)?,
            },
            6 => Self::Deadlocks,
            7 => Self::Revision,
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "lock query",
                    tag,
                });
            }
        })
    }
}

fn prefix(input: &mut Reader<'_>) -> Result<String, DecodeError> {
    let prefix = input.text()?;
    check_bounds(
        "prefix's length",
        prefix.len() as u64,
        0,
        MAX_LOCK_NAME_BYTES as u64,
    )?;
    Ok(prefix.to_owned())
}

tagged!(LockAnswer, "lock answer", {
    1 => Lock(inner),
    2 => Locks(inner),
    3 => Valid(inner),
    4 => Waits(inner),
    5 => Stand(inner),
    6 => Deadlocks { count, last },
    7 => Revision(inner),
});

fields!(LockView {
    name,
    holders,
    holder_count,
    waiters,
    waiter_count
});
fields!(HolderView {
    session,
    owner,
    mode,
    token,
    holds,
    since,
    value
});
fields!(WaiterView {
    session,
    owner,
    mode,
    upgrade,
    since
});
