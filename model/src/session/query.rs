//! What a shard can be asked about sessions, and what it answers.
//!
//! Invariant: a decoded query is within every bound that its fields document.

use super::Labels;
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, bounded_list, fields, put, tagged},
    id::{Millis, Priority, SessionEpoch, SessionId, ShardId, Timestamp},
    page::{Page, decode_limit},
};

/// Most sessions that one question may ask for.
pub const MAX_SESSIONS_ASKED: usize = 256;

/// A question about sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionQuery {
    /// Sessions by id whose home this shard is.
    Sessions {
        /// Only ids greater than this.
        after: Option<SessionId>,
        /// At most this many, 1..=[`crate::page::MAX_PAGE`].
        limit: u32,
    },
    /// In which shards sessions may hold or wait, of those whose home this shard is.
    Touched {
        /// Which: at most [`MAX_SESSIONS_ASKED`].
        sessions: Vec<SessionId>,
    },
}

/// An answer about sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionAnswer {
    /// A page of sessions, by id.
    Sessions(Page<SessionView>),
    /// The shards of those sessions that are open, the home among them.
    Touched(Vec<(SessionId, Vec<ShardId>)>),
}

/// A session as its home sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Which.
    pub session: SessionId,
    /// Its TTL.
    pub ttl: Millis,
    /// Its epoch.
    pub epoch: SessionEpoch,
    /// Its priority.
    pub priority: Priority,
    /// What its client said about it.
    pub labels: Labels,
    /// When it was opened.
    pub opened: Timestamp,
    /// Other shards that it may hold something in.
    pub touched: Vec<ShardId>,
    /// True while it is being released.
    pub ending: bool,
}

impl Encode for SessionQuery {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sessions { after, limit } => put(out, 1, &[after, limit]),
            Self::Touched { sessions } => put(out, 2, &[sessions]),
        }
    }
}

impl Decode for SessionQuery {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            1 => Self::Sessions {
                after: Decode::decode_from(input)?,
                limit: decode_limit(input)?,
            },
            2 => Self::Touched {
                sessions: bounded_list(input, "number of sessions", 0, MAX_SESSIONS_ASKED)?,
            },
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "session query",
                    tag,
                });
            }
        })
    }
}

tagged!(SessionAnswer, "session answer", {
    1 => Sessions(inner),
    2 => Touched(inner),
});

fields!(SessionView {
    session,
    ttl,
    epoch,
    priority,
    labels,
    opened,
    touched,
    ending
});
