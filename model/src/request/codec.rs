//! The encodings of requests.
//!
//! Invariant: a tag keeps its meaning for ever, and what is decoded is within its bounds.

use super::{AckedRanges, MAX_RANGES_PER_REQUEST, MAX_WAIT, RequestId, SerialRange, Wait};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, bounded_list, check_bounds, fields},
    id::{Millis, Serial},
};

impl Encode for RequestId {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.session.encode_into(out);
        self.serial.encode_into(out);
        self.acked_below.encode_into(out);
        let ranges: Vec<SerialRange> = self.acked.iter().collect();
        ranges.encode_into(out);
    }
}

impl Decode for RequestId {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let session = Decode::decode_from(input)?;
        let serial = Decode::decode_from(input)?;
        let acked_below = Serial::decode_from(input)?;
        check_bounds("acked_below", acked_below.0, 0, Serial::FIRST_EPHEMERAL.0)?;
        let ranges: Vec<SerialRange> =
            bounded_list(input, "number of ranges", 0, MAX_RANGES_PER_REQUEST)?;
        let acked = AckedRanges::new(ranges).ok_or(DecodeError::NotAscending)?;
        Ok(Self {
            session,
            serial,
            acked_below,
            acked,
        })
    }
}

fields!(SerialRange { from, below });

impl Encode for Wait {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Try => out.push(1),
            Self::AtMost(span) => {
                out.push(2);
                span.encode_into(out);
            }
            Self::Forever => out.push(3),
        }
    }
}

impl Decode for Wait {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            1 => Ok(Self::Try),
            2 => {
                let span = Millis::decode_from(input)?;
                check_bounds("wait in ms", span.0, 1, MAX_WAIT.0)?;
                Ok(Self::AtMost(span))
            }
            3 => Ok(Self::Forever),
            tag => Err(DecodeError::UnknownTag { what: "wait", tag }),
        }
    }
}
