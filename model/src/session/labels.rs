//! What a client says about its session, for people.
//!
//! Invariant: what is decoded is within the bounds that are named here.

use std::collections::BTreeMap;

use crate::codec::{Decode as _, DecodeError, Reader, check_bounds, check_count};

/// Most labels on a session, and their sizes in bytes: shown in listings, kept in every snapshot.
pub const MAX_LABELS: usize = 16;
/// Longest label key in bytes.
pub const MAX_LABEL_KEY_BYTES: usize = 64;
/// Longest label value in bytes.
pub const MAX_LABEL_VALUE_BYTES: usize = 256;

/// Free text about a session.
pub type Labels = BTreeMap<String, String>;

/// Reads labels that are within their bounds.
pub(crate) fn decode_labels(input: &mut Reader<'_>) -> Result<Labels, DecodeError> {
    check_count("number of labels", input, 0, MAX_LABELS)?;
    let labels = Labels::decode_from(input)?;
    for (key, value) in &labels {
        check_length("label key's length", key, MAX_LABEL_KEY_BYTES)?;
        check_length("label value's length", value, MAX_LABEL_VALUE_BYTES)?;
    }
    Ok(labels)
}

fn check_length(what: &'static str, text: &str, max: usize) -> Result<(), DecodeError> {
    check_bounds(what, text.len() as u64, 0, max as u64)
}
