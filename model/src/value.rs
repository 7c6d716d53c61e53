//! What a holder says with its hold: the value of an elected leader, for one.
//!
//! Invariant: at most [`MAX_VALUE_BYTES`], wherever it is found.

use std::sync::Arc;

use crate::codec::{Decode, DecodeError, Encode, Reader, check_bounds, put_count};

/// Longest value in bytes: an address or a small document. It is kept in memory, in every snapshot
/// and in the history of changes.
pub const MAX_VALUE_BYTES: usize = 4_096;

/// Bytes of a holder's choice. Cheap to clone; empty where nothing was said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(Option<Arc<[u8]>>);

/// A value is over its bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a value of {len} bytes is too long: at most {MAX_VALUE_BYTES} are allowed")]
pub struct ValueTooLong {
    /// Its length in bytes.
    pub len: usize,
}

impl Value {
    /// Nothing said.
    pub const EMPTY: Self = Self(None);

    /// Checks the bound.
    ///
    /// # Errors
    /// If there are more than [`MAX_VALUE_BYTES`].
    pub fn new(bytes: &[u8]) -> Result<Self, ValueTooLong> {
        match bytes.len() {
            0 => Ok(Self::EMPTY),
            len if len > MAX_VALUE_BYTES => Err(ValueTooLong { len }),
            _ => Ok(Self(Some(bytes.into()))),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Default for Value {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl Encode for Value {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_count(out, self.as_bytes().len());
        out.extend_from_slice(self.as_bytes());
    }
}

impl Decode for Value {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let len = input.count()?;
        check_bounds("value's length", len as u64, 0, MAX_VALUE_BYTES as u64)?;
        Ok(Self::new(input.take(len)?).unwrap_or_default())
    }
}
