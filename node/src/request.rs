//! What a node asks of the leader of a shard, and what comes back: locally or over the wire.
//!
//! Invariant: every failure says whether something may have been done, which decides whether it
//! may be repeated.

use lockstep_model::{Answer, Command, Millis, NodeId, Query, Reply, SessionId};

/// A request to a shard's leader.
#[derive(Clone, Debug)]
pub enum Request {
    /// Change the state.
    Command(Command),
    /// Read it, linearizably.
    Query(Query),
    /// Extend a session of which the shard is the home.
    KeepAlive(SessionId),
    /// Wait until a session of which the shard is the home is over, or revoked.
    AwaitEnd(SessionId),
}

/// The answer.
#[derive(Clone, Debug)]
pub enum Response {
    /// To a command; to the wait for an end: the refusal that says so.
    Reply(Reply),
    /// To a query.
    Answer(Answer),
    /// To a keep-alive: the session's TTL.
    KeptAlive(Millis),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Nothing was done: this node does not lead the shard.
    #[error("this node does not lead the shard")]
    NotLeader {
        /// Who does, where known.
        leader: Option<NodeId>,
    },
    /// Nothing was done: the leader could not be reached.
    #[error("node {node} cannot be reached")]
    Unreachable {
        /// The one that was thought to lead.
        node: NodeId,
    },
    /// It may have been done, or may still be.
    #[error("the outcome is unknown: the leader or the connection to it was lost")]
    UnknownOutcome,
    /// Nothing was done: the shard's queue is full.
    #[error("the shard's queue is full")]
    Busy,
    /// Nothing was done: the leader's disk is nearly full, and the request needs room.
    #[error("the disk of the shard's leader is nearly full")]
    DiskLow,
    /// Keep-alive: the session has ended, or never was.
    #[error("the session does not exist: it has ended, or was never opened; open another")]
    NoSession,
    /// The leader does not understand the request: its version differs.
    #[error("the leader does not understand the request: {what}")]
    Malformed {
        /// What it said.
        what: String,
    },
}
