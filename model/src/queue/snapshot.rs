//! The state of a shard's queues as bytes.
//!
//! Invariants: each fact is written once, and what follows from others is rebuilt; a state that is
//! restored keeps every invariant of [`Queues`], or it is refused.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Known, Queues,
    define::AT_ONCE,
    id::{PartitionId, Sequence},
    index::Due,
    lease::Lease,
    row::{MessageAt, Standing, State},
    window::Numberer,
};
use crate::codec::{Decode, DecodeError, Encode, Reader};

impl Encode for Known {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.revision.encode_into(out);
        self.definition.encode_into(out);
    }
}

impl Decode for Known {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            revision: Decode::decode_from(input)?,
            definition: Arc::new(Decode::decode_from(input)?),
        })
    }
}

impl Encode for Queues {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.definitions.encode_into(out);
        self.gone.encode_into(out);
        self.partitions.encode_into(out);
        self.rows.encode_into(out);
        self.leases.encode_into(out);
        self.consumers.encode_into(out);
        self.windows.encode_into(out);
        self.ids.encode_into(out);
    }
}

impl Decode for Queues {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut queues = Self {
            definitions: Decode::decode_from(input)?,
            gone: Decode::decode_from(input)?,
            partitions: Decode::decode_from(input)?,
            rows: Decode::decode_from(input)?,
            leases: Decode::decode_from(input)?,
            consumers: Decode::decode_from(input)?,
            windows: Decode::decode_from(input)?,
            ids: Decode::decode_from(input)?,
            ..Self::default()
        };
        queues.restore_partitions()?;
        queues.restore_consumers()?;
        queues.restore_leases()?;
        queues.restore_rows()?;
        queues.restore_plain()?;
        queues.restore_windows()?;
        Ok(queues)
    }
}

const fn wrong<T>(what: &'static str) -> Result<T, DecodeError> {
    Err(DecodeError::Inconsistent { what })
}

impl Queues {
    /// What there is now of all that is written, apart from the queues: its encoding is that of the
    /// queues at this moment. Takes the same time however much there is.
    #[must_use]
    pub fn point(&mut self) -> Self {
        Self {
            definitions: self.definitions.freeze(),
            gone: self.gone.clone(),
            partitions: self.partitions.freeze(),
            rows: self.rows.freeze(),
            leases: self.leases.freeze(),
            consumers: self.consumers.freeze(),
            windows: self.windows.freeze(),
            ids: self.ids.freeze(),
            ..Self::default()
        }
    }

    fn restore_partitions(&mut self) -> Result<(), DecodeError> {
        if self
            .definitions
            .iter()
            .any(|(queue, _)| self.gone.contains(queue.0))
        {
            return wrong("a queue that is there and was removed");
        }
        let mut sweeps = BTreeSet::new();
        for (id, _) in &self.partitions {
            match self.definitions.get(&id.queue) {
                Some(known) if known.definition.hosted.contains(&id.number) => {}
                None if self.gone.contains(id.queue.0) => {
                    sweeps.insert(id.queue);
                }
                Some(_) | None => return wrong("a partition that does not live here"),
            }
        }
        for queue in sweeps {
            self.index.set_due(AT_ONCE, Due::Sweep(queue), true);
        }
        Ok(())
    }

    fn restore_consumers(&mut self) -> Result<(), DecodeError> {
        for ((id, epoch), consumer) in &self.consumers {
            let Some(partition) = self.partitions.get_mut(id) else {
                return wrong("a consumer of no partition");
            };
            if *epoch > partition.last_consumer || consumer.next.0 == 0 {
                return wrong("a consumer that never came");
            }
            partition.counts.consumers += 1;
            let due = Due::Consumer(*id, *epoch);
            self.index.set_due(consumer.until, due, true);
            let name = (*id, consumer.id);
            if self.index.consumers.insert(name, *epoch).is_some() {
                return wrong("two consumers of one id");
            }
        }
        Ok(())
    }

    fn restore_leases(&mut self) -> Result<(), DecodeError> {
        let leases: Vec<(MessageAt, Lease)> = self
            .leases
            .iter()
            .map(|(at, lease)| (*at, *lease))
            .collect();
        for (at, lease) in leases {
            let Lease {
                consumer, number, ..
            } = lease;
            let Some(known) = self.consumers.get_mut(&(at.0, consumer)) else {
                return wrong("a lease of no consumer");
            };
            if number >= known.next {
                return wrong("a delivery that was never made");
            }
            known.in_flight = known.in_flight.saturating_add(1);
            let delivery = (at.0, consumer, number);
            if self.index.deliveries.insert(delivery, at.1).is_some() {
                return wrong("two deliveries of one number");
            }
            self.index.set_due(lease.deadline, Due::Lease(at), true);
            if !self.rows.contains_key(&at) {
                self.revive(at, State::Leased)?;
            }
        }
        Ok(())
    }

    fn restore_rows(&mut self) -> Result<(), DecodeError> {
        for (at, row) in &self.rows {
            let is_leased = self.leases.contains_key(at);
            let Some(partition) = self.partitions.get_mut(&at.0) else {
                return wrong("a message of no partition");
            };
            if is_leased && row.standing != Standing::Ready {
                return wrong("a lease of a message that is not ready");
            }
            if at.1 > partition.last_sequence || partition.ready.contains(at.1.0) {
                return wrong("a message that is there twice, or was never stored");
            }
            if let Standing::Moving { number, .. } = row.standing
                && number > partition.last_move
            {
                return wrong("a move that never began");
            }
            let state = row.state(is_leased);
            partition.counts.add(state);
            partition.counts.bytes += u64::from(row.body.length);
            if !self.index.note(*at, row, state, true) {
                return wrong("two messages in one place, or two of a key with consumers");
            }
        }
        Ok(())
    }

    /// A plain message is ready or leased.
    fn revive(&mut self, (id, sequence): MessageAt, state: State) -> Result<(), DecodeError> {
        let Some(partition) = self.partitions.get_mut(&id) else {
            return wrong("a message of no partition");
        };
        let is_ready = partition.ready.contains(sequence.0);
        if is_ready != (state == State::Ready) || sequence > partition.last_sequence {
            return wrong("a message that is there twice, or was never stored");
        }
        let Some(plain) = partition.bodies.revive(sequence) else {
            return wrong("a message without a place");
        };
        partition.counts.add(state);
        partition.counts.bytes += u64::from(plain.body.length);
        Ok(())
    }

    fn restore_plain(&mut self) -> Result<(), DecodeError> {
        let ids: Vec<PartitionId> = self.partitions.iter().map(|(id, _)| *id).collect();
        for id in ids {
            let ready = self.partitions.get(&id).map(|core| core.ready.clone());
            for sequence in ready.unwrap_or_default().iter() {
                self.revive((id, Sequence(sequence)), State::Ready)?;
            }
            let core = self.partitions.get(&id);
            if core.is_some_and(|core| !core.bodies.are_used()) {
                return wrong("places of messages of which none is there");
            }
        }
        Ok(())
    }

    fn restore_windows(&mut self) -> Result<(), DecodeError> {
        for ((id, of), window) in &self.windows {
            let Some(partition) = self.partitions.get_mut(id) else {
                return wrong("a producer of no partition");
            };
            partition.counts.producers += 1;
            self.index
                .set_due(window.until, Due::Window(*id, *of), true);
            match (of, window.id) {
                (Numberer::Producer(epoch), Some(producer)) => {
                    if *epoch > partition.last_producer {
                        return wrong("a producer that never came");
                    }
                    if self
                        .index
                        .producers
                        .insert((*id, producer), *epoch)
                        .is_some()
                    {
                        return wrong("two producers of one id");
                    }
                }
                (Numberer::Source(_), None) => {}
                (Numberer::Producer(_), None) | (Numberer::Source(_), Some(_)) => {
                    return wrong("a producer without an id, or a source with one");
                }
            }
        }
        for ((id, message), remembered) in &self.ids {
            if !self.partitions.contains_key(id) {
                return wrong("a message's id of no partition");
            }
            let due = Due::Id(*id, message.clone());
            self.index.set_due(remembered.until, due, true);
        }
        Ok(())
    }
}
