//! What a command came to, and what its leader does next: the same for every service.

use crate::{
    id::{Millis, Serial, SessionEpoch, SessionId, ShardTime},
    reply::Reply,
    session::EndReason,
};

/// The outcome of one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is answered.
    Done(Reply),
    /// It is blocked; an [`Effect::Complete`] will follow, perhaps in this very batch.
    Pending,
}

/// Something for the leader to do. Followers ignore effects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Answer an operation that was pending.
    Complete {
        /// Whose.
        session: SessionId,
        /// Which.
        serial: Serial,
        /// With what.
        reply: Reply,
    },
    /// Watch over a session of which this shard is the home: start its TTL (anew).
    SessionAlive {
        /// Which.
        session: SessionId,
        /// Its TTL.
        ttl: Millis,
        /// Its epoch.
        epoch: SessionEpoch,
    },
    /// The session is not kept alive any more, but holds what it holds until its time is over: tell its
    /// streams.
    SessionRevoked {
        /// Which.
        session: SessionId,
    },
    /// The session has ended: stop watching, tell its streams, release it in the touched shards.
    SessionEnding {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// The earliest deadline of any service has changed: propose [`Expire`](crate::Command::Expire) at this
    /// time.
    NextDeadline(Option<ShardTime>),
}
