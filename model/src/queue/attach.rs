//! Consumers come and go.
//!
//! Invariants: a consumer that attaches again is sent what it has leased and not received, under the
//! numbers that it was given first; one that is forgotten never comes back under its epoch.

use std::ops::Bound;

use super::{
    QueueEffect, QueueRefusal, QueueReply, Queues,
    command::Received,
    id::{ConsumerEpoch, ConsumerId, DeliveryNumber, OfferNumber, PartitionId},
    index::{DeliveryAt, Due},
    lease::{CONSUMER_LIFE, Consumer, MAX_CONSUMERS},
};

impl Queues {
    pub(super) fn attach(
        &mut self,
        id: PartitionId,
        consumer: ConsumerId,
        received: Option<Received>,
    ) -> Result<QueueReply, QueueRefusal> {
        self.definition(id)?;
        let known = self.index.consumers.get(&(id, consumer)).copied();
        let (epoch, is_new) = match known {
            Some(epoch) => (epoch, false),
            None => (self.new_consumer(id, consumer)?, true),
        };
        self.hear_of(id, epoch);
        let received = received.filter(|received| received.consumer == epoch);
        let last = received.map(|received| received.last);
        self.send_again(id, epoch, last.unwrap_or_default());
        let next = self.consumers.get(&(id, epoch)).map(|known| known.next);
        Ok(QueueReply::Attached {
            consumer: epoch,
            is_new,
            next: next.unwrap_or_default(),
        })
    }

    fn new_consumer(
        &mut self,
        id: PartitionId,
        consumer: ConsumerId,
    ) -> Result<ConsumerEpoch, QueueRefusal> {
        let limit = MAX_CONSUMERS;
        let partition = self.partition(id);
        if partition.counts.consumers >= limit {
            return Err(QueueRefusal::TooManyConsumers { limit });
        }
        partition.counts.consumers += 1;
        partition.last_consumer = partition.last_consumer.next();
        let epoch = partition.last_consumer;
        let known = Consumer {
            id: consumer,
            next: DeliveryNumber(1),
            last_offer: OfferNumber(0),
            until: self.entry.at,
            in_flight: 0,
        };
        self.consumers.insert((id, epoch), known);
        self.index.consumers.insert((id, consumer), epoch);
        Ok(epoch)
    }

    fn send_again(&mut self, id: PartitionId, consumer: ConsumerEpoch, last: DeliveryNumber) {
        let deliveries = self.deliveries_of(id, consumer, last.next());
        let deliveries = deliveries.filter_map(|((id, ..), sequence)| {
            let at = (id, sequence);
            self.delivery(at, *self.leases.get(&at)?)
        });
        let deliveries: Vec<_> = deliveries.collect();
        if !deliveries.is_empty() {
            self.effects.push(QueueEffect::Deliver {
                partition: id,
                consumer,
                deliveries,
            });
        }
    }

    /// What a consumer has leased, from a number on.
    pub(super) fn deliveries_of(
        &self,
        id: PartitionId,
        consumer: ConsumerEpoch,
        from: DeliveryNumber,
    ) -> impl Iterator<Item = (DeliveryAt, super::id::Sequence)> + '_ {
        let deliveries = self.index.deliveries.range((id, consumer, from)..);
        let of = deliveries.take_while(move |((of, by, _), _)| (*of, *by) == (id, consumer));
        of.map(|(at, sequence)| (*at, *sequence))
    }

    pub(super) fn detach(
        &mut self,
        id: PartitionId,
        consumer: ConsumerEpoch,
    ) -> Result<QueueReply, QueueRefusal> {
        self.definition(id)?;
        if !self.consumers.contains_key(&(id, consumer)) {
            return Ok(QueueReply::Done);
        }
        let leased: Vec<_> = self
            .deliveries_of(id, consumer, DeliveryNumber(0))
            .map(|(_, sequence)| (id, sequence))
            .collect();
        for at in leased {
            self.give_back(at);
        }
        self.forget_consumer(id, consumer);
        Ok(QueueReply::Done)
    }

    /// A consumer was heard of, and is remembered for longer.
    pub(super) fn hear_of(&mut self, id: PartitionId, consumer: ConsumerEpoch) {
        let until = self.entry.at.plus(CONSUMER_LIFE);
        let Some(known) = self.consumers.get_mut(&(id, consumer)) else {
            return;
        };
        let before = std::mem::replace(&mut known.until, until);
        let due = Due::Consumer(id, consumer);
        self.index.set_due(before, due.clone(), false);
        self.index.set_due(until, due, true);
    }

    /// A consumer that has no lease is forgotten.
    pub(super) fn forget_consumer(&mut self, id: PartitionId, consumer: ConsumerEpoch) {
        let Some(known) = self.consumers.remove(&(id, consumer)) else {
            return;
        };
        self.index
            .set_due(known.until, Due::Consumer(id, consumer), false);
        self.index.consumers.remove(&(id, known.id));
        let consumers = &mut self.partition(id).counts.consumers;
        *consumers = consumers.saturating_sub(1);
        // Another one may be the active consumer now.
        self.touched.insert(id);
    }

    /// The first consumer that is there: the active one, where there is only one.
    pub(super) fn first_consumer(&self, id: PartitionId) -> Option<ConsumerEpoch> {
        let first = (id, ConsumerEpoch(0));
        let (at, _) = self.consumers.range_from(Bound::Included(&first)).next()?;
        (at.0 == id).then_some(at.1)
    }

    pub(super) fn forget_first_consumer(&mut self, id: PartitionId) -> bool {
        let first = self.first_consumer(id);
        if let Some(consumer) = first {
            self.forget_consumer(id, consumer);
        }
        first.is_some()
    }
}
