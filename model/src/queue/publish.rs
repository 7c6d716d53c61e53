//! Storing messages.
//!
//! Invariants: a message is stored once, however often its publisher tries, as long as it is
//! remembered; one that is refused is not remembered, so that a later try may do. Retries stay in the
//! partition, which is where it is remembered.

use std::{ops::Bound, sync::Arc};

use super::{
    Definition, MAX_ROWS, Overflow, Published, QueueRefusal, QueueReply, Queues,
    bodies::{Arrival, BodyRef},
    command::{MoveCause, MovedMessage, NewMessage, Numbering},
    effect::Origin,
    id::{
        MessageId, MoveNumber, PartitionId, ProducerEpoch, ProducerId, ProducerSequence, Sequence,
    },
    index::Due,
    message::End,
    row::{Row, Standing, State},
    window::{
        Known, MAX_IDS, MAX_PRODUCERS, MAX_WINDOW, Numberer, PRODUCER_LIFE, RememberedId, Window,
    },
};

/// What a command stores messages with.
struct Storing {
    id: PartitionId,
    definition: Arc<Definition>,
    /// Plain messages that have their sequences, and no place yet.
    arrival: Option<Arrival>,
}

impl Queues {
    pub(super) fn publish(
        &mut self,
        id: PartitionId,
        producer: Option<Numbering>,
        messages: Vec<NewMessage>,
    ) -> Result<QueueReply, QueueRefusal> {
        let first = self.count_bodies(messages.len());
        let definition = self.definition(id)?;
        let window = producer.map(|numbering| Numberer::Producer(numbering.producer));
        if let Some(Numbering {
            producer,
            answered_below,
        }) = producer
        {
            let of = Numberer::Producer(producer);
            let Some(window) = self.windows.get_mut(&(id, of)) else {
                return Err(QueueRefusal::NoProducer { producer });
            };
            window.raise(answered_below.0);
            self.keep_window(id, of);
        }
        let mut storing = self.storing(id, definition);
        let bodies = (first..).zip(messages);
        let published = bodies.map(|(ordinal, message)| {
            self.store_once(&mut storing, ordinal, window, message)
                .unwrap_or_else(Published::Refused)
        });
        let published = published.collect();
        self.settle_in(&mut storing);
        Ok(QueueReply::Published(published))
    }

    /// The ordinal of the first of so many bodies that the entry has next.
    fn count_bodies(&mut self, count: usize) -> u32 {
        let first = self.bodies;
        // An entry has at most a few million.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.bodies = first.saturating_add(count);
        first
    }

    fn storing(&mut self, id: PartitionId, definition: Arc<Definition>) -> Storing {
        self.touched.insert(id);
        Storing {
            id,
            definition,
            arrival: None,
        }
    }

    fn store_once(
        &mut self,
        storing: &mut Storing,
        ordinal: u32,
        window: Option<Numberer>,
        message: NewMessage,
    ) -> Result<Published, QueueRefusal> {
        let id = storing.id;
        let numbered = match (message.number, window) {
            (None, _) => None,
            (Some(_), None) => return Err(QueueRefusal::NoNumbering),
            (Some(number), Some(of)) => match self.look_up(id, of, number.0) {
                Known::New => Some((of, number)),
                Known::Stored => return Ok(Published::Duplicate),
                Known::Forgotten => return Err(QueueRefusal::DedupForgotten { number }),
                Known::NoRoom => return Err(QueueRefusal::WindowFull { limit: MAX_WINDOW }),
            },
        };
        let is_known = |message_id: &MessageId| self.ids.contains_key(&(id, message_id.clone()));
        if message.id.as_ref().is_some_and(is_known) {
            self.remember_number(id, numbered);
            return Ok(Published::Duplicate);
        }
        let length = message.body.length;
        let limit = storing.definition.max_message_bytes;
        if length > limit {
            return Err(QueueRefusal::TooLarge { length, limit });
        }
        if message.id.is_some() && self.ids.len() >= MAX_IDS {
            let limit = MAX_IDS as u64;
            return Err(QueueRefusal::TooManyIds { limit });
        }
        let message_id = message.id.clone();
        let sequence = self.store_new(storing, ordinal, message)?;
        self.remember_number(id, numbered);
        if let Some(message_id) = message_id {
            let until = self.entry.at.plus(storing.definition.id_window);
            let due = Due::Id(id, message_id.clone());
            self.index.set_due(until, due, true);
            self.ids.insert((id, message_id), RememberedId { until });
        }
        Ok(Published::Stored(sequence))
    }

    fn look_up(&self, id: PartitionId, of: Numberer, number: u64) -> Known {
        let window = self.windows.get(&(id, of));
        window.map_or(Known::New, |window| window.look_up(number))
    }

    fn remember_number(&mut self, id: PartitionId, numbered: Option<(Numberer, ProducerSequence)>) {
        if let Some((of, number)) = numbered
            && let Some(window) = self.windows.get_mut(&(id, of))
        {
            window.store(number.0);
        }
    }

    fn store_new(
        &mut self,
        storing: &mut Storing,
        ordinal: u32,
        message: NewMessage,
    ) -> Result<Sequence, QueueRefusal> {
        let at = self.entry.at;
        let is_plain = message.key.is_none()
            && message.priority.get() == 0
            && message.delay.0 == 0
            && message.ttl.is_none();
        let length = message.body.length;
        self.make_room(storing, length, !is_plain)?;
        if is_plain {
            return Ok(self.store_plain(storing, ordinal, length));
        }
        let standing = if message.delay.0 == 0 {
            Standing::Ready
        } else {
            Standing::Delayed(at.plus(message.delay))
        };
        let row = Row {
            body: self.body(ordinal, length),
            key: message.key,
            priority: message.priority,
            since: at,
            attempts: 0,
            expires: message.ttl.map(|ttl| at.plus(ttl)),
            origin: None,
            standing,
        };
        Ok(self.store_row(storing, row))
    }

    fn body(&self, ordinal: u32, length: u32) -> BodyRef {
        BodyRef {
            index: self.entry.index,
            ordinal,
            length,
        }
    }

    /// Refuses a message for which there is no room, or drops the oldest ones.
    fn make_room(
        &mut self,
        storing: &mut Storing,
        length: u32,
        needs_row: bool,
    ) -> Result<(), QueueRefusal> {
        if needs_row && self.rows.len() >= MAX_ROWS {
            let limit = MAX_ROWS as u64;
            return Err(QueueRefusal::TooManyRows { limit });
        }
        let Definition {
            max_length,
            max_bytes,
            overflow,
            ..
        } = *storing.definition;
        let length = u64::from(length);
        if length > max_bytes {
            return Err(QueueRefusal::TooManyBytes { limit: max_bytes });
        }
        loop {
            let counts = self.partition(storing.id).counts;
            let refusal = if counts.length() >= max_length {
                QueueRefusal::TooManyMessages { limit: max_length }
            } else if counts.bytes.saturating_add(length) > max_bytes {
                QueueRefusal::TooManyBytes { limit: max_bytes }
            } else {
                return Ok(());
            };
            // What came just now is dropped too, if it is the oldest.
            self.settle_in(storing);
            match (overflow, self.oldest_waiting(storing.id)) {
                (Overflow::DropOldest, Some(oldest)) => {
                    self.drop_message((storing.id, oldest), End::Dropped);
                }
                (Overflow::Reject, _) | (Overflow::DropOldest, None) => return Err(refusal),
            }
        }
    }

    /// The oldest message that is ready or delayed.
    pub(super) fn oldest_waiting(&self, id: PartitionId) -> Option<Sequence> {
        let first = (id, Sequence(0));
        let row = self.index.waiting.range(first..).next();
        let row = row.filter(|at| at.0 == id).map(|at| at.1);
        let plain = self.partitions.get(&id)?.ready.first().map(Sequence);
        [row, plain].into_iter().flatten().min()
    }

    fn store_plain(&mut self, storing: &mut Storing, ordinal: u32, length: u32) -> Sequence {
        let sequence = self.next_sequence(storing.id);
        if let Some(arrival) = &mut storing.arrival
            && arrival.follows(sequence, ordinal)
        {
            arrival.lengths.push(length);
        } else {
            self.settle_in(storing);
            storing.arrival = Some(Arrival {
                first: sequence,
                index: self.entry.index,
                ordinal,
                since: self.entry.at,
                lengths: vec![length],
            });
        }
        let partition = self.partition(storing.id);
        partition.ready.insert(sequence.0);
        partition.counts.add(State::Ready);
        partition.counts.bytes += u64::from(length);
        partition.totals.published += 1;
        sequence
    }

    fn store_row(&mut self, storing: &Storing, row: Row) -> Sequence {
        let id = storing.id;
        let sequence = self.next_sequence(id);
        let partition = self.partition(id);
        partition.counts.bytes += u64::from(row.body.length);
        partition.totals.published += 1;
        self.place((id, sequence), row);
        sequence
    }

    /// The plain messages that have come get their places.
    fn settle_in(&mut self, storing: &mut Storing) {
        if let Some(arrival) = storing.arrival.take() {
            self.partition(storing.id).bodies.append(&arrival);
        }
    }

    pub(super) fn receive_moved(
        &mut self,
        id: PartitionId,
        source: PartitionId,
        confirmed_below: MoveNumber,
        messages: Vec<MovedMessage>,
    ) -> Result<QueueReply, QueueRefusal> {
        let first = self.count_bodies(messages.len());
        let definition = self.definition(id)?;
        let of = Numberer::Source(source);
        if !self.windows.contains_key(&(id, of)) {
            self.new_window(id, of, None)?;
        }
        if let Some(window) = self.windows.get_mut(&(id, of)) {
            window.raise(confirmed_below.0);
        }
        self.keep_window(id, of);
        let mut storing = self.storing(id, definition);
        let bodies = (first..).zip(messages);
        let published = bodies.map(|(ordinal, message)| {
            self.store_moved(&mut storing, ordinal, source, message)
                .unwrap_or_else(Published::Refused)
        });
        let published = published.collect();
        self.settle_in(&mut storing);
        Ok(QueueReply::Published(published))
    }

    fn store_moved(
        &mut self,
        storing: &mut Storing,
        ordinal: u32,
        source: PartitionId,
        message: MovedMessage,
    ) -> Result<Published, QueueRefusal> {
        let id = storing.id;
        let of = Numberer::Source(source);
        let number = ProducerSequence(message.number.0);
        match self.look_up(id, of, number.0) {
            Known::New => {}
            // The source drops a message only once it is stored.
            Known::Stored | Known::Forgotten => return Ok(Published::Duplicate),
            Known::NoRoom => return Err(QueueRefusal::WindowFull { limit: MAX_WINDOW }),
        }
        let length = message.body.length;
        self.make_room(storing, length, true)?;
        let origin = match message.cause {
            MoveCause::Dead { .. } => Some(Origin {
                source,
                sequence: message.sequence,
                cause: message.cause,
            }),
            MoveCause::Redrive => None,
        };
        let row = Row {
            body: self.body(ordinal, length),
            key: message.key,
            priority: message.priority,
            since: self.entry.at,
            attempts: 0,
            expires: None,
            origin,
            standing: Standing::Ready,
        };
        let sequence = self.store_row(storing, row);
        self.remember_number(id, Some((of, number)));
        Ok(Published::Stored(sequence))
    }

    pub(super) fn open_producer(
        &mut self,
        id: PartitionId,
        producer: ProducerId,
    ) -> Result<QueueReply, QueueRefusal> {
        self.definition(id)?;
        if let Some(epoch) = self.index.producers.get(&(id, producer)) {
            let producer = *epoch;
            self.keep_window(id, Numberer::Producer(producer));
            return Ok(QueueReply::Producer { producer });
        }
        let epoch = self.partition(id).last_producer.next();
        self.new_window(id, Numberer::Producer(epoch), Some(producer))?;
        self.partition(id).last_producer = epoch;
        self.keep_window(id, Numberer::Producer(epoch));
        self.index.producers.insert((id, producer), epoch);
        Ok(QueueReply::Producer { producer: epoch })
    }

    fn new_window(
        &mut self,
        id: PartitionId,
        of: Numberer,
        producer: Option<ProducerId>,
    ) -> Result<(), QueueRefusal> {
        let limit = MAX_PRODUCERS;
        let producers = &mut self.partition(id).counts.producers;
        if *producers >= limit {
            return Err(QueueRefusal::TooManyProducers { limit });
        }
        *producers += 1;
        self.windows.insert((id, of), Window::new(producer));
        Ok(())
    }

    /// A producer was heard of, and is remembered for longer.
    fn keep_window(&mut self, id: PartitionId, of: Numberer) {
        let until = self.entry.at.plus(PRODUCER_LIFE);
        let Some(window) = self.windows.get_mut(&(id, of)) else {
            return;
        };
        let before = std::mem::replace(&mut window.until, until);
        self.index.set_due(before, Due::Window(id, of), false);
        self.index.set_due(until, Due::Window(id, of), true);
    }

    pub(super) fn forget_window(&mut self, id: PartitionId, of: Numberer) {
        let Some(window) = self.windows.remove(&(id, of)) else {
            return;
        };
        self.index.set_due(window.until, Due::Window(id, of), false);
        if let Some(producer) = window.id {
            self.index.producers.remove(&(id, producer));
        }
        let producers = &mut self.partition(id).counts.producers;
        *producers = producers.saturating_sub(1);
    }

    pub(super) fn forget_first_window(&mut self, id: PartitionId) -> bool {
        let first = (id, Numberer::Producer(ProducerEpoch(0)));
        let window = self.windows.range_from(Bound::Included(&first)).next();
        let of = window.map(|(at, _)| *at).filter(|at| at.0 == id);
        if let Some((id, of)) = of {
            self.forget_window(id, of);
        }
        of.is_some()
    }

    pub(super) fn forget_id(&mut self, id: PartitionId, message: MessageId) {
        let at = (id, message);
        if let Some(remembered) = self.ids.remove(&at) {
            self.index
                .set_due(remembered.until, Due::Id(at.0, at.1), false);
        }
    }

    pub(super) fn forget_first_id(&mut self, id: PartitionId) -> bool {
        let Ok(least) = MessageId::new("\0") else {
            return false;
        };
        let first = self.ids.range_from(Bound::Included(&(id, least))).next();
        let message = first.map(|(at, _)| at.clone()).filter(|at| at.0 == id);
        if let Some((id, message)) = message {
            self.forget_id(id, message);
            return true;
        }
        false
    }
}
