//! What is derived from rows, leases, consumers and windows, so that nothing is searched.
//!
//! Invariants: all of it follows from what is encoded, and is rebuilt from it. A key is *open* if its first
//! message could be delivered: none of its messages is leased, or waits to be tried again. So one hot key,
//! or one that waits, costs no search for the next.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use super::{
    id::{
        ConsumerEpoch, ConsumerId, DeliveryNumber, MessageId, MoveNumber, OrderingKey, PartitionId,
        ProducerEpoch, ProducerId, QueueId, Rank, Sequence,
    },
    row::{MessageAt, Row, Standing, State},
    window::Numberer,
};
use crate::id::ShardTime;

/// Something that is done when its time has come.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// What is left of a removed queue is dropped.
    Sweep(QueueId),
    /// A lease runs out.
    Lease(MessageAt),
    /// A delay is over.
    Delay(MessageAt),
    /// A message is too old.
    Ttl(MessageAt),
    /// A message's id is forgotten.
    Id(PartitionId, MessageId),
    /// A producer is forgotten.
    Window(PartitionId, Numberer),
    /// A consumer is forgotten, if it has no lease.
    Consumer(PartitionId, ConsumerEpoch),
}

/// A delivery, by who has it.
pub(crate) type DeliveryAt = (PartitionId, ConsumerEpoch, DeliveryNumber);

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) due: BTreeSet<(ShardTime, Due)>,
    pub(crate) deliveries: BTreeMap<DeliveryAt, Sequence>,
    pub(crate) consumers: BTreeMap<(PartitionId, ConsumerId), ConsumerEpoch>,
    pub(crate) producers: BTreeMap<(PartitionId, ProducerId), ProducerEpoch>,
    /// Rows that are ready or delayed.
    pub(crate) waiting: BTreeSet<MessageAt>,
    /// Rows that are dead, and ready ones that were given up elsewhere.
    pub(crate) redrivable: BTreeSet<MessageAt>,
    pub(crate) moving: BTreeMap<(PartitionId, MoveNumber), Sequence>,
    /// Rows without a key that are ready.
    unkeyed: BTreeSet<(PartitionId, Rank, Sequence)>,
    /// Messages with keys that have a place in their key's order.
    keyed: BTreeMap<(PartitionId, OrderingKey, Sequence), Rank>,
    /// Keys of which a message is leased, or waits to be tried again.
    busy: BTreeMap<(PartitionId, OrderingKey), Sequence>,
    /// Always some key: none is where a range begins.
    open: BTreeSet<(PartitionId, Rank, Option<OrderingKey>)>,
    /// As whose rank a key is among `open`.
    ranks: BTreeMap<(PartitionId, OrderingKey), Rank>,
}

/// Puts something in or takes it out. False if it was so already.
fn change<T: Ord>(set: &mut BTreeSet<T>, value: T, is_in: bool) -> bool {
    if is_in {
        set.insert(value)
    } else {
        set.remove(&value)
    }
}

fn change_map<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: V, is_in: bool) -> bool {
    if is_in {
        map.insert(key, value).is_none()
    } else {
        map.remove(&key).is_some()
    }
}

impl Index {
    /// Something is to be done at a time, or is not any more.
    pub(crate) fn set_due(&mut self, at: ShardTime, due: Due, is_in: bool) {
        change(&mut self.due, (at, due), is_in);
    }

    /// A row is there, or is not any more. False if that contradicts what is known.
    pub(crate) fn note(&mut self, at: MessageAt, row: &Row, state: State, is_in: bool) -> bool {
        let (id, sequence) = at;
        let mut is_sound = true;
        if matches!(state, State::Ready | State::Delayed) {
            is_sound &= change(&mut self.waiting, at, is_in);
            if let Some(expires) = row.expires {
                self.set_due(expires, Due::Ttl(at), is_in);
            }
        }
        if state == State::Dead || (state == State::Ready && row.origin.is_some()) {
            is_sound &= change(&mut self.redrivable, at, is_in);
        }
        let rank = row.priority.rank();
        match (&row.standing, &row.key) {
            (Standing::Ready, None) if state == State::Ready => {
                is_sound &= change(&mut self.unkeyed, (id, rank, sequence), is_in);
            }
            (Standing::Ready, None) | (Standing::Dead(_), _) => {}
            (Standing::Ready, Some(key)) => {
                let is_busy = state == State::Leased;
                is_sound &= self.note_key(at, key, rank, is_busy, is_in);
            }
            (Standing::Delayed(due), _) => self.set_due(*due, Due::Delay(at), is_in),
            (Standing::Retrying(due), key) => {
                self.set_due(*due, Due::Delay(at), is_in);
                if let Some(key) = key {
                    is_sound &= self.note_key(at, key, rank, true, is_in);
                }
            }
            (Standing::Moving { number, .. }, _) => {
                is_sound &= change_map(&mut self.moving, (id, *number), sequence, is_in);
            }
        }
        is_sound
    }

    fn note_key(
        &mut self,
        (id, sequence): MessageAt,
        key: &OrderingKey,
        rank: Rank,
        is_busy: bool,
        is_in: bool,
    ) -> bool {
        let at = (id, key.clone(), sequence);
        let mut is_sound = change_map(&mut self.keyed, at, rank, is_in);
        let at = (id, key.clone());
        if is_busy {
            is_sound &= change_map(&mut self.busy, at.clone(), sequence, is_in);
        }
        if let Some(rank) = self.ranks.remove(&at) {
            self.open.remove(&(id, rank, Some(key.clone())));
        }
        if !self.busy.contains_key(&at) {
            let first = (id, key.clone(), Sequence(0));
            let first = self.keyed.range(first..).next();
            let is_its = |of: &&(PartitionId, OrderingKey, Sequence)| of.0 == id && of.1 == *key;
            if let Some((_, rank)) = first.filter(|(of, _)| is_its(of)) {
                self.open.insert((id, *rank, Some(key.clone())));
                self.ranks.insert(at, *rank);
            }
        }
        is_sound
    }

    /// The first of the rows without a key that are ready, by priority.
    pub(crate) fn first_unkeyed(&self, id: PartitionId) -> Option<(Rank, Sequence)> {
        let from = (id, Rank::default(), Sequence(0));
        let (of, rank, sequence) = self.unkeyed.range(from..).next()?;
        (*of == id).then_some((*rank, *sequence))
    }

    /// The highest priority of the keys that are open.
    pub(crate) fn first_open(&self, id: PartitionId) -> Option<Rank> {
        let (of, rank, _) = self.open.range((id, Rank::default(), None)..).next()?;
        (*of == id).then_some(*rank)
    }

    /// The open key of this priority that comes after another one, round and round; and its first message.
    pub(crate) fn open_after(
        &self,
        id: PartitionId,
        rank: Rank,
        last: Option<&OrderingKey>,
    ) -> Option<(OrderingKey, Sequence)> {
        let after = Bound::Excluded((id, rank, last.cloned()));
        let from_there = self.open.range((after, Bound::Unbounded)).next();
        let is_its = |of: &&(PartitionId, Rank, Option<OrderingKey>)| (of.0, of.1) == (id, rank);
        let from_start = || self.open.range((id, rank, None)..).next();
        let next = from_there.filter(is_its).or_else(from_start).filter(is_its);
        let key = next?.2.clone()?;
        let first = (id, key.clone(), Sequence(0));
        let ((_, _, sequence), _) = self.keyed.range(first..).next()?;
        Some((key, *sequence))
    }
}
