//! The encoding of replies: what nodes send each other and what snapshots keep of answered requests.
//!
//! Invariant: a tag keeps its meaning for ever.

use super::{Grant, Refusal, Reply};
use crate::codec::{
    Decode, DecodeError, Encode, Reader, decode_versioned, encode_versioned, put_count, put_text,
};

impl Reply {
    /// The version byte and the encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_versioned(self)
    }

    /// Reads what [`Reply::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not exactly one reply.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_versioned(bytes)
    }
}

impl Encode for Reply {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Done => out.push(1),
            Self::Session {
                session,
                ttl,
                epoch,
            } => {
                out.push(2);
                session.encode_into(out);
                ttl.encode_into(out);
                epoch.encode_into(out);
            }
            Self::Touched {
                touch,
                priority,
                opened,
            } => {
                out.push(3);
                touch.encode_into(out);
                priority.encode_into(out);
                opened.encode_into(out);
            }
            Self::Granted(grants) => {
                out.push(4);
                grants.encode_into(out);
            }
            Self::Released { holds } => {
                out.push(5);
                holds.encode_into(out);
            }
            Self::Downgraded { token } => {
                out.push(6);
                token.encode_into(out);
            }
            Self::Refused(refusal) => {
                out.push(7);
                refusal.encode_into(out);
            }
            Self::Joined { node } => {
                out.push(8);
                node.encode_into(out);
            }
            Self::Changed { revision } => {
                out.push(9);
                revision.encode_into(out);
            }
            Self::Revoked { lease } => {
                out.push(10);
                lease.encode_into(out);
            }
        }
    }
}

impl Decode for Reply {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            1 => Self::Done,
            2 => Self::Session {
                session: Decode::decode_from(input)?,
                ttl: Decode::decode_from(input)?,
                epoch: Decode::decode_from(input)?,
            },
            3 => Self::Touched {
                touch: Decode::decode_from(input)?,
                priority: Decode::decode_from(input)?,
                opened: Decode::decode_from(input)?,
            },
            4 => Self::Granted(Decode::decode_from(input)?),
            5 => Self::Released {
                holds: Decode::decode_from(input)?,
            },
            6 => Self::Downgraded {
                token: Decode::decode_from(input)?,
            },
            7 => Self::Refused(Decode::decode_from(input)?),
            8 => Self::Joined {
                node: Decode::decode_from(input)?,
            },
            9 => Self::Changed {
                revision: Decode::decode_from(input)?,
            },
            10 => Self::Revoked {
                lease: Decode::decode_from(input)?,
            },
            tag => return Err(DecodeError::UnknownTag { what: "reply", tag }),
        })
    }
}

impl Encode for Grant {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.name.encode_into(out);
        self.mode.encode_into(out);
        self.token.encode_into(out);
        self.holds.encode_into(out);
    }
}

impl Decode for Grant {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            name: Decode::decode_from(input)?,
            mode: Decode::decode_from(input)?,
            token: Decode::decode_from(input)?,
            holds: Decode::decode_from(input)?,
        })
    }
}

impl Encode for Refusal {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::NotAttached { session } => put(out, 1, &[session]),
            Self::AttachTooOld { session } => put(out, 2, &[session]),
            Self::NoSession { session } => put(out, 3, &[session]),
            Self::SessionEnded { session, reason } => put(out, 4, &[session, reason]),
            Self::SessionExists { session } => put(out, 5, &[session]),
            Self::SerialForgotten {
                serial,
                acked_below,
            } => put(out, 6, &[serial, acked_below]),
            Self::SerialReused { serial } => put(out, 7, &[serial]),
            Self::TooManyInFlight { limit } => {
                out.push(8);
                put_count(out, *limit);
            }
            Self::Unavailable { name } => put(out, 9, &[name]),
            Self::WaitTimedOut { name } => put(out, 10, &[name]),
            Self::WaitCancelled { name } => put(out, 11, &[name]),
            Self::NoSuchWait => out.push(12),
            Self::TooManyWaiters { name, limit } => {
                out.push(13);
                put_text(out, name);
                put_count(out, *limit);
            }
            Self::UpgradeDeadlock { name } => put(out, 14, &[name]),
            Self::UpgradeRequired { name } => put(out, 15, &[name]),
            Self::StaleToken { name, token } => put(out, 16, &[name, token]),
            Self::WrongMode { name, mode } => put(out, 17, &[name, mode]),
            Self::TooManyHolds { name, limit } => put(out, 18, &[name, limit]),
            Self::Malformed { what } => put(out, 19, &[what]),
            Self::WrongShard => out.push(20),
            Self::NoSuchNode { node } => put(out, 21, &[node]),
            Self::OtherRevision { expected, actual } => put(out, 22, &[expected, actual]),
            Self::TooManyNodes { limit } => {
                out.push(23);
                put_count(out, *limit);
            }
            Self::TooFewNodes { node, left, needed } => {
                put(out, 24, &[node]);
                put_count(out, *left);
                put_count(out, *needed);
            }
            Self::NoMajorityWithout { node, shard } => put(out, 25, &[node, shard]),
            Self::NodeNotEmpty { node, replicas } => {
                put(out, 26, &[node]);
                put_count(out, *replicas);
            }
            Self::NodeActive { node } => put(out, 27, &[node]),
            Self::NodeReplaced { node, by } => put(out, 28, &[node, by]),
            Self::NotEmpty { shard } => put(out, 29, &[shard]),
            Self::Deadlock { name, cycle } => put(out, 30, &[name, cycle]),
            Self::OtherUsage { name, present } => put(out, 31, &[name, present]),
            Self::OtherPermits { name } => put(out, 32, &[name]),
            Self::HeldAgain { name, holds } => put(out, 33, &[name, holds]),
            Self::UpgradePending { name } => put(out, 34, &[name]),
            Self::Abandoned { serial } => put(out, 35, &[serial]),
        }
    }
}

/// Appends a tag and fields.
fn put(out: &mut Vec<u8>, tag: u8, fields: &[&dyn Encode]) {
    out.push(tag);
    for field in fields {
        field.encode_into(out);
    }
}

impl Decode for Refusal {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            tag @ 1..=8 => refusal_about_sessions(tag, input)?,
            9 => Self::Unavailable {
                name: Decode::decode_from(input)?,
            },
            10 => Self::WaitTimedOut {
                name: Decode::decode_from(input)?,
            },
            11 => Self::WaitCancelled {
                name: Decode::decode_from(input)?,
            },
            12 => Self::NoSuchWait,
            13 => Self::TooManyWaiters {
                name: Decode::decode_from(input)?,
                limit: limit(input)?,
            },
            14 => Self::UpgradeDeadlock {
                name: Decode::decode_from(input)?,
            },
            15 => Self::UpgradeRequired {
                name: Decode::decode_from(input)?,
            },
            16 => Self::StaleToken {
                name: Decode::decode_from(input)?,
                token: Decode::decode_from(input)?,
            },
            17 => Self::WrongMode {
                name: Decode::decode_from(input)?,
                mode: Decode::decode_from(input)?,
            },
            18 => Self::TooManyHolds {
                name: Decode::decode_from(input)?,
                limit: Decode::decode_from(input)?,
            },
            19 => Self::Malformed {
                what: Decode::decode_from(input)?,
            },
            20 => Self::WrongShard,
            30 => Self::Deadlock {
                name: Decode::decode_from(input)?,
                cycle: Decode::decode_from(input)?,
            },
            31 => Self::OtherUsage {
                name: Decode::decode_from(input)?,
                present: Decode::decode_from(input)?,
            },
            32 => Self::OtherPermits {
                name: Decode::decode_from(input)?,
            },
            33 => Self::HeldAgain {
                name: Decode::decode_from(input)?,
                holds: Decode::decode_from(input)?,
            },
            34 => Self::UpgradePending {
                name: Decode::decode_from(input)?,
            },
            35 => Self::Abandoned {
                serial: Decode::decode_from(input)?,
            },
            tag => refusal_about_nodes(tag, input)?,
        })
    }
}

/// The first part of [`Refusal`]'s decoding: what is wrong with a session or a serial.
fn refusal_about_sessions(tag: u8, input: &mut Reader<'_>) -> Result<Refusal, DecodeError> {
    Ok(match tag {
        1 => Refusal::NotAttached {
            session: Decode::decode_from(input)?,
        },
        2 => Refusal::AttachTooOld {
            session: Decode::decode_from(input)?,
        },
        3 => Refusal::NoSession {
            session: Decode::decode_from(input)?,
        },
        4 => Refusal::SessionEnded {
            session: Decode::decode_from(input)?,
            reason: Decode::decode_from(input)?,
        },
        5 => Refusal::SessionExists {
            session: Decode::decode_from(input)?,
        },
        6 => Refusal::SerialForgotten {
            serial: Decode::decode_from(input)?,
            acked_below: Decode::decode_from(input)?,
        },
        7 => Refusal::SerialReused {
            serial: Decode::decode_from(input)?,
        },
        8 => Refusal::TooManyInFlight {
            limit: limit(input)?,
        },
        tag => return Err(unknown(tag)),
    })
}

/// The last part of [`Refusal`]'s decoding: what the meta shard says.
fn refusal_about_nodes(tag: u8, input: &mut Reader<'_>) -> Result<Refusal, DecodeError> {
    Ok(match tag {
        21 => Refusal::NoSuchNode {
            node: Decode::decode_from(input)?,
        },
        22 => Refusal::OtherRevision {
            expected: Decode::decode_from(input)?,
            actual: Decode::decode_from(input)?,
        },
        23 => Refusal::TooManyNodes {
            limit: limit(input)?,
        },
        24 => Refusal::TooFewNodes {
            node: Decode::decode_from(input)?,
            left: limit(input)?,
            needed: limit(input)?,
        },
        25 => Refusal::NoMajorityWithout {
            node: Decode::decode_from(input)?,
            shard: Decode::decode_from(input)?,
        },
        26 => Refusal::NodeNotEmpty {
            node: Decode::decode_from(input)?,
            replicas: limit(input)?,
        },
        27 => Refusal::NodeActive {
            node: Decode::decode_from(input)?,
        },
        28 => Refusal::NodeReplaced {
            node: Decode::decode_from(input)?,
            by: Decode::decode_from(input)?,
        },
        29 => Refusal::NotEmpty {
            shard: Decode::decode_from(input)?,
        },
        tag => return Err(unknown(tag)),
    })
}

const fn unknown(tag: u8) -> DecodeError {
    DecodeError::UnknownTag {
        what: "refusal",
        tag,
    }
}

fn limit(input: &mut Reader<'_>) -> Result<usize, DecodeError> {
    usize::try_from(input.varint()?).map_err(|_| DecodeError::BadInteger)
}
