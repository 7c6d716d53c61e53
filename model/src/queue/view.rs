//! Answering questions, and saying which bodies are alive.
//!
//! Invariant: a page has at most [`MAX_PAGE`] rows, whatever was asked for.

use std::ops::Bound;

use super::{
    BodyRef, Known, QueueAnswer, QueueQuery, Queues,
    id::{ConsumerEpoch, LogIndex, PartitionId, QueueId, Sequence},
    query::{ConsumerView, MessageState, MessageView, PartitionView, QueueView},
    row::{MessageAt, Row, Standing},
};
use crate::{id::ShardTime, page::MAX_PAGE};

impl Queues {
    /// Answers a question from the present state.
    #[must_use]
    pub fn query(&self, query: &QueueQuery) -> QueueAnswer {
        match query {
            QueueQuery::Describe { queue } => {
                let known = self.definitions.get(queue);
                QueueAnswer::Queue(known.map(|known| self.view_queue(*queue, known)))
            }
            QueueQuery::List { after, limit } => {
                let queues = self.definitions.range_from(Bound::Excluded(after));
                let queues = queues.take(page(*limit));
                let views = queues.map(|(queue, known)| self.view_queue(*queue, known));
                QueueAnswer::Queues(views.collect())
            }
            QueueQuery::Peek {
                partition,
                after,
                limit,
            } => {
                let messages = self.messages_after(*partition, *after);
                let views = messages.filter_map(|at| self.view_message(at));
                QueueAnswer::Messages(views.take(page(*limit)).collect())
            }
            QueueQuery::Holds {
                partition,
                consumer,
                number,
            } => QueueAnswer::Holds(self.leased(*partition, *consumer, *number).is_some()),
            QueueQuery::Consumers {
                partition,
                after,
                limit,
            } => QueueAnswer::Consumers(self.view_consumers(*partition, *after, page(*limit))),
        }
    }

    fn view_queue(&self, queue: QueueId, known: &Known) -> QueueView {
        let partitions = self.partitions_of(queue);
        QueueView {
            queue,
            revision: known.revision,
            definition: (*known.definition).clone(),
            partitions: partitions
                .filter_map(|id| self.view_partition(id))
                .collect(),
        }
    }

    fn view_partition(&self, id: PartitionId) -> Option<PartitionView> {
        let partition = self.partitions.get(&id)?;
        Some(PartitionView {
            partition: id,
            counts: partition.counts,
            totals: partition.totals,
            last_sequence: partition.last_sequence,
            oldest: self.oldest(id),
        })
    }

    /// When the oldest message was published that is not dead or moving.
    fn oldest(&self, id: PartitionId) -> Option<ShardTime> {
        let waiting = self.oldest_waiting(id);
        let first = (id, Sequence(0));
        let leased = self.leases.range_from(Bound::Included(&first)).next();
        let leased = leased.filter(|(at, _)| at.0 == id).map(|(at, _)| at.1);
        let oldest = [waiting, leased].into_iter().flatten().min()?;
        self.view_message((id, oldest)).map(|view| view.since)
    }

    /// The messages of a partition after one, by sequence.
    fn messages_after(
        &self,
        id: PartitionId,
        after: Sequence,
    ) -> impl Iterator<Item = MessageAt> + '_ {
        let core = self.partitions.get(&id);
        let mut after = after;
        std::iter::from_fn(move || {
            let from = (id, after);
            let ready = core.and_then(|core| core.ready.at_or_after(after.0.checked_add(1)?));
            let row = self.rows.range_from(Bound::Excluded(&from)).next();
            let row = row.filter(|(at, _)| at.0 == id).map(|(at, _)| at.1);
            let leased = self.leases.range_from(Bound::Excluded(&from)).next();
            let leased = leased.filter(|(at, _)| at.0 == id).map(|(at, _)| at.1);
            let all = [ready.map(Sequence), row, leased];
            after = all.into_iter().flatten().min()?;
            Some((id, after))
        })
    }

    fn view_message(&self, at: MessageAt) -> Option<MessageView> {
        let lease = self.leases.get(&at);
        let row = match self.rows.get(&at) {
            Some(row) => row.clone(),
            None => Row::of_plain(self.partitions.get(&at.0)?.bodies.get(at.1)?),
        };
        let state = match row.standing {
            Standing::Ready => lease.map_or(MessageState::Ready, |lease| MessageState::Leased {
                consumer: lease.consumer,
                number: lease.number,
                deadline: lease.deadline,
            }),
            Standing::Delayed(due) | Standing::Retrying(due) => MessageState::Delayed { due },
            Standing::Dead(reason) => MessageState::Dead { reason },
            Standing::Moving { to, .. } => MessageState::Moving { to },
        };
        Some(MessageView {
            sequence: at.1,
            body: row.body,
            key: row.key,
            priority: row.priority,
            attempts: row.attempts,
            since: row.since,
            expires: row.expires,
            origin: row.origin,
            state,
        })
    }

    fn view_consumers(
        &self,
        id: PartitionId,
        after: ConsumerEpoch,
        limit: usize,
    ) -> Vec<ConsumerView> {
        let consumers = self.consumers.range_from(Bound::Excluded(&(id, after)));
        let of = consumers.take_while(|((of, _), _)| *of == id);
        let views = of.map(|((_, consumer), known)| ConsumerView {
            consumer: *consumer,
            id: known.id,
            in_flight: known.in_flight,
            next: known.next,
        });
        views.take(limit).collect()
    }

    /// The bodies that entries after `after` brought and that are alive: what a checkpoint copies. By
    /// partition, not by their place.
    pub fn bodies_after(&self, after: LogIndex) -> impl Iterator<Item = BodyRef> + '_ {
        let rows = self.rows.iter().map(|(_, row)| row.body);
        let rows = rows.filter(move |body| body.index > after);
        let plain = self.partitions.iter().flat_map(move |(id, core)| {
            let bodies = core.bodies.after(after);
            let alive = bodies.filter(move |(sequence, _)| {
                let at = (*id, *sequence);
                let is_leased = || self.leases.contains_key(&at) && !self.rows.contains_key(&at);
                core.ready.contains(sequence.0) || is_leased()
            });
            alive.map(|(_, body)| body)
        });
        rows.chain(plain)
    }

    /// The first entry of which a body is alive: what all entries before it brought is dead.
    #[must_use]
    pub fn oldest_body(&self) -> Option<LogIndex> {
        let rows = self.rows.iter().map(|(_, row)| row.body.index);
        let plain = self
            .partitions
            .iter()
            .filter_map(|(_, core)| core.bodies.oldest());
        rows.chain(plain).min()
    }
}

fn page(limit: u32) -> usize {
    limit.min(MAX_PAGE) as usize
}
