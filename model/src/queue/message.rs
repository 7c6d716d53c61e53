//! What happens to one message, whatever the reason.
//!
//! Invariant: a message is taken out of all that knows of it in one place, and put back in one.

use super::{
    Queues,
    effect::Delivery,
    id::{ConsumerEpoch, DeliveryNumber, MoveNumber, PartitionId, Sequence},
    index::Due,
    lease::Lease,
    partition::{Partition, Totals},
    row::{MessageAt, Row, Standing, State},
};
use crate::id::ShardTime;

/// A message that is nowhere: to be put back, or dropped.
pub(super) struct Lifted {
    pub(super) at: MessageAt,
    pub(super) row: Row,
}

/// Why a message is dropped.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Acked,
    Expired,
    Purged,
    Dropped,
    Moved,
}

impl Totals {
    const fn of(&mut self, end: End) -> &mut u64 {
        match end {
            End::Acked => &mut self.acked,
            End::Expired => &mut self.expired,
            End::Purged => &mut self.purged,
            End::Dropped => &mut self.dropped,
            End::Moved => &mut self.moved,
        }
    }
}

impl Queues {
    /// The core of a partition that is hosted here, which gets one if it was idle until now.
    pub(super) fn partition(&mut self, id: PartitionId) -> &mut Partition {
        self.partitions.get_or_default(&id)
    }

    /// Takes a message out of all places, its lease too.
    pub(super) fn lift(&mut self, at: MessageAt) -> Option<Lifted> {
        let (id, sequence) = at;
        let is_leased = self.leases.contains_key(&at);
        let row = if let Some(row) = self.rows.remove(&at) {
            let state = row.state(is_leased);
            self.index.note(at, &row, state, false);
            self.partition(id).counts.subtract(state);
            row
        } else {
            let partition = self.partitions.get_mut(&id)?;
            let plain = partition.bodies.get(sequence)?;
            let is_ready = partition.ready.remove(sequence.0);
            if !is_ready && !is_leased {
                return None;
            }
            partition.bodies.forget(sequence);
            let row = Row::of_plain(plain);
            partition.counts.subtract(row.state(is_leased));
            row
        };
        self.end_lease(at);
        self.touched.insert(id);
        Some(Lifted { at, row })
    }

    /// Puts a message somewhere.
    pub(super) fn place(&mut self, at: MessageAt, row: Row) {
        let is_leased = self.leases.contains_key(&at);
        let state = row.state(is_leased);
        self.index.note(at, &row, state, true);
        self.partition(at.0).counts.add(state);
        self.touched.insert(at.0);
        self.rows.insert(at, row);
    }

    /// A lifted message is gone for good.
    pub(super) fn drop_lifted(&mut self, lifted: &Lifted, end: End) {
        let partition = self.partition(lifted.at.0);
        let length = u64::from(lifted.row.body.length);
        partition.counts.bytes = partition.counts.bytes.saturating_sub(length);
        *partition.totals.of(end) += 1;
    }

    /// Takes a message out and drops it. False if it is not there.
    pub(super) fn drop_message(&mut self, at: MessageAt, end: End) -> bool {
        let lifted = self.lift(at);
        if let Some(lifted) = &lifted {
            self.drop_lifted(lifted, end);
        }
        lifted.is_some()
    }

    /// A ready message is a consumer's from now on.
    pub(super) fn lease(
        &mut self,
        at: MessageAt,
        consumer: ConsumerEpoch,
        deadline: ShardTime,
    ) -> Option<Delivery> {
        let (id, sequence) = at;
        let leaseholder = self.consumers.get_mut(&(id, consumer))?;
        let number = leaseholder.next;
        leaseholder.next = number.next();
        leaseholder.in_flight = leaseholder.in_flight.saturating_add(1);
        let lease = Lease {
            consumer,
            number,
            deadline,
        };
        if let Some(row) = self.rows.get(&at) {
            self.index.note(at, row, State::Ready, false);
            self.index.note(at, row, State::Leased, true);
        }
        let partition = self.partitions.get_or_default(&id);
        partition.ready.remove(sequence.0);
        partition.counts.subtract(State::Ready);
        partition.counts.add(State::Leased);
        partition.totals.delivered += 1;
        partition.served = consumer;
        self.leases.insert(at, lease);
        self.index
            .deliveries
            .insert((id, consumer, number), sequence);
        self.index.set_due(deadline, Due::Lease(at), true);
        self.delivery(at, lease)
    }

    /// What a consumer is sent of a message that it has leased.
    pub(super) fn delivery(&self, at: MessageAt, lease: Lease) -> Option<Delivery> {
        let row = match self.rows.get(&at) {
            Some(row) => row.clone(),
            None => Row::of_plain(self.partitions.get(&at.0)?.bodies.get(at.1)?),
        };
        Some(Delivery {
            number: lease.number,
            sequence: at.1,
            body: row.body,
            key: row.key,
            priority: row.priority,
            attempts: row.attempts,
            since: row.since,
            deadline: lease.deadline,
            origin: row.origin,
        })
    }

    /// The lease is over; where its message stands now is for the caller to say.
    fn end_lease(&mut self, at: MessageAt) {
        let Some(lease) = self.leases.remove(&at) else {
            return;
        };
        let Lease {
            consumer,
            number,
            deadline,
        } = lease;
        self.index.deliveries.remove(&(at.0, consumer, number));
        self.index.set_due(deadline, Due::Lease(at), false);
        if let Some(consumer) = self.consumers.get_mut(&(at.0, consumer)) {
            consumer.in_flight = consumer.in_flight.saturating_sub(1);
        }
    }

    /// The lease lasts until another time.
    pub(super) fn extend_lease(&mut self, at: MessageAt, deadline: ShardTime) {
        let Some(lease) = self.leases.get_mut(&at) else {
            return;
        };
        let before = std::mem::replace(&mut lease.deadline, deadline);
        self.index.set_due(before, Due::Lease(at), false);
        self.index.set_due(deadline, Due::Lease(at), true);
    }

    /// A leased message is as it was before it was leased. A plain one gets no row by it.
    pub(super) fn give_back(&mut self, at: MessageAt) {
        let (id, sequence) = at;
        self.touched.insert(id);
        if self.rows.contains_key(&at) {
            if let Some(Lifted { at, row }) = self.lift(at) {
                self.place(at, row);
            }
            return;
        }
        self.end_lease(at);
        let partition = self.partition(id);
        if partition.ready.insert(sequence.0) {
            partition.counts.subtract(State::Leased);
            partition.counts.add(State::Ready);
        }
    }

    /// A number for a message that comes to the tail.
    pub(super) fn next_sequence(&mut self, id: PartitionId) -> Sequence {
        let partition = self.partition(id);
        partition.last_sequence = partition.last_sequence.next();
        partition.last_sequence
    }

    /// A number for a message that moves away.
    pub(super) fn next_move(&mut self, id: PartitionId) -> MoveNumber {
        let partition = self.partition(id);
        partition.last_move = partition.last_move.next();
        partition.last_move
    }

    /// The message that a consumer has leased under a number.
    pub(super) fn leased(
        &self,
        id: PartitionId,
        consumer: ConsumerEpoch,
        number: DeliveryNumber,
    ) -> Option<MessageAt> {
        let sequence = self.index.deliveries.get(&(id, consumer, number))?;
        Some((id, *sequence))
    }

    /// A message that stands somewhere else now. Gives the order, if it is moving.
    pub(super) fn stand(&mut self, lifted: Lifted, standing: Standing) {
        let Lifted { at, mut row } = lifted;
        row.standing = standing;
        if let Some(order) = row.order(at) {
            self.effects.push(super::QueueEffect::Move(order));
        }
        self.place(at, row);
    }
}
