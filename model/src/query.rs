//! What a shard can be asked without changing it. Served by the leader after a ReadIndex round.
//!
//! Invariant: a decoded query is within every bound that its fields document. What each service is
//! asked stands in its room; here is only which services there are.

use crate::{
    codec::{Decode, DecodeError, Encode, Reader, decode_versioned, encode_versioned, tagged},
    locks::query::{LockAnswer, LockQuery},
    meta::query::{MetaAnswer, MetaQuery},
    session::{SessionAnswer, SessionQuery},
};

/// A question. Encoded with [`Query::encode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// About sessions.
    Session(SessionQuery),
    /// About locks.
    Lock(LockQuery),
    /// To the meta shard.
    Meta(MetaQuery),
}

/// An answer. Encoded with [`Answer::encode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This shard does not serve such questions.
    WrongShard,
    /// About sessions.
    Session(SessionAnswer),
    /// About locks.
    Lock(LockAnswer),
    /// Of the meta shard.
    Meta(MetaAnswer),
}

impl Query {
    /// The version byte and the encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_versioned(self)
    }

    /// Reads what [`Query::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not exactly one query whose fields are within their bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_versioned(bytes)
    }
}

impl Answer {
    /// The version byte and the encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_versioned(self)
    }

    /// Reads what [`Answer::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not exactly one answer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_versioned(bytes)
    }
}

tagged!(Query, "query", {
    1 => Session(query),
    2 => Lock(query),
    3 => Meta(query),
});

tagged!(Answer, "answer", {
    1 => WrongShard,
    2 => Session(answer),
    3 => Lock(answer),
    4 => Meta(answer),
});
