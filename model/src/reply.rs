//! What a command answers: the fact, not the words.
//!
//! Invariant: every refusal changed nothing but the de-duplication record. What each service answers
//! stands in its room; here is only which services there are.

use crate::{
    codec::{Decode, DecodeError, Encode, Reader, decode_versioned, encode_versioned, tagged},
    locks::reply::{LockRefusal, LockReply},
    meta::reply::{MetaRefusal, MetaReply},
    session::{SessionRefusal, SessionReply},
};

/// The answer to a command. Encoded with [`Reply::encode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; nothing to add.
    Done,
    /// It was not done, for this reason.
    Refused(Refusal),
    /// About a session.
    Session(SessionReply),
    /// About locks.
    Lock(LockReply),
    /// Of the meta shard.
    Meta(MetaReply),
}

/// Why a command was not done. Each says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The command is outside its bounds. Nodes check before they propose, so this means that two
    /// versions disagree.
    #[error("the command is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: String,
    },
    /// The command is for another kind of shard.
    #[error("this shard does not serve such commands")]
    WrongShard,
    /// Its session, or its serial.
    #[error(transparent)]
    Session(#[from] SessionRefusal),
    /// The locks.
    #[error(transparent)]
    Lock(#[from] LockRefusal),
    /// The meta shard's tables.
    #[error(transparent)]
    Meta(#[from] MetaRefusal),
}

impl Reply {
    /// The version byte and the encoding.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode_versioned(self)
    }

    /// Reads what [`Reply::encode`] wrote.
    ///
    /// # Errors
    /// If the bytes are not exactly one reply.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode_versioned(bytes)
    }
}

impl<R: Into<Refusal>> From<R> for Reply {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal.into())
    }
}

tagged!(Reply, "reply", {
    1 => Done,
    2 => Refused(refusal),
    3 => Session(reply),
    4 => Lock(reply),
    5 => Meta(reply),
});

tagged!(Refusal, "refusal", {
    1 => Malformed { what },
    2 => WrongShard,
    3 => Session(refusal),
    4 => Lock(refusal),
    5 => Meta(refusal),
});
