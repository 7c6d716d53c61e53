//! The encodings of a shard's records.
//!
//! Invariants: a tag keeps its meaning for ever, fields come in the order of their declaration, and
//! what is derived (holds by session, what waiting acquisitions have taken) is not written.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    codec::{Decode, DecodeError, Encode, Reader, bounded_list, check_bounds},
    id::{Owner, Serial, ShardId},
    locks::{
        command::LockSpec,
        lock::{Arrival, Hold, MAX_HOLDS},
        mode::MAX_PERMITS,
    },
    session::{
        Acked, Acquisition, Answered, Goal, Home, Labels, MAX_ABANDONED, MAX_IN_FLIGHT, Member,
        Presence, Requests, Role, WaitingRequest,
    },
};

impl Encode for Presence {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Open(member) => {
                out.push(1);
                member.role.encode_into(out);
                member.requests.encode_into(out);
            }
            Self::Ending {
                home,
                reason,
                ended,
                touch,
            } => {
                out.push(2);
                home.encode_into(out);
                reason.encode_into(out);
                ended.encode_into(out);
                touch.encode_into(out);
            }
            Self::Ended {
                reason,
                until,
                touch,
            } => {
                out.push(3);
                reason.encode_into(out);
                until.encode_into(out);
                touch.encode_into(out);
            }
        }
    }
}

impl Decode for Presence {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            1 => Self::Open(Member {
                role: Decode::decode_from(input)?,
                requests: Decode::decode_from(input)?,
            }),
            2 => Self::Ending {
                home: Decode::decode_from(input)?,
                reason: Decode::decode_from(input)?,
                ended: Decode::decode_from(input)?,
                touch: Decode::decode_from(input)?,
            },
            3 => Self::Ended {
                reason: Decode::decode_from(input)?,
                until: Decode::decode_from(input)?,
                touch: Decode::decode_from(input)?,
            },
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "session state",
                    tag,
                });
            }
        })
    }
}

impl Encode for Role {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Home(home) => {
                out.push(1);
                home.encode_into(out);
            }
            Self::Attached { priority, opened } => {
                out.push(2);
                priority.encode_into(out);
                opened.encode_into(out);
            }
        }
    }
}

impl Decode for Role {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            1 => Self::Home(Decode::decode_from(input)?),
            2 => Self::Attached {
                priority: Decode::decode_from(input)?,
                opened: Decode::decode_from(input)?,
            },
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "session role",
                    tag,
                });
            }
        })
    }
}

impl Encode for Home {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let Self {
            ttl,
            epoch,
            priority,
            labels,
            opened,
            checkpoint,
            revoked,
            touched,
        } = self;
        ttl.encode_into(out);
        epoch.encode_into(out);
        priority.encode_into(out);
        labels.encode_into(out);
        opened.encode_into(out);
        checkpoint.encode_into(out);
        revoked.encode_into(out);
        touched
            .iter()
            .copied()
            .collect::<Vec<ShardId>>()
            .encode_into(out);
    }
}

impl Decode for Home {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            ttl: Decode::decode_from(input)?,
            epoch: Decode::decode_from(input)?,
            priority: Decode::decode_from(input)?,
            labels: Labels::decode_from(input)?,
            opened: Decode::decode_from(input)?,
            checkpoint: Decode::decode_from(input)?,
            revoked: Decode::decode_from(input)?,
            touched: touched(input)?,
        })
    }
}

fn touched(input: &mut Reader<'_>) -> Result<BTreeSet<ShardId>, DecodeError> {
    let shards: Vec<ShardId> = Decode::decode_from(input)?;
    if !shards.is_sorted_by(|before, after| before < after) {
        return Err(DecodeError::NotAscending);
    }
    Ok(shards.into_iter().collect())
}

impl Encode for Requests {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.acked.below.encode_into(out);
        self.acked.ranges().encode_into(out);
        self.waits.encode_into(out);
        self.answers.encode_into(out);
        let abandoned: Vec<Serial> = self.abandoned.iter().copied().collect();
        abandoned.encode_into(out);
    }
}

impl Decode for Requests {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let below = Decode::decode_from(input)?;
        let ranges = Decode::decode_from(input)?;
        let acked = Acked::restore(below, ranges).ok_or(DecodeError::Inconsistent {
            what: "ranges of acknowledged serials",
        })?;
        let waits: BTreeMap<_, _> = Decode::decode_from(input)?;
        let answers: BTreeMap<_, _> = Decode::decode_from(input)?;
        let count = waits.len().saturating_add(answers.len());
        check_bounds("number of requests", count as u64, 0, MAX_IN_FLIGHT as u64)?;
        if waits.keys().any(|serial| answers.contains_key(serial)) {
            return Err(DecodeError::Inconsistent {
                what: "a request that waits and is answered",
            });
        }
        let abandoned = bounded_list(input, "number of abandoned", 0, MAX_ABANDONED)?;
        Ok(Self {
            acked,
            waits,
            answers,
            abandoned: abandoned.into(),
        })
    }
}

impl Encode for Answered {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.fingerprint.encode_into(out);
        self.reply.encode_into(out);
    }
}

impl Decode for Answered {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            fingerprint: Decode::decode_from(input)?,
            reply: Decode::decode_from(input)?,
        })
    }
}

impl Encode for WaitingRequest {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let Self {
            fingerprint,
            deadline,
            began,
            since,
            epoch,
            goal,
        } = self;
        fingerprint.encode_into(out);
        deadline.encode_into(out);
        began.encode_into(out);
        since.encode_into(out);
        epoch.encode_into(out);
        goal.encode_into(out);
    }
}

impl Decode for WaitingRequest {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            fingerprint: Decode::decode_from(input)?,
            deadline: Decode::decode_from(input)?,
            began: Decode::decode_from(input)?,
            since: Decode::decode_from(input)?,
            epoch: Decode::decode_from(input)?,
            goal: Decode::decode_from(input)?,
        })
    }
}

impl Encode for Goal {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Acquire {
                acquisition,
                arrival,
            } => {
                out.push(1);
                acquisition.owner.encode_into(out);
                acquisition.locks.encode_into(out);
                acquisition.value.encode_into(out);
                (acquisition.taken as u64).encode_into(out);
                arrival.0.encode_into(out);
            }
            Self::Upgrade { name, token } => {
                out.push(2);
                name.encode_into(out);
                token.encode_into(out);
            }
        }
    }
}

impl Decode for Goal {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            1 => Self::Acquire {
                acquisition: acquisition(input)?,
                arrival: Decode::decode_from(input).map(Arrival)?,
            },
            2 => Self::Upgrade {
                name: Decode::decode_from(input)?,
                token: Decode::decode_from(input)?,
            },
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "goal of a wait",
                    tag,
                });
            }
        })
    }
}

fn acquisition(input: &mut Reader<'_>) -> Result<Acquisition, DecodeError> {
    let owner = Owner::decode_from(input)?;
    let locks: Vec<LockSpec> = Decode::decode_from(input)?;
    let value = Decode::decode_from(input)?;
    let taken = input.varint()?;
    let Some(mut acquisition) = Acquisition::new(owner, locks, value) else {
        return Err(DecodeError::Inconsistent {
            what: "an acquisition of no, too many or equal locks",
        });
    };
    check_bounds(
        "number of locks taken",
        taken,
        0,
        acquisition.locks.len() as u64 - 1,
    )?;
    acquisition.taken = taken as usize;
    Ok(acquisition)
}

impl Encode for Hold {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let Self {
            session,
            owner,
            since,
            granted,
            pending: _,
            permits,
            value,
        } = self;
        session.encode_into(out);
        owner.encode_into(out);
        since.encode_into(out);
        granted.encode_into(out);
        permits.encode_into(out);
        value.encode_into(out);
    }
}

impl Decode for Hold {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let hold = Self {
            session: Decode::decode_from(input)?,
            owner: Decode::decode_from(input)?,
            since: Decode::decode_from(input)?,
            granted: Decode::decode_from(input)?,
            pending: 0,
            permits: Decode::decode_from(input)?,
            value: Decode::decode_from(input)?,
        };
        check_bounds(
            "number of permits",
            hold.permits.into(),
            1,
            MAX_PERMITS.into(),
        )?;
        check_bounds(
            "number of holds",
            u64::from(hold.granted),
            0,
            u64::from(MAX_HOLDS),
        )?;
        Ok(hold)
    }
}
