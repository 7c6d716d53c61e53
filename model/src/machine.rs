//! One replica's state machine, of either kind.
//!
//! Invariant: `apply` is total and deterministic: any decoded batch gives one outcome per command
//! and never panics, and replicas that applied the same batches are equal, byte for byte, in
//! [`Machine::snapshot`].

use crate::{
    command::Batch,
    id::{Millis, Serial, SessionEpoch, SessionId, ShardTime},
    locks::change::Change,
    meta::Meta,
    reply::Reply,
    shard::Shard,
};

/// The state machine of one replica.
#[derive(Clone, Debug)]
pub enum Machine {
    /// Shard 0: nodes, placement, settings.
    Meta(Meta),
    /// A data shard: sessions and locks.
    Data(Shard),
}

/// What applying a batch gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// One for each command, in order.
    pub outcomes: Vec<Outcome>,
    /// What the leader now does, in order.
    pub effects: Vec<Effect>,
    /// What those who watch are told, by every replica, in order.
    pub changes: Vec<Change>,
}

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
        reason: crate::session::EndReason,
    },
    /// The earliest deadline among the waits has changed: propose `ExpireWaits` at this time.
    NextWaitDeadline(Option<ShardTime>),
}

impl Machine {
    /// Applies one committed batch.
    pub fn apply(&mut self, batch: Batch) -> Applied {
        match self {
            Self::Meta(meta) => meta.apply(batch),
            Self::Data(shard) => shard.apply(batch),
        }
    }

    /// The latest time in its batches; the meta shard has none.
    #[must_use]
    pub const fn now(&self) -> ShardTime {
        match self {
            Self::Meta(_) => ShardTime(0),
            Self::Data(shard) => shard.now(),
        }
    }

    /// Answers a question from the present state.
    #[must_use]
    pub fn query(&self, query: &crate::query::Query) -> crate::query::Answer {
        match self {
            Self::Meta(meta) => meta.query(query),
            Self::Data(shard) => shard.query(query),
        }
    }
}
