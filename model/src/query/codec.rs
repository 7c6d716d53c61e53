//! The encoding of queries and answers: what a node that took a question and the leader exchange.
//!
//! Invariants: a tag keeps its meaning for ever, and a decoded query is within every bound that its
//! fields document.

use super::{Answer, ClusterView, HolderView, LockView, MAX_PAGE, Query, SessionView, WaiterView};
use crate::{
    codec::{
        Decode, DecodeError, Encode, Reader, bounded_list, check_bounds, decode_versioned,
        encode_versioned, fields,
    },
    id::MAX_LOCK_NAME_BYTES,
    locks::deadlock::{MAX_ASKED, MAX_CYCLE},
};

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

impl Encode for Query {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Lock { name } => {
                out.push(1);
                name.encode_into(out);
            }
            Self::Locks {
                prefix,
                after,
                limit,
            } => {
                out.push(2);
                prefix.encode_into(out);
                after.encode_into(out);
                limit.encode_into(out);
            }
            Self::Validate {
                name,
                token,
                session,
            } => {
                out.push(3);
                name.encode_into(out);
                token.encode_into(out);
                session.encode_into(out);
            }
            Self::Sessions { after, limit } => {
                out.push(4);
                after.encode_into(out);
                limit.encode_into(out);
            }
            Self::Cluster => out.push(5),
            Self::Touched { sessions } => {
                out.push(6);
                sessions.encode_into(out);
            }
            Self::Waits { parties } => {
                out.push(7);
                parties.encode_into(out);
            }
            Self::Stand { edges } => {
                out.push(8);
                edges.encode_into(out);
            }
            Self::Deadlocks => out.push(9),
            Self::Revision => out.push(10),
        }
    }
}

impl Decode for Query {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            1 => Self::Lock {
                name: Decode::decode_from(input)?,
            },
            2 => Self::Locks {
                prefix: prefix(input)?,
                after: Decode::decode_from(input)?,
                limit: page_limit(input)?,
            },
            3 => Self::Validate {
                name: Decode::decode_from(input)?,
                token: Decode::decode_from(input)?,
                session: Decode::decode_from(input)?,
            },
            4 => Self::Sessions {
                after: Decode::decode_from(input)?,
                limit: page_limit(input)?,
            },
            5 => Self::Cluster,
            6 => Self::Touched {
                sessions: bounded_list(input, "number of sessions", 0, MAX_ASKED)?,
            },
            7 => Self::Waits {
                parties: bounded_list(input, "number of parties", 0, MAX_ASKED)?,
            },
            8 => Self::Stand {
                edges: bounded_list(input, "number of edges", 0, MAX_CYCLE)?,
            },
            9 => Self::Deadlocks,
            10 => Self::Revision,
            tag => return Err(DecodeError::UnknownTag { what: "query", tag }),
        })
    }
}

fn prefix(input: &mut Reader<'_>) -> Result<String, DecodeError> {
    let prefix = input.text()?;
    check_bounds(
        "prefix's length",
        prefix.len() as u64,
        0,
        MAX_LOCK_NAME_BYTES as u64,
    )?;
    Ok(prefix.to_owned())
}

fn page_limit(input: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let limit = u32::decode_from(input)?;
    check_bounds("page limit", u64::from(limit), 1, u64::from(MAX_PAGE))?;
    Ok(limit)
}

impl Encode for Answer {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Lock(view) => {
                out.push(1);
                view.encode_into(out);
            }
            Self::Locks(views) => {
                out.push(2);
                views.encode_into(out);
            }
            Self::Valid(valid) => {
                out.push(3);
                valid.encode_into(out);
            }
            Self::Sessions(views) => {
                out.push(4);
                views.encode_into(out);
            }
            Self::Cluster(view) => {
                out.push(5);
                view.encode_into(out);
            }
            Self::WrongShard => out.push(6),
            Self::Touched(shards) => {
                out.push(7);
                shards.encode_into(out);
            }
            Self::Waits(waits) => {
                out.push(8);
                waits.encode_into(out);
            }
            Self::Stand(stand) => {
                out.push(9);
                stand.encode_into(out);
            }
            Self::Deadlocks { count, last } => {
                out.push(10);
                count.encode_into(out);
                last.encode_into(out);
            }
            Self::Revision(revision) => {
                out.push(11);
                revision.encode_into(out);
            }
        }
    }
}

impl Decode for Answer {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            1 => Self::Lock(Decode::decode_from(input)?),
            2 => Self::Locks(Decode::decode_from(input)?),
            3 => Self::Valid(Decode::decode_from(input)?),
            4 => Self::Sessions(Decode::decode_from(input)?),
            5 => Self::Cluster(Decode::decode_from(input)?),
            6 => Self::WrongShard,
            7 => Self::Touched(Decode::decode_from(input)?),
            8 => Self::Waits(Decode::decode_from(input)?),
            9 => Self::Stand(Decode::decode_from(input)?),
            10 => Self::Deadlocks {
                count: Decode::decode_from(input)?,
                last: Decode::decode_from(input)?,
            },
            11 => Self::Revision(Decode::decode_from(input)?),
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "answer",
                    tag,
                });
            }
        })
    }
}

fields!(LockView {
    name,
    holders,
    waiters,
    waiter_count
});
fields!(HolderView {
    session,
    owner,
    mode,
    token,
    holds,
    since,
    value
});
fields!(WaiterView {
    session,
    owner,
    mode,
    upgrade,
    since
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
fields!(ClusterView {
    cluster,
    settings,
    nodes,
    placement,
    last_node,
    revision,
    lifecycles
});
