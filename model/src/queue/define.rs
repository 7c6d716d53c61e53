//! Queues come, change and go.
//!
//! Invariants: a shard goes by the latest revision; a queue that was removed never comes back. What it
//! held is dropped in steps, by [`super::QueueCommand::ExpireDue`]; nothing of it can be used meanwhile.

use std::{ops::Bound, sync::Arc};

use super::{
    Definition, Known, QueueEffect, QueueRefusal, QueueReply, Queues,
    id::{PartitionId, PartitionNumber, QueueId, Sequence},
    index::Due,
    message::End,
};
use crate::id::ShardTime;

/// When a removed queue is due to be swept: at once.
pub(super) const AT_ONCE: ShardTime = ShardTime(0);

impl Queues {
    pub(super) fn set(
        &mut self,
        queue: QueueId,
        revision: u64,
        definition: Definition,
    ) -> Result<QueueReply, QueueRefusal> {
        if self.gone.contains(queue.0) {
            return Err(QueueRefusal::QueueGone { queue });
        }
        if let Some(known) = self.definitions.get(&queue) {
            if revision <= known.revision {
                return Ok(QueueReply::Done);
            }
            let Definition { partitions, .. } = *known.definition;
            if partitions != definition.partitions || known.definition.hosted != definition.hosted {
                return Err(QueueRefusal::FixedPartitions { partitions });
            }
        }
        let known = Known {
            revision,
            definition: Arc::new(definition),
        };
        self.definitions.insert(queue, known);
        let partitions: Vec<_> = self.partitions_of(queue).collect();
        self.touched.extend(partitions);
        Ok(QueueReply::Done)
    }

    pub(super) fn remove(&mut self, queue: QueueId) -> QueueReply {
        if !self.gone.insert(queue.0) {
            return QueueReply::Done;
        }
        if self.definitions.remove(&queue).is_some() {
            self.effects.push(QueueEffect::Removed { queue });
        }
        if self.partitions_of(queue).next().is_some() {
            self.index.set_due(AT_ONCE, Due::Sweep(queue), true);
        }
        QueueReply::Done
    }

    /// The partitions of a queue that were ever used here.
    pub(super) fn partitions_of(&self, queue: QueueId) -> impl Iterator<Item = PartitionId> + '_ {
        let number = PartitionNumber(0);
        let first = PartitionId { queue, number };
        let partitions = self.partitions.range_from(Bound::Included(&first));
        let of_queue = partitions.take_while(move |(id, _)| id.queue == queue);
        of_queue.map(|(id, _)| *id)
    }

    /// Drops at most so many of the things that a removed queue has left, and says how many it did.
    pub(super) fn sweep(&mut self, queue: QueueId, most: usize) -> usize {
        let mut swept = 0;
        while swept < most {
            let Some(id) = self.partitions_of(queue).next() else {
                self.index.set_due(AT_ONCE, Due::Sweep(queue), false);
                break;
            };
            swept += 1;
            if !self.sweep_one(id) {
                self.partitions.remove(&id);
            }
        }
        swept
    }

    /// False if there is nothing left but the core.
    fn sweep_one(&mut self, id: PartitionId) -> bool {
        let first = (id, Sequence(0));
        let row = self.rows.range_from(Bound::Included(&first)).next();
        let row = row.map(|(at, _)| *at).filter(|at| at.0 == id);
        let lease = self.leases.range_from(Bound::Included(&first)).next();
        let lease = lease.map(|(at, _)| *at).filter(|at| at.0 == id);
        let plain = self.partitions.get(&id).and_then(|core| core.ready.first());
        let plain = plain.map(|sequence| (id, Sequence(sequence)));
        if let Some(at) = row.or(lease).or(plain) {
            return self.drop_message(at, End::Purged);
        }
        self.forget_first_consumer(id) || self.forget_first_window(id) || self.forget_first_id(id)
    }
}
