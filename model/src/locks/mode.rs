//! How a lock is wanted or held.
//!
//! Invariant: a lock is used in one way at a time: as a lock, as a semaphore of so many permits, or
//! as a barrier of so many parties. It is free for another use once nobody holds it or waits for it.

use std::fmt;

use crate::codec::{Decode, DecodeError, Encode, Reader, check_bounds};

/// Most permits of a semaphore, and most parties of a barrier: as many as may wait for one lock.
pub const MAX_PERMITS: u32 = 65_536;

/// Whom a hold excludes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Exclusive holds.
    Shared,
    /// All other holds.
    Exclusive,
    /// Those for which too few permits are left.
    Permits {
        /// How many are taken, 1..=`of`.
        count: u32,
        /// How many there are, 1..=[`MAX_PERMITS`]: the same for all who use the semaphore.
        of: u32,
    },
    /// Nobody: it is granted to all at once when so many wait, and never held.
    Meet {
        /// How many, 1..=[`MAX_PERMITS`]: the same for all who meet.
        parties: u32,
    },
}

/// What a lock is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Usage {
    /// Shared and exclusive holds.
    Lock,
    /// A semaphore of so many permits.
    Semaphore {
        /// How many.
        of: u32,
    },
    /// A barrier of so many parties.
    Barrier {
        /// How many.
        parties: u32,
    },
}

impl Mode {
    /// What a lock must be used as to be taken so.
    #[must_use]
    pub const fn usage(self) -> Usage {
        match self {
            Self::Shared | Self::Exclusive => Usage::Lock,
            Self::Permits { of, .. } => Usage::Semaphore { of },
            Self::Meet { parties } => Usage::Barrier { parties },
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock => f.write_str("a lock"),
            Self::Semaphore { of } => write!(f, "a semaphore of {of} permits"),
            Self::Barrier { parties } => write!(f, "a barrier of {parties} parties"),
        }
    }
}

impl Encode for Mode {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Shared => out.push(1),
            Self::Exclusive => out.push(2),
            Self::Permits { count, of } => {
                out.push(3);
                count.encode_into(out);
                of.encode_into(out);
            }
            Self::Meet { parties } => {
                out.push(4);
                parties.encode_into(out);
            }
        }
    }
}

impl Decode for Mode {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            1 => Ok(Self::Shared),
            2 => Ok(Self::Exclusive),
            3 => {
                let count = u32::decode_from(input)?;
                let of = bounded("number of permits", input)?;
                check_bounds("permits taken", count.into(), 1, of.into())?;
                Ok(Self::Permits { count, of })
            }
            4 => Ok(Self::Meet {
                parties: bounded("number of parties", input)?,
            }),
            tag => Err(DecodeError::UnknownTag { what: "mode", tag }),
        }
    }
}

impl Encode for Usage {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Lock => out.push(1),
            Self::Semaphore { of } => {
                out.push(2);
                of.encode_into(out);
            }
            Self::Barrier { parties } => {
                out.push(3);
                parties.encode_into(out);
            }
        }
    }
}

impl Decode for Usage {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            1 => Ok(Self::Lock),
            2 => Ok(Self::Semaphore {
                of: bounded("number of permits", input)?,
            }),
            3 => Ok(Self::Barrier {
                parties: bounded("number of parties", input)?,
            }),
            tag => Err(DecodeError::UnknownTag { what: "usage", tag }),
        }
    }
}

fn bounded(what: &'static str, input: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let number = u32::decode_from(input)?;
    check_bounds(what, number.into(), 1, MAX_PERMITS.into())?;
    Ok(number)
}
