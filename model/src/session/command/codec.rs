//! The encoding of commands about sessions.
//!
//! Invariant: a tag keeps its meaning for ever, and what is decoded is within its bounds.

use super::{MAX_SESSION_TTL, MIN_SESSION_TTL, SessionCommand};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, check_bounds, put},
    id::Millis,
    session::labels::decode_labels,
};

mod tag {
    pub(super) const OPEN: u8 = 1;
    pub(super) const RESUME: u8 = 2;
    pub(super) const TOUCH_SHARD: u8 = 3;
    pub(super) const CHECKPOINT: u8 = 4;
    pub(super) const REVIVE: u8 = 5;
    pub(super) const REVOKE: u8 = 6;
    pub(super) const END: u8 = 7;
    pub(super) const SHARD_RELEASED: u8 = 8;
    pub(super) const ATTACH: u8 = 9;
    pub(super) const DETACH: u8 = 10;
}

impl Encode for SessionCommand {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Open {
                session,
                ttl,
                priority,
                labels,
            } => put(out, tag::OPEN, &[session, ttl, priority, labels]),
            Self::Resume { session } => put(out, tag::RESUME, &[session]),
            Self::TouchShard { session, shard } => put(out, tag::TOUCH_SHARD, &[session, shard]),
            Self::Checkpoint { remaining } => put(out, tag::CHECKPOINT, &[remaining]),
            Self::Revive { session } => put(out, tag::REVIVE, &[session]),
            Self::Revoke { session } => put(out, tag::REVOKE, &[session]),
            Self::End { session, reason } => put(out, tag::END, &[session, reason]),
            Self::ShardReleased { session, shard } => {
                put(out, tag::SHARD_RELEASED, &[session, shard]);
            }
            Self::Attach {
                session,
                priority,
                opened,
                touch,
            } => put(out, tag::ATTACH, &[session, priority, opened, touch]),
            Self::Detach {
                session,
                reason,
                touch,
            } => put(out, tag::DETACH, &[session, reason, touch]),
        }
    }
}

impl Decode for SessionCommand {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            tag::OPEN => Self::Open {
                session: Decode::decode_from(input)?,
                ttl: session_ttl(input)?,
                priority: Decode::decode_from(input)?,
                labels: decode_labels(input)?,
            },
            tag::RESUME => Self::Resume {
                session: Decode::decode_from(input)?,
            },
            tag::TOUCH_SHARD => Self::TouchShard {
                session: Decode::decode_from(input)?,
                shard: Decode::decode_from(input)?,
            },
            tag::CHECKPOINT => Self::Checkpoint {
                remaining: Decode::decode_from(input)?,
            },
            tag::REVIVE => Self::Revive {
                session: Decode::decode_from(input)?,
            },
            tag::REVOKE => Self::Revoke {
                session: Decode::decode_from(input)?,
            },
            tag::END => Self::End {
                session: Decode::decode_from(input)?,
                reason: Decode::decode_from(input)?,
            },
            tag::SHARD_RELEASED => Self::ShardReleased {
                session: Decode::decode_from(input)?,
                shard: Decode::decode_from(input)?,
            },
            tag::ATTACH => Self::Attach {
                session: Decode::decode_from(input)?,
                priority: Decode::decode_from(input)?,
                opened: Decode::decode_from(input)?,
                touch: Decode::decode_from(input)?,
            },
            tag::DETACH => Self::Detach {
                session: Decode::decode_from(input)?,
                reason: Decode::decode_from(input)?,
                touch: Decode::decode_from(input)?,
            },
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "session command",
                    tag,
                });
            }
        })
    }
}

fn session_ttl(input: &mut Reader<'_>) -> Result<Millis, DecodeError> {
    let ttl = Millis::decode_from(input)?;
    check_bounds(
        "session TTL in ms",
        ttl.0,
        MIN_SESSION_TTL.0,
        MAX_SESSION_TTL.0,
    )?;
    Ok(ttl)
}
