//! What a queue's command answers: the fact, not the words.
//!
//! Invariant: what was refused changed nothing.

mod codec;

use super::id::{
    ConsumerEpoch, DeliveryNumber, PartitionId, ProducerEpoch, ProducerSequence, QueueId, Sequence,
};

/// The answer to a [`super::command::QueueCommand`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueReply {
    /// Done; nothing to add.
    Done,
    /// What became of each message, in order.
    Published(Vec<Published>),
    /// The producer may number its messages.
    Producer {
        /// In this time of its.
        producer: ProducerEpoch,
    },
    /// The consumer may be offered for. What it has not received is sent by an effect.
    Attached {
        /// In this time of its.
        consumer: ConsumerEpoch,
        /// True if it was not known: it has no deliveries, and receipts of an earlier time are void.
        is_new: bool,
        /// The number of its next new delivery.
        next: DeliveryNumber,
    },
    /// What became of each offer, in order.
    Offered(Vec<Offered>),
    /// How many deliveries each verdict settled, in order. Fewer than were meant: the others were settled
    /// before, or their leases have run out.
    Settled(Vec<u32>),
    /// So many were handled.
    Handled {
        /// How many.
        count: u32,
        /// True if there are more: again.
        more: bool,
    },
    /// It was not done, for this reason.
    Refused(QueueRefusal),
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is stored.
    Stored(Sequence),
    /// It was stored before, by an earlier try.
    Duplicate,
    /// It is not stored.
    Refused(QueueRefusal),
}

/// What became of an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It was counted.
    Counted {
        /// How much of it is its consumer's again.
        unused: u32,
    },
    /// It came before, or after a later one: all of it is its consumer's again, unless it was counted
    /// when it came first.
    Stale,
    /// There is no such consumer: it has to attach.
    NoConsumer,
}

/// Why a command was not done. Each says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueRefusal {
    /// The shard was not told of the queue.
    #[error("queue {queue} is not known to this shard (yet): try again")]
    NoQueue {
        /// Which.
        queue: QueueId,
    },
    /// The queue was deleted.
    #[error("queue {queue} was deleted, with all that it held")]
    QueueGone {
        /// Which.
        queue: QueueId,
    },
    /// The partition lives elsewhere, or does not exist.
    #[error("partition {partition} does not live in this shard: look up where it does")]
    NotHosted {
        /// Which.
        partition: PartitionId,
    },
    /// The number of partitions of a queue does not change.
    #[error("the queue has {partitions} partitions, which cannot be changed: make another queue")]
    FixedPartitions {
        /// How many.
        partitions: u32,
    },
    /// The message is over the queue's bound.
    #[error("a message of {length} bytes is too large for the queue: at most {limit} are allowed")]
    TooLarge {
        /// Its length in bytes.
        length: u32,
        /// The bound.
        limit: u32,
    },
    /// The partition has as many messages as it may.
    #[error(
        "the partition has {limit} messages, which is the most: consume, purge, or raise the limit"
    )]
    TooManyMessages {
        /// The bound.
        limit: u64,
    },
    /// The partition has as many bytes as it may.
    #[error(
        "the partition's messages would take more than {limit} bytes: consume, purge, or raise the limit"
    )]
    TooManyBytes {
        /// The bound.
        limit: u64,
    },
    /// The shard has no room for messages with a key, a priority, a delay or a TTL.
    #[error(
        "the shard has {limit} messages with a key, a priority, a delay or a TTL, which is the most: consume first"
    )]
    TooManyRows {
        /// The bound.
        limit: u64,
    },
    /// What became of the message's first try is not known any more.
    #[error(
        "what became of message {number} of this producer is forgotten: it may have been stored"
    )]
    DedupForgotten {
        /// The producer's number.
        number: ProducerSequence,
    },
    /// The producer is not known, or not any more.
    #[error(
        "producer {producer} is not known to this partition (any more): open it anew; what was not answered may have been stored"
    )]
    NoProducer {
        /// Its epoch.
        producer: ProducerEpoch,
    },
    /// A message has a number, but no producer.
    #[error("a message with a number needs a producer")]
    NoNumbering,
    /// The producer has too many numbers above the lowest that it has no answer of.
    #[error(
        "the producer has {limit} numbers in this partition above the lowest that is not answered: read answers, then raise answered_below"
    )]
    WindowFull {
        /// The bound.
        limit: u64,
    },
    /// Too many message ids are remembered.
    #[error(
        "{limit} message ids are remembered in this shard, which is the most: try again later, or shorten the windows"
    )]
    TooManyIds {
        /// The bound.
        limit: u64,
    },
    /// Too many producers have numbered messages here.
    #[error("the partition remembers {limit} producers, which is the most: try again later")]
    TooManyProducers {
        /// The bound.
        limit: u64,
    },
    /// Too many consumers are attached.
    #[error("the partition has {limit} consumers, which is the most: try again later")]
    TooManyConsumers {
        /// The bound.
        limit: u64,
    },
    /// The consumer is not known, or not any more.
    #[error(
        "consumer {consumer} is not known to this partition (any more): its leases have run out; attach anew"
    )]
    NoConsumer {
        /// Its epoch.
        consumer: ConsumerEpoch,
    },
}
