//! Pages: how much of a list one answer holds.

use crate::codec::{Decode as _, DecodeError, Reader, check_bounds};

/// Most rows in one answer: bounds the size of a message.
pub const MAX_PAGE: u32 = 1_000;

/// Reads how many rows are asked for, 1..=[`MAX_PAGE`].
pub(crate) fn decode_limit(input: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let limit = u32::decode_from(input)?;
    check_bounds("page limit", u64::from(limit), 1, u64::from(MAX_PAGE))?;
    Ok(limit)
}
