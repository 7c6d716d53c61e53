//! What a shard can be told about locks.
//!
//! Invariant: what clients ask carries a [`RequestId`], and is done once; what nodes tell changes
//! nothing the second time.

mod codec;

use super::{deadlock::Edge, mode::Mode};
use crate::{
    id::{FencingToken, LockName, Owner, Serial, SessionId, WaitEpoch},
    reply::Refusal,
    request::{RequestId, Wait},
    value::Value,
};

/// Most locks in one acquisition: an all-or-nothing set is taken one after another, and each more
/// makes the whole wait longer.
pub const MAX_LOCKS_PER_ACQUIRE: usize = 64;

/// The greatest token that a shard may be told to begin above: up to it every JSON reader counts
/// exactly. It leaves room for 8,000 gaps, and far more tokens above it than any shard will give.
pub const LAST_START: u64 = 1 << 53;

/// A change of the locks of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockCommand {
    /// Takes locks, all or nothing, in canonical (name) order.
    Acquire {
        /// Who asks.
        request: RequestId,
        /// For re-entrance; an empty one stands for this acquisition alone.
        owner: Owner,
        /// 1..=[`MAX_LOCKS_PER_ACQUIRE`], distinct names. Replies keep this order.
        locks: Vec<LockSpec>,
        /// How long it may be blocked.
        wait: Wait,
        /// What the holder says, from the moment of the grant.
        value: Value,
    },
    /// Says something else with a hold.
    Proclaim {
        /// Who asks.
        request: RequestId,
        /// With the hold of which lock.
        name: LockName,
        /// The grant's token.
        token: FencingToken,
        /// What.
        value: Value,
    },
    /// Gives one hold back.
    Release {
        /// Who asks.
        request: RequestId,
        /// Of what.
        name: LockName,
        /// The grant's token.
        token: FencingToken,
    },
    /// Shared to exclusive.
    Upgrade {
        /// Who asks.
        request: RequestId,
        /// Of what.
        name: LockName,
        /// The shared hold's token.
        token: FencingToken,
        /// How long it may be blocked.
        wait: Wait,
    },
    /// Exclusive to shared, without a gap.
    Downgrade {
        /// Who asks.
        request: RequestId,
        /// Of what.
        name: LockName,
        /// The exclusive hold's token.
        token: FencingToken,
    },
    /// Gives up a blocked acquisition or upgrade.
    CancelWait {
        /// Whose.
        session: SessionId,
        /// The serial of the acquisition or upgrade.
        serial: Serial,
    },
    /// Ends one wait that is part of a circle. Changes nothing if exactly that wait is over.
    AbortWait {
        /// Whose.
        session: SessionId,
        /// The acquisition's or upgrade's serial.
        serial: Serial,
        /// The wait.
        epoch: WaitEpoch,
        /// The circle, 1..=[`super::deadlock::MAX_CYCLE`] waits, this one among them.
        cycle: Vec<Edge>,
    },
    /// Ends an acquisition here, however far it came: because another shard has refused it, or its
    /// client has given it up. What it was granted is given back, its wait is over, and if it has yet to
    /// arrive it is refused then. That becomes its kept answer, so it is undone at most once, and never
    /// after its client has acknowledged the grant.
    UndoAcquire {
        /// Who asked for the locks.
        session: SessionId,
        /// The acquisition's serial.
        serial: Serial,
        /// What was granted to a serial that a node gave, of which the shard keeps no answer: at most
        /// [`MAX_LOCKS_PER_ACQUIRE`]. Stale ones are skipped.
        grants: Vec<GiveBack>,
        /// Why: what whoever repeats the acquisition is told.
        refusal: Refusal,
    },
    /// A shard that was never used goes on after the tokens of an earlier cluster: every token that
    /// it gives from now on is greater. Refused by a shard that is in use.
    RaiseTokens {
        /// Than this one.
        above: FencingToken,
    },
}

/// One grant to undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiveBack {
    /// Of what.
    pub name: LockName,
    /// The grant's token.
    pub token: FencingToken,
}

/// One lock to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockSpec {
    /// Which.
    pub name: LockName,
    /// How.
    pub mode: Mode,
}

impl LockCommand {
    /// True if the state may need more room afterwards: see [`crate::Command::grows`].
    #[must_use]
    pub const fn grows(&self) -> bool {
        match self {
            Self::Acquire { .. } | Self::Proclaim { .. } => true,
            Self::AbortWait { .. }
            | Self::CancelWait { .. }
            | Self::Release { .. }
            | Self::UndoAcquire { .. }
            | Self::Upgrade { .. }
            | Self::Downgrade { .. }
            | Self::RaiseTokens { .. } => false,
        }
    }

    /// True if doing it twice is the same as doing it once.
    #[must_use]
    pub const fn repeatable(&self) -> bool {
        match self {
            Self::Acquire { request, .. }
            | Self::Release { request, .. }
            | Self::Upgrade { request, .. }
            | Self::Proclaim { request, .. }
            | Self::Downgrade { request, .. } => !request.serial.is_ephemeral(),
            Self::CancelWait { .. }
            | Self::AbortWait { .. }
            | Self::UndoAcquire { .. }
            | Self::RaiseTokens { .. } => true,
        }
    }

    /// The request that it may block.
    #[must_use]
    pub const fn waits(&self) -> Option<(SessionId, Serial)> {
        match self {
            Self::Acquire { request, wait, .. } | Self::Upgrade { request, wait, .. } => match wait
            {
                Wait::Try => None,
                Wait::AtMost(_) | Wait::Forever => Some((request.session, request.serial)),
            },
            Self::CancelWait { .. }
            | Self::AbortWait { .. }
            | Self::Release { .. }
            | Self::UndoAcquire { .. }
            | Self::Downgrade { .. }
            | Self::Proclaim { .. }
            | Self::RaiseTokens { .. } => None,
        }
    }

    /// About how many bytes its parts of no fixed length are encoded in.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Acquire {
                owner,
                locks,
                value,
                ..
            } => {
                let names = locks.iter().map(|lock| lock.name.as_str().len() + 8);
                owner.as_str().len() + names.sum::<usize>() + value.as_bytes().len()
            }
            Self::Proclaim { name, value, .. } => name.as_str().len() + value.as_bytes().len(),
            Self::AbortWait { cycle, .. } => cycle
                .iter()
                .map(|edge| edge.wait.name.as_str().len() + 64)
                .sum(),
            Self::UndoAcquire { grants, .. } => grants
                .iter()
                .map(|grant| grant.name.as_str().len() + 8)
                .sum(),
            Self::Release { name, .. }
            | Self::Upgrade { name, .. }
            | Self::Downgrade { name, .. } => name.as_str().len(),
            Self::CancelWait { .. } | Self::RaiseTokens { .. } => 0,
        }
    }
}
