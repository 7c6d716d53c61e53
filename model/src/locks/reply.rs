//! What a shard answers about locks.
//!
//! Invariant: every refusal changed nothing but the de-duplication record.

use super::mode::{Mode, Usage};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, fields, tagged},
    id::{FencingToken, LockName, ShardId},
};

/// The answer to a command about locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockReply {
    /// Locks were granted, in the order in which they were asked for.
    Granted(Vec<Grant>),
    /// One hold was given back.
    Released {
        /// How many the owner has left.
        holds: u32,
    },
    /// The hold is shared now.
    Downgraded {
        /// Its token.
        token: FencingToken,
    },
}

/// One granted lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which.
    pub name: LockName,
    /// How.
    pub mode: Mode,
    /// The fencing token.
    pub token: FencingToken,
    /// How often the owner holds it now.
    pub holds: u32,
}

/// Why a lock was not taken, kept or changed. Each says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockRefusal {
    /// The lock is not free and the request would not wait.
    #[error("lock {name:?} is not free: wait for it, or try again later")]
    Unavailable {
        /// The first that was not free.
        name: String,
    },
    /// The wait's time is over.
    #[error("lock {name:?} did not become free in time")]
    WaitTimedOut {
        /// The one it was waiting for.
        name: String,
    },
    /// The wait was given up by its client.
    #[error("the wait for lock {name:?} was cancelled")]
    WaitCancelled {
        /// The one it was waiting for.
        name: String,
    },
    /// There is no such wait (granted already, or over).
    #[error("there is no such wait: it was granted, or has ended")]
    NoSuchWait,
    /// The queue of the lock is full.
    #[error("lock {name:?} has {limit} waiters: try again later")]
    TooManyWaiters {
        /// Which.
        name: String,
        /// The bound.
        limit: usize,
    },
    /// A second upgrade of the lock would wait for the first, and the first for it.
    #[error(
        "another holder of lock {name:?} is already waiting to upgrade, and each would wait for the other: release, then acquire exclusively"
    )]
    UpgradeDeadlock {
        /// Which.
        name: String,
    },
    /// The wait was part of a circle, and was chosen to break it.
    #[error(
        "the wait for lock {name:?} was given up to break a deadlock: {cycle}; release what you hold, then try again"
    )]
    Deadlock {
        /// The one it was waiting for.
        name: String,
        /// The circle in words.
        cycle: String,
    },
    /// The lock is in use as something else.
    #[error("{name:?} is in use as {present}: choose another name, or wait until it is free")]
    OtherUsage {
        /// Which.
        name: String,
        /// As what.
        present: Usage,
    },
    /// The owner holds another number of permits.
    #[error(
        "this owner holds permits of {name:?} already, and not so many: release them first, or use another owner"
    )]
    OtherPermits {
        /// Of which semaphore.
        name: String,
    },
    /// The owner holds it shared and asked for it exclusively.
    #[error("this owner holds lock {name:?} shared: use upgrade")]
    UpgradeRequired {
        /// Which.
        name: String,
    },
    /// The token is not that of a present grant to this session.
    #[error(
        "token {token} is not a current grant of lock {name:?} to this session: it was released or lost; nothing was changed"
    )]
    StaleToken {
        /// Which.
        name: String,
        /// What was shown.
        token: FencingToken,
    },
    /// Upgrade of a hold that is exclusive, or downgrade of one that is shared.
    #[error("lock {name:?} is held in mode {mode:?}: this operation needs the other mode")]
    WrongMode {
        /// Which.
        name: String,
        /// The present mode.
        mode: Mode,
    },
    /// Conversion of a hold that its owner has taken more than once: the others would not know of it.
    #[error(
        "this owner holds lock {name:?} {holds} times: a hold is upgraded or downgraded while it is held once; release the others first"
    )]
    HeldAgain {
        /// Which.
        name: String,
        /// How often, acquisitions under way among them.
        holds: u32,
    },
    /// The owner waits to upgrade its hold, and asked for the lock once more.
    #[error("this owner waits to upgrade lock {name:?}: take it again once that is answered")]
    UpgradePending {
        /// Which.
        name: String,
    },
    /// One owner holds the lock too often.
    #[error("this owner holds lock {name:?} {limit} times: release some first")]
    TooManyHolds {
        /// Which.
        name: String,
        /// The bound.
        limit: u32,
    },
    /// The shard is to go on after another cluster's tokens, but is in use.
    #[error(
        "shard {shard} is in use: it has sessions, or has given tokens; restore into a new cluster that nobody uses yet"
    )]
    NotEmpty {
        /// Which.
        shard: ShardId,
    },
}

tagged!(LockReply, "lock reply", {
    1 => Granted(inner),
    2 => Released { holds },
    3 => Downgraded { token },
});

fields!(Grant {
    name,
    mode,
    token,
    holds
});

tagged!(LockRefusal, "lock refusal", {
    1 => Unavailable { name },
    2 => WaitTimedOut { name },
    3 => WaitCancelled { name },
    4 => NoSuchWait,
    5 => TooManyWaiters { name, limit },
    6 => UpgradeDeadlock { name },
    7 => Deadlock { name, cycle },
    8 => OtherUsage { name, present },
    9 => OtherPermits { name },
    10 => UpgradeRequired { name },
    11 => StaleToken { name, token },
    12 => WrongMode { name, mode },
    13 => HeldAgain { name, holds },
    14 => UpgradePending { name },
    15 => TooManyHolds { name, limit },
    16 => NotEmpty { shard },
});
