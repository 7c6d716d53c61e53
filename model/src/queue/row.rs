//! A message that has more to it than its place in the order: a key, a priority, a time, a failed try.
//!
//! Invariant: a plain message has no row until a try of it fails; one that has a row is not among the
//! plain ones.

use super::{
    bodies::{BodyRef, Plain},
    command::{DeathReason, MoveCause},
    effect::{MoveOrder, Origin},
    id::{MessagePriority, MoveNumber, OrderingKey, PartitionId, QueueId, Sequence},
};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, fields, tagged},
    id::ShardTime,
};

/// A message of a partition.
pub(crate) type MessageAt = (PartitionId, Sequence);

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) body: BodyRef,
    pub(crate) key: Option<OrderingKey>,
    pub(crate) priority: MessagePriority,
    /// When it was published.
    pub(crate) since: ShardTime,
    /// How often it was tried.
    pub(crate) attempts: u32,
    /// When it is dropped, unless it is leased, dead or moving.
    pub(crate) expires: Option<ShardTime>,
    pub(crate) origin: Option<Origin>,
    pub(crate) standing: Standing,
}

/// Where a message stands, apart from whether it is leased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is delivered as soon as may be; leased ones are ready too.
    Ready,
    /// It was published for later, and has no place in its key's order until then.
    Delayed(ShardTime),
    /// A try of it failed, and the next one is to be later. It keeps its place, and its key waits.
    Retrying(ShardTime),
    /// It was given up and stays.
    Dead(DeathReason),
    /// It goes to another queue, and stays until it is there.
    Moving {
        number: MoveNumber,
        to: QueueId,
        cause: MoveCause,
    },
}

/// Where a message stands, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Ready,
    Delayed,
    Leased,
    Dead,
    Moving,
}

impl Row {
    /// Of a plain message.
    pub(crate) fn of_plain(plain: Plain) -> Self {
        Self {
            body: plain.body,
            key: None,
            priority: MessagePriority::default(),
            since: plain.since,
            attempts: 0,
            expires: None,
            origin: None,
            standing: Standing::Ready,
        }
    }

    pub(crate) const fn state(&self, is_leased: bool) -> State {
        match self.standing {
            Standing::Ready if is_leased => State::Leased,
            Standing::Ready => State::Ready,
            Standing::Delayed(_) | Standing::Retrying(_) => State::Delayed,
            Standing::Dead(_) => State::Dead,
            Standing::Moving { .. } => State::Moving,
        }
    }

    /// What is to be done if it is moving.
    pub(crate) fn order(&self, (source, sequence): MessageAt) -> Option<MoveOrder> {
        let Standing::Moving { number, to, cause } = self.standing else {
            return None;
        };
        Some(MoveOrder {
            source,
            sequence,
            number,
            to,
            cause,
            body: self.body,
            key: self.key.clone(),
            priority: self.priority,
        })
    }
}

fields!(Row {
    body,
    key,
    priority,
    since,
    attempts,
    expires,
    origin,
    standing
});

tagged!(Standing, "standing of a message", {
    1 => Ready,
    2 => Delayed(due),
    3 => Retrying(due),
    4 => Dead(reason),
    5 => Moving { number, to, cause },
});
