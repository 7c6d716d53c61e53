//! What a shard's queues can be asked without changing them.

mod codec;

use super::{
    bodies::BodyRef,
    definition::Definition,
    effect::Origin,
    id::{
        ConsumerEpoch, ConsumerId, DeliveryNumber, MessagePriority, OrderingKey, PartitionId,
        QueueId, Sequence,
    },
    partition::{Counts, Totals},
};
use crate::id::ShardTime;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueQuery {
    /// One queue.
    Describe {
        /// Which.
        queue: QueueId,
    },
    /// Queues by id.
    List {
        /// Only greater ids.
        after: QueueId,
        /// At most this many, 1..=[`crate::page::MAX_PAGE`].
        limit: u32,
    },
    /// The messages of a partition by sequence, whatever their state.
    Peek {
        /// Which.
        partition: PartitionId,
        /// Only greater sequences.
        after: Sequence,
        /// At most this many, 1..=[`crate::page::MAX_PAGE`].
        limit: u32,
    },
    /// Is this lease still there? Asked before a body that is missing is taken for damage.
    Holds {
        /// Where.
        partition: PartitionId,
        /// Whose.
        consumer: ConsumerEpoch,
        /// Which.
        number: DeliveryNumber,
    },
    /// The consumers of a partition, by epoch.
    Consumers {
        /// Which.
        partition: PartitionId,
        /// Only greater epochs.
        after: ConsumerEpoch,
        /// At most this many, 1..=[`crate::page::MAX_PAGE`].
        limit: u32,
    },
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueAnswer {
    /// One queue; none if the shard was not told of it, or it is gone.
    Queue(Option<QueueView>),
    /// A page of queues.
    Queues(Vec<QueueView>),
    /// A page of messages.
    Messages(Vec<MessageView>),
    /// Whether the lease is there.
    Holds(bool),
    /// A page of consumers.
    Consumers(Vec<ConsumerView>),
}

/// A queue, as one shard sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueView {
    /// Which.
    pub queue: QueueId,
    /// Of its definition.
    pub revision: u64,
    /// What it is.
    pub definition: Definition,
    /// The partitions that live here and were used, by number.
    pub partitions: Vec<PartitionView>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionView {
    /// Which.
    pub partition: PartitionId,
    /// What is there.
    pub counts: Counts,
    /// What became of what was there.
    pub totals: Totals,
    /// The greatest sequence that was given: what to purge or redrive up to.
    pub last_sequence: Sequence,
    /// When the oldest message that is ready, delayed or leased was published.
    pub oldest: Option<ShardTime>,
}

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageView {
    /// Its place.
    pub sequence: Sequence,
    /// Where its body is.
    pub body: BodyRef,
    /// In which order it belongs.
    pub key: Option<OrderingKey>,
    /// How urgent it is.
    pub priority: MessagePriority,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was published.
    pub since: ShardTime,
    /// When it is dropped.
    pub expires: Option<ShardTime>,
    /// Where it came from, if it was given up there.
    pub origin: Option<Origin>,
    /// Where it stands.
    pub state: MessageState,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// It is to be delivered.
    Ready,
    /// It is to be delivered later.
    Delayed {
        /// When.
        due: ShardTime,
    },
    /// A consumer has it.
    Leased {
        /// Who.
        consumer: ConsumerEpoch,
        /// Under which number.
        number: DeliveryNumber,
        /// Until when.
        deadline: ShardTime,
    },
    /// It was given up, and is kept.
    Dead {
        /// Why.
        reason: super::command::DeathReason,
    },
    /// It is on its way to another queue.
    Moving {
        /// Where to.
        to: QueueId,
    },
}

/// A consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerView {
    /// Its epoch.
    pub consumer: ConsumerEpoch,
    /// How it calls itself.
    pub id: ConsumerId,
    /// How many leases it has.
    pub in_flight: u32,
    /// The number of its next new delivery.
    pub next: DeliveryNumber,
}
