//! Why a session ended.

use crate::codec::{Decode, DecodeError, Encode, Reader};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// Its client said so.
    Closed,
    /// No keep-alive came within its TTL.
    Expired,
}

impl Encode for EndReason {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Closed => 1,
            Self::Expired => 2,
        });
    }
}

impl Decode for EndReason {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            1 => Ok(Self::Closed),
            2 => Ok(Self::Expired),
            tag => Err(DecodeError::UnknownTag {
                what: "end reason",
                tag,
            }),
        }
    }
}
