//! What those who watch a lock are told.
//!
//! Invariant: every change of who holds a lock, how, or with which value is one [`Change`], in the
//! order in which they happened, numbered without a gap within its shard. Every replica makes the
//! same ones.

use crate::{
    codec::{Decode, DecodeError, Encode, Reader, decode_versioned, encode_versioned, fields},
    id::{FencingToken, LockName, Owner, Revision, SessionId, Timestamp},
    locks::mode::Mode,
    value::Value,
};

/// A change of a lock's holders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number in its shard.
    pub revision: Revision,
    /// When.
    pub at: Timestamp,
    /// Of which lock.
    pub name: LockName,
    /// What.
    pub kind: ChangeKind,
    /// Whose hold.
    pub session: SessionId,
    /// Which of its owners.
    pub owner: Owner,
    /// How it is, or was, held.
    pub mode: Mode,
    /// The hold's token.
    pub token: FencingToken,
    /// What the holder says, or said last.
    pub value: Value,
}

/// What happened to a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// It is there already: told when a watch begins.
    Present,
    /// It is new.
    Acquired,
    /// It was upgraded, with a new token, or downgraded.
    Converted,
    /// Its holder says something else.
    Proclaimed,
    /// It is over.
    Released,
}

impl Change {
    /// The version byte and the encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_versioned(self)
    }

    /// Reads what [`Change::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not exactly one change.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_versioned(bytes)
    }
}

fields!(Change {
    revision,
    at,
    name,
    kind,
    session,
    owner,
    mode,
    token,
    value
});

impl Encode for ChangeKind {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Present => 1,
            Self::Acquired => 2,
            Self::Converted => 3,
            Self::Proclaimed => 4,
            Self::Released => 5,
        });
    }
}

impl Decode for ChangeKind {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            1 => Ok(Self::Present),
            2 => Ok(Self::Acquired),
            3 => Ok(Self::Converted),
            4 => Ok(Self::Proclaimed),
            5 => Ok(Self::Released),
            tag => Err(DecodeError::UnknownTag {
                what: "kind of change",
                tag,
            }),
        }
    }
}
