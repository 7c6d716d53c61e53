//! The encoding of commands about locks.
//!
//! Invariant: a tag keeps its meaning for ever, and what is decoded is within its bounds.

use super::{GiveBack, LAST_START, LockCommand, LockSpec, MAX_LOCKS_PER_ACQUIRE};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, bounded_list, check_bounds, fields, put},
    id::{FencingToken, LockName},
    locks::deadlock::MAX_CYCLE,
};

mod tag {
    pub(super) const ACQUIRE: u8 = 1;
    pub(super) const RELEASE: u8 = 2;
    pub(super) const UPGRADE: u8 = 3;
    pub(super) const DOWNGRADE: u8 = 4;
    pub(super) const PROCLAIM: u8 = 5;
    pub(super) const CANCEL_WAIT: u8 = 6;
    pub(super) const ABORT_WAIT: u8 = 7;
    pub(super) const UNDO_ACQUIRE: u8 = 8;
    pub(super) const RAISE_TOKENS: u8 = 9;
}

impl Encode for LockCommand {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Acquire {
                request,
                owner,
                locks,
                wait,
                value,
            } => put(out, tag::ACQUIRE, &[request, owner, locks, wait, value]),
            Self::Proclaim {
                request,
                name,
                token,
                value,
            } => put(out, tag::PROCLAIM, &[request, name, token, value]),
            Self::AbortWait {
                session,
                serial,
                epoch,
                cycle,
            } => put(out, tag::ABORT_WAIT, &[session, serial, epoch, cycle]),
            Self::CancelWait { session, serial } => put(out, tag::CANCEL_WAIT, &[session, serial]),
            Self::Release {
                request,
                name,
                token,
            } => put(out, tag::RELEASE, &[request, name, token]),
            Self::UndoAcquire {
                session,
                serial,
                grants,
                refusal,
            } => put(out, tag::UNDO_ACQUIRE, &[session, serial, grants, refusal]),
            Self::Upgrade {
                request,
                name,
                token,
                wait,
            } => put(out, tag::UPGRADE, &[request, name, token, wait]),
            Self::Downgrade {
                request,
                name,
                token,
            } => put(out, tag::DOWNGRADE, &[request, name, token]),
            Self::RaiseTokens { above } => put(out, tag::RAISE_TOKENS, &[above]),
        }
    }
}

impl Decode for LockCommand {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            tag::ACQUIRE => Self::Acquire {
                request: Decode::decode_from(input)?,
                owner: Decode::decode_from(input)?,
                locks: locks(input)?,
                wait: Decode::decode_from(input)?,
                value: Decode::decode_from(input)?,
            },
            tag::PROCLAIM => Self::Proclaim {
                request: Decode::decode_from(input)?,
                name: Decode::decode_from(input)?,
                token: Decode::decode_from(input)?,
                value: Decode::decode_from(input)?,
            },
            tag::ABORT_WAIT => Self::AbortWait {
                session: Decode::decode_from(input)?,
                serial: Decode::decode_from(input)?,
                epoch: Decode::decode_from(input)?,
                cycle: bounded_list(input, "number of waits", 1, MAX_CYCLE)?,
            },
            tag::CANCEL_WAIT => Self::CancelWait {
                session: Decode::decode_from(input)?,
                serial: Decode::decode_from(input)?,
            },
            tag::RELEASE => Self::Release {
                request: Decode::decode_from(input)?,
                name: Decode::decode_from(input)?,
                token: Decode::decode_from(input)?,
            },
            tag::UNDO_ACQUIRE => Self::UndoAcquire {
                session: Decode::decode_from(input)?,
                serial: Decode::decode_from(input)?,
                grants: bounded_list::<GiveBack>(
                    input,
                    "number of grants",
                    0,
                    MAX_LOCKS_PER_ACQUIRE,
                )?,
                refusal: Decode::decode_from(input)?,
            },
            tag::UPGRADE => Self::Upgrade {
                request: Decode::decode_from(input)?,
                name: Decode::decode_from(input)?,
                token: Decode::decode_from(input)?,
                wait: Decode::decode_from(input)?,
            },
            tag::DOWNGRADE => Self::Downgrade {
                request: Decode::decode_from(input)?,
                name: Decode::decode_from(input)?,
                token: Decode::decode_from(input)?,
            },
            tag::RAISE_TOKENS => {
                let above = FencingToken::decode_from(input)?;
                check_bounds("token", above.0, 0, LAST_START)?;
                Self::RaiseTokens { above }
            }
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "lock command",
                    tag,
                });
            }
        })
    }
}

fn locks(input: &mut Reader<'_>) -> Result<Vec<LockSpec>, DecodeError> {
    let locks: Vec<LockSpec> = bounded_list(input, "number of locks", 1, MAX_LOCKS_PER_ACQUIRE)?;
    let mut names: Vec<&LockName> = locks.iter().map(|spec| &spec.name).collect();
    names.sort_unstable();
    if names.is_sorted_by(|before, after| before < after) {
        Ok(locks)
    } else {
        Err(DecodeError::Inconsistent {
            what: "an acquisition names a lock twice",
        })
    }
}

fields!(LockSpec { name, mode });
fields!(GiveBack { name, token });
