//! What a shard's queues can be told to do: the only way in which their state changes.
//!
//! Invariant: a command carries all that decides its effect, and is within its bounds wherever it was
//! decoded.

mod codec;

use super::{
    definition::Definition,
    id::{
        ConsumerEpoch, ConsumerId, DeliveryNumber, MessageId, MessagePriority, MoveNumber,
        OfferNumber, OrderingKey, PartitionId, ProducerEpoch, ProducerId, ProducerSequence,
        QueueId, Sequence,
    },
};
use crate::id::Millis;

/// Most messages in one command: bounds the work of one step, and what one answer says.
pub const MAX_MESSAGES: usize = 4_096;
/// Most consumers in one offer: more go into the next.
pub const MAX_OFFERS: usize = 1_024;
/// Most ranges that one command settles.
pub const MAX_VERDICTS: usize = 1_024;
/// Furthest that a message may be delayed, and longest that it may live, if it says how long: a year.
pub const MAX_SPAN: Millis = Millis(31_536_000_000);
/// Most that expires by one command, and most messages that one purge or redrive handles.
pub const MAX_EXPIRED: usize = 4_096;

/// A change of a shard's queues. Each names its partition, but for those of whole queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueueCommand {
    /// A queue is so from now on. One that is not newer than what is known changes nothing.
    Set {
        /// Which.
        queue: QueueId,
        /// Of its definition: ascending.
        revision: u64,
        /// What it is.
        definition: Definition,
    },
    /// A queue is gone, with all that it holds. What comes for it later is answered so.
    Remove {
        /// Which.
        queue: QueueId,
    },
    /// Messages, each of which is stored or refused on its own. Their bodies follow in the log entry, in
    /// the order of the commands and messages: see [`super::Entry`].
    Publish {
        /// Where.
        partition: PartitionId,
        /// Who sends those that have a producer's number; none if none has.
        producer: Option<Numbering>,
        /// 1..=[`MAX_MESSAGES`].
        messages: Vec<NewMessage>,
    },
    /// A producer begins to number its messages in this partition. Again: it gets the same epoch.
    OpenProducer {
        /// Where.
        partition: PartitionId,
        /// Who.
        producer: ProducerId,
    },
    /// A consumer comes, for the first time or again: it is sent what it has leased and not received.
    Attach {
        /// Where.
        partition: PartitionId,
        /// Who.
        consumer: ConsumerId,
        /// What it has received, if it was here before.
        received: Option<Received>,
    },
    /// A consumer leaves: what it has leased is ready again at once, and counts as no attempt.
    Detach {
        /// Where.
        partition: PartitionId,
        /// Who.
        consumer: ConsumerEpoch,
    },
    /// Room that consumers have. Ready messages are leased to them, now or not at all: what is not used
    /// is theirs again. Best placed last in an entry, where it finds what the others published.
    Offer {
        /// Where.
        partition: PartitionId,
        /// 1..=[`MAX_OFFERS`].
        offers: Vec<Offer>,
    },
    /// What a consumer says of its deliveries.
    Settle {
        /// Where.
        partition: PartitionId,
        /// Who.
        consumer: ConsumerEpoch,
        /// 1..=[`MAX_VERDICTS`].
        verdicts: Vec<Verdict>,
    },
    /// What is due is done: leases run out, delays are over, old messages and what is remembered too
    /// long are dropped, and what is left of removed queues. At most [`MAX_EXPIRED`] of them.
    ///
    /// A new leader proposes it only once an election timeout has passed since it was elected: consumers
    /// find it first, and can extend their leases.
    ExpireDue,
    /// Messages that were moved here out of another partition.
    ReceiveMoved {
        /// Where to.
        partition: PartitionId,
        /// Where from.
        source: PartitionId,
        /// The source keeps no message whose move has a lower number.
        confirmed_below: MoveNumber,
        /// 1..=[`MAX_MESSAGES`]. Their bodies follow as those of [`QueueCommand::Publish`].
        messages: Vec<MovedMessage>,
    },
    /// Where messages moved to has them: they are dropped here.
    ConfirmMoves {
        /// Where from.
        partition: PartitionId,
        /// 1..=[`MAX_MESSAGES`].
        moves: Vec<MoveNumber>,
    },
    /// Where messages were to go does not take them, and never will: they stay here as dead ones.
    AbandonMoves {
        /// Where from.
        partition: PartitionId,
        /// 1..=[`MAX_MESSAGES`].
        moves: Vec<MoveNumber>,
    },
    /// Dead messages get another chance: those of this queue at its tail, those that came from another
    /// one there. At most [`MAX_EXPIRED`]: again until none is left.
    Redrive {
        /// Where.
        partition: PartitionId,
        /// Only those with a lower sequence, so that none comes round twice.
        below: Sequence,
    },
    /// Drops messages that are ready or delayed. At most [`MAX_EXPIRED`]: again until none is left.
    Purge {
        /// Where.
        partition: PartitionId,
        /// Only those with a lower sequence, so that what is published meanwhile stays.
        below: Sequence,
    },
}

/// A body as the machine knows it. Its bytes are read and checked by others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Body {
    /// In bytes.
    pub length: u32,
    /// As its publisher gave it: it stays with the bytes, and is no part of the state.
    pub checksum: u32,
}

/// Which producer numbers messages, and what it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Numbering {
    /// Which.
    pub producer: ProducerEpoch,
    /// It has the answers of all lower numbers, and will not ask for them again.
    pub answered_below: ProducerSequence,
}

/// A message to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// Its body.
    pub body: Body,
    /// In which order it belongs.
    pub key: Option<OrderingKey>,
    /// How urgent it is.
    pub priority: MessagePriority,
    /// It is delivered so much later, at the earliest: up to [`MAX_SPAN`].
    pub delay: Millis,
    /// It is dropped so much later, unless somebody has leased it: 1 ms..=[`MAX_SPAN`].
    pub ttl: Option<Millis>,
    /// A message of this id is stored once within the queue's window.
    pub id: Option<MessageId>,
    /// Its producer's number.
    pub number: Option<ProducerSequence>,
}

/// A message that moved here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedMessage {
    /// Of its move.
    pub number: MoveNumber,
    /// Where it was in the source.
    pub sequence: Sequence,
    /// Why it moves.
    pub cause: MoveCause,
    /// Its body.
    pub body: Body,
    /// In which order it belongs.
    pub key: Option<OrderingKey>,
    /// How urgent it is.
    pub priority: MessagePriority,
}

/// Why a message moves to another queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MoveCause {
    /// It was given up.
    Dead {
        /// Why.
        reason: DeathReason,
        /// How often it was tried.
        attempts: u32,
    },
    /// It gets another chance where it came from.
    Redrive,
}

/// Why a message was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeathReason {
    /// It was tried as often as its queue allows.
    MaxDeliveries,
    /// A consumer rejected it.
    Rejected,
}

/// What a consumer has received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Received {
    /// In which of its times.
    pub consumer: ConsumerEpoch,
    /// The last delivery that it has, and all before; 0 for none.
    pub last: DeliveryNumber,
}

/// Room that a consumer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Offer {
    /// Who.
    pub consumer: ConsumerEpoch,
    /// Ascending: an offer that is not above the last one is not counted again.
    pub number: OfferNumber,
    /// For so many messages.
    pub credit: u32,
}

/// What a consumer says of some of its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Verdict {
    /// The first that is meant.
    pub from: DeliveryNumber,
    /// The last.
    pub to: DeliveryNumber,
    /// What it says.
    pub settlement: Settlement,
}

/// What becomes of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// It is done.
    Ack,
    /// It failed: again, so much later at the earliest (up to [`MAX_SPAN`]).
    Nack {
        /// From now.
        delay: Millis,
    },
    /// It can never be done: the message is given up.
    Reject,
    /// It was not begun: the message is ready again, and this was no attempt.
    GiveBack,
    /// The lease ends so much later than now.
    Extend {
        /// [`super::definition::MIN_VISIBILITY`]..=[`super::definition::MAX_VISIBILITY`].
        by: Millis,
    },
}
