//! What the leader does for the queues after a batch. Followers ignore effects.
//!
//! Invariant: what an effect says is in the state too, so a leader that dies before it has carried one
//! out loses nothing: consumers attach again and name what they have received, and a new leader asks
//! for the moves that are not confirmed.

use super::{
    bodies::BodyRef,
    command::MoveCause,
    id::{
        ConsumerEpoch, DeliveryNumber, MessagePriority, MoveNumber, OrderingKey, PartitionId,
        QueueId, Sequence,
    },
};
use crate::{
    codec::fields,
    codec::{Decode, DecodeError, Encode, Reader},
    id::ShardTime,
};

/// Something for the leader to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueEffect {
    /// Read the bodies, and send them to the consumer.
    Deliver {
        /// Where.
        partition: PartitionId,
        /// To whom.
        consumer: ConsumerEpoch,
        /// By ascending numbers. Those of a resend leave out what was settled.
        deliveries: Vec<Delivery>,
    },
    /// A lease has run out: the consumer has room again, and what it says of the delivery is refused.
    Lapsed {
        /// Where.
        partition: PartitionId,
        /// Whose.
        consumer: ConsumerEpoch,
        /// Which.
        number: DeliveryNumber,
    },
    /// A consumer is forgotten: it has to attach anew.
    ConsumerGone {
        /// Where.
        partition: PartitionId,
        /// Who.
        consumer: ConsumerEpoch,
    },
    /// Store the message in the other queue by [`super::command::QueueCommand::ReceiveMoved`], always in
    /// the same partition of it ([`super::route::partition_of_move`]); then confirm.
    Move(MoveOrder),
    /// There are messages that could be delivered: put offers into the next batch.
    Available {
        /// Where.
        partition: PartitionId,
    },
    /// The queue is gone: end its streams.
    Removed {
        /// Which.
        queue: QueueId,
    },
    /// When [`super::command::QueueCommand::ExpireDue`] is to be proposed has changed.
    NextDue(Option<ShardTime>),
}

/// A message that somebody has leased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its number with its consumer.
    pub number: DeliveryNumber,
    /// Its place in the partition.
    pub sequence: Sequence,
    /// Where its body is.
    pub body: BodyRef,
    /// In which order it belongs.
    pub key: Option<OrderingKey>,
    /// How urgent it is.
    pub priority: MessagePriority,
    /// How often it was tried before.
    pub attempts: u32,
    /// When it was published.
    pub since: ShardTime,
    /// When the lease runs out.
    pub deadline: ShardTime,
    /// Where it came from, if it was given up there.
    pub origin: Option<Origin>,
}

/// Where a message was given up that moved here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Where.
    pub source: PartitionId,
    /// Its place there.
    pub sequence: Sequence,
    /// Why, and after how many attempts.
    pub cause: MoveCause,
}

fields!(Origin {
    source,
    sequence,
    cause
});

/// A message that is to go to another queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveOrder {
    /// Where from.
    pub source: PartitionId,
    /// Its place there.
    pub sequence: Sequence,
    /// Of the move.
    pub number: MoveNumber,
    /// Where to.
    pub to: QueueId,
    /// Why.
    pub cause: MoveCause,
    /// Where its body is.
    pub body: BodyRef,
    /// In which order it belongs.
    pub key: Option<OrderingKey>,
    /// How urgent it is.
    pub priority: MessagePriority,
}
