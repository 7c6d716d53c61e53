//! The queues of a data shard: partitions, their messages, and who has leased them.
//!
//! Invariants: a message that was acknowledged to its publisher is there until a consumer acknowledges
//! it, or it is dropped for a reason that is counted; at any time at most one consumer has leased it; of
//! the messages of one key at most one is leased, and they are leased in their order.
//!
//! # Delivery
//! Credit is no part of the state: the leader keeps it, and puts [`QueueCommand::Offer`] into the entries
//! that it writes anyway. Applying one leases ready messages to these offers, and gives back what it has
//! no message for; so a consumer's credit strands in no partition, and a dead stream is leased nothing.
//! Deliveries are numbered densely for each consumer. The leader carries the effect out; if it dies
//! before, the consumer attaches to the next one, names the last number that it has, and is sent the
//! rest again under the same numbers.
//!
//! # Order
//! The highest priority first. Within one, messages without a key by their sequence, and those with keys
//! in turn: each open key once in a round, its first message. A key's order beats priority: a key ranks
//! as its first message does. A message that failed keeps its place, and one with a key holds back the
//! others of its key until it is tried again. One that was published for later has no place until it is
//! due, and then the one of its sequence.
//!
//! # Time
//! The shard's own, which no wall clock has to do with. Nothing runs out but by
//! [`QueueCommand::ExpireDue`], so that a new leader can give consumers time to find it.

mod attach;
mod bodies;
pub mod command;
mod dead;
mod define;
pub mod definition;
pub mod effect;
mod expire;
pub mod id;
mod index;
mod lease;
mod message;
mod offer;
mod partition;
mod publish;
mod purge;
pub mod query;
pub mod reply;
pub mod route;
mod row;
mod sequence_set;
mod settle;
mod snapshot;
mod view;
mod window;

#[cfg(test)]
#[path = "../tests/suite/seed.rs"]
pub(crate) mod seed;

pub use bodies::BodyRef;
pub use command::QueueCommand;
pub use definition::{Definition, Overflow};
pub use effect::{Delivery, MoveOrder, Origin, QueueEffect};
pub use lease::{CONSUMER_LIFE, MAX_CONSUMERS};
pub use partition::{Counts, Totals};
pub use query::{QueueAnswer, QueueQuery};
pub use reply::{Offered, Published, QueueRefusal, QueueReply};
pub use window::{MAX_IDS, MAX_PRODUCERS, MAX_WINDOW, PRODUCER_LIFE};

use std::{collections::BTreeSet, sync::Arc};

use crate::{cow_map::CowMap, id::ShardTime};
use id::{ConsumerEpoch, LogIndex, MessageId, PartitionId, QueueId};
use index::Index;
use lease::{Consumer, Lease};
use partition::Partition;
use row::{MessageAt, Row};
use sequence_set::SequenceSet;
use window::{Numberer, RememberedId, Window};

/// Most messages of a shard that are more than a place in the order: up to 500 bytes each, until they
/// can be paged out.
pub const MAX_ROWS: usize = 1_000_000;

/// The log entry in hand. Its bodies are counted from 0: those of each [`QueueCommand::Publish`] and
/// [`QueueCommand::ReceiveMoved`], in the order of commands and messages, whether they are stored or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its place in the log.
    pub index: LogIndex,
    /// The shard's time. Never earlier than that of the entry before.
    pub at: ShardTime,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    definitions: CowMap<QueueId, Known>,
    /// Ids of queues that were removed.
    gone: SequenceSet,
    partitions: CowMap<PartitionId, Partition>,
    rows: CowMap<MessageAt, Row>,
    leases: CowMap<MessageAt, Lease>,
    consumers: CowMap<(PartitionId, ConsumerEpoch), Consumer>,
    windows: CowMap<(PartitionId, Numberer), Window>,
    ids: CowMap<(PartitionId, MessageId), RememberedId>,
    index: Index,
    /// The entry in hand; no part of the state.
    entry: Entry,
    /// How many of its bodies were seen.
    bodies: u32,
    /// Where something may have become ready by it.
    touched: BTreeSet<PartitionId>,
    /// When the next thing was due before it.
    due_before: Option<ShardTime>,
    effects: Vec<QueueEffect>,
}

/// A definition that came.
#[derive(Clone, Debug)]
struct Known {
    revision: u64,
    definition: Arc<Definition>,
}

impl Queues {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An entry is in hand: its commands follow, and then [`Queues::finish`].
    pub fn begin(&mut self, entry: Entry) {
        self.entry = entry;
        self.bodies = 0;
        self.due_before = self.next_due();
    }

    /// Applies a command of the entry in hand.
    pub fn execute(&mut self, command: QueueCommand) -> QueueReply {
        let reply = match command {
            QueueCommand::Set {
                queue,
                revision,
                definition,
            } => self.set(queue, revision, definition),
            QueueCommand::Remove { queue } => Ok(self.remove(queue)),
            QueueCommand::Publish {
                partition,
                producer,
                messages,
            } => self.publish(partition, producer, messages),
            QueueCommand::OpenProducer {
                partition,
                producer,
            } => self.open_producer(partition, producer),
            QueueCommand::Attach {
                partition,
                consumer,
                received,
            } => self.attach(partition, consumer, received),
            QueueCommand::Detach {
                partition,
                consumer,
            } => self.detach(partition, consumer),
            QueueCommand::Offer { partition, offers } => self.offer(partition, &offers),
            QueueCommand::Settle {
                partition,
                consumer,
                verdicts,
            } => self.settle(partition, consumer, &verdicts),
            QueueCommand::ExpireDue => Ok(self.expire_due()),
            QueueCommand::ReceiveMoved {
                partition,
                source,
                confirmed_below,
                messages,
            } => self.receive_moved(partition, source, confirmed_below, messages),
            QueueCommand::ConfirmMoves { partition, moves } => {
                self.confirm_moves(partition, &moves)
            }
            QueueCommand::AbandonMoves { partition, moves } => {
                self.abandon_moves(partition, &moves)
            }
            QueueCommand::Redrive { partition, below } => self.redrive(partition, below),
            QueueCommand::Purge { partition, below } => self.purge(partition, below),
        };
        reply.unwrap_or_else(QueueReply::Refused)
    }

    /// The entry is done: what the leader does now, in order.
    pub fn finish(&mut self) -> Vec<QueueEffect> {
        for partition in std::mem::take(&mut self.touched) {
            if self.is_available(partition) {
                self.effects.push(QueueEffect::Available { partition });
            }
        }
        let due = self.next_due();
        if due != self.due_before {
            self.effects.push(QueueEffect::NextDue(due));
        }
        std::mem::take(&mut self.effects)
    }

    /// When [`QueueCommand::ExpireDue`] is to be proposed; none if nothing will be due.
    #[must_use]
    pub fn next_due(&self) -> Option<ShardTime> {
        self.index.due.first().map(|(at, _)| *at)
    }

    /// The definition of a queue of which a partition lives here.
    fn definition(&self, id: PartitionId) -> Result<Arc<Definition>, QueueRefusal> {
        let PartitionId { queue, number } = id;
        match self.definitions.get(&queue) {
            Some(known) if known.definition.hosted.contains(&number) => {
                Ok(Arc::clone(&known.definition))
            }
            Some(_) => Err(QueueRefusal::NotHosted { partition: id }),
            None if self.gone.contains(queue.0) => Err(QueueRefusal::QueueGone { queue }),
            None => Err(QueueRefusal::NoQueue { queue }),
        }
    }
}
