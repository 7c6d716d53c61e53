//! The encodings of holds and waits.
//!
//! Invariants: a tag keeps its meaning for ever, fields come in the order of their declaration, and
//! what is derived (what waiting acquisitions have taken) is not written.

use crate::{
    codec::{Decode, DecodeError, Encode, Reader, check_bounds, fields},
    id::Owner,
    locks::{
        command::LockSpec,
        lock::{Arrival, Hold, MAX_HOLDS},
        mode::MAX_PERMITS,
        wait::{Acquisition, Goal, WaitingRequest},
    },
};

fields!(WaitingRequest {
    deadline,
    began,
    since,
    epoch,
    goal
});

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
