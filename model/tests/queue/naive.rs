//! The rules of queues once more, in the plainest way: one list of messages, searched from end to end.
//!
//! Written from the rules, not from the code: it shares nothing with the model but the types of commands
//! and answers, and keeps no index and no count.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::{
    Millis, ShardTime,
    queue::{
        BodyRef, CONSUMER_LIFE, Definition, Delivery, MoveOrder, Offered, Origin, Overflow,
        PRODUCER_LIFE, Published, QueueCommand, QueueRefusal, QueueReply, Totals,
        command::{Body, DeathReason, MAX_EXPIRED, MoveCause, NewMessage, Settlement, Verdict},
        id::{
            ConsumerEpoch, ConsumerId, DeliveryNumber, LogIndex, MessageId, MessagePriority,
            MoveNumber, OfferNumber, OrderingKey, PartitionId, ProducerEpoch, ProducerId, QueueId,
            Sequence,
        },
    },
};

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stand {
    Ready,
    Later(ShardTime),
    Again(ShardTime),
    Leased(ConsumerEpoch, DeliveryNumber, ShardTime),
    Dead(DeathReason),
    Moving(MoveNumber, QueueId, MoveCause),
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) sequence: Sequence,
    pub(crate) body: BodyRef,
    pub(crate) key: Option<OrderingKey>,
    pub(crate) priority: MessagePriority,
    pub(crate) since: ShardTime,
    pub(crate) attempts: u32,
    pub(crate) expires: Option<ShardTime>,
    pub(crate) origin: Option<Origin>,
    pub(crate) stand: Stand,
}

#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) epoch: ConsumerEpoch,
    id: ConsumerId,
    pub(crate) next: DeliveryNumber,
    last_offer: OfferNumber,
    until: ShardTime,
}

#[derive(Clone, Debug)]
struct Producer {
    who: Result<(ProducerEpoch, ProducerId), PartitionId>,
    floor: u64,
    stored: BTreeSet<u64>,
    until: ShardTime,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Part {
    pub(crate) messages: Vec<Message>,
    pub(crate) consumers: Vec<Consumer>,
    producers: Vec<Producer>,
    ids: Vec<(MessageId, ShardTime)>,
    pub(crate) last: u64,
    last_consumer: u64,
    last_producer: u64,
    last_move: u64,
    served: ConsumerEpoch,
    /// By priority: the key that was served last, and whether keys are next.
    turns: BTreeMap<u8, (OrderingKey, bool)>,
    pub(crate) totals: Totals,
}

/// What followed from a command.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Deliver(PartitionId, ConsumerEpoch, Vec<Delivery>),
    Lapsed(PartitionId, ConsumerEpoch, DeliveryNumber),
    ConsumerGone(PartitionId, ConsumerEpoch),
    Move(MoveOrder),
    Removed(QueueId),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Naive {
    pub(crate) now: ShardTime,
    pub(crate) index: u64,
    pub(crate) ordinal: u32,
    pub(crate) queues: BTreeMap<QueueId, (u64, Definition)>,
    gone: BTreeSet<QueueId>,
    pub(crate) parts: BTreeMap<PartitionId, Part>,
    pub(crate) events: Vec<Event>,
}

type Result_ = Result<QueueReply, QueueRefusal>;

impl Part {
    fn bytes(&self) -> u64 {
        self.messages.iter().map(|m| u64::from(m.body.length)).sum()
    }

    fn get(&mut self, sequence: Sequence) -> &mut Message {
        let found = self.messages.iter_mut().find(|m| m.sequence == sequence);
        found.expect("it is there")
    }

    fn take(&mut self, sequence: Sequence) -> Message {
        let at = self.messages.iter().position(|m| m.sequence == sequence);
        self.messages.remove(at.expect("it is there"))
    }

    fn in_flight(&self, epoch: ConsumerEpoch) -> usize {
        let is_its = |m: &&Message| matches!(m.stand, Stand::Leased(by, ..) if by == epoch);
        self.messages.iter().filter(is_its).count()
    }

    fn consumer(&mut self, epoch: ConsumerEpoch) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|c| c.epoch == epoch)
    }

    /// Which message is next: its priority, its sequence, and its key.
    pub(crate) fn pick(&self) -> Option<&Message> {
        let mut candidates: Vec<&Message> = Vec::new();
        let mut keys: BTreeSet<&OrderingKey> = BTreeSet::new();
        for message in &self.messages {
            match &message.key {
                None if message.stand == Stand::Ready => candidates.push(message),
                None => {}
                Some(key) => {
                    keys.insert(key);
                }
            }
        }
        for key in keys {
            let of_key = || self.messages.iter().filter(|m| m.key.as_ref() == Some(key));
            let blocks = |m: &Message| matches!(m.stand, Stand::Leased(..) | Stand::Again(_));
            if !of_key().any(blocks) {
                let ready = of_key().filter(|m| m.stand == Stand::Ready);
                candidates.extend(ready.min_by_key(|m| m.sequence));
            }
        }
        let best = candidates.iter().map(|m| m.priority).max()?;
        candidates.retain(|m| m.priority == best);
        let (keyed, plain): (Vec<&Message>, Vec<&Message>) =
            candidates.into_iter().partition(|m| m.key.is_some());
        let turn = self.turns.get(&best.get());
        let plain = plain.into_iter().min_by_key(|m| m.sequence);
        if keyed.is_empty() || (plain.is_some() && turn.is_some_and(|(_, keyed)| !keyed)) {
            return plain;
        }
        let after = turn.map(|(last, _)| last);
        let next = keyed
            .iter()
            .filter(|m| m.key.as_ref() > after)
            .min_by_key(|m| m.key.clone());
        let first = keyed.iter().min_by_key(|m| m.key.clone());
        next.or(first).copied()
    }
}

impl Naive {
    pub(crate) fn apply(&mut self, command: &QueueCommand) -> QueueReply {
        let reply = match command.clone() {
            QueueCommand::Set {
                queue,
                revision,
                definition,
            } => self.set(queue, revision, definition),
            QueueCommand::Remove { queue } => {
                if self.gone.insert(queue) && self.queues.remove(&queue).is_some() {
                    self.events.push(Event::Removed(queue));
                }
                Ok(QueueReply::Done)
            }
            QueueCommand::Publish {
                partition,
                producer,
                messages,
            } => {
                let first = self.ordinal;
                self.ordinal += messages.len() as u32;
                self.open(partition).and_then(|definition| {
                    let part = self.parts.entry(partition).or_default();
                    if let Some(by) = producer {
                        let until = self.now.plus(PRODUCER_LIFE);
                        let known = part
                            .producers
                            .iter_mut()
                            .find(|p| matches!(p.who, Ok((epoch, _)) if epoch == by.producer));
                        let Some(known) = known else {
                            let producer = by.producer;
                            return Err(QueueRefusal::NoProducer { producer });
                        };
                        known.floor = known.floor.max(by.answered_below.0);
                        known.until = until;
                    }
                    let epoch = producer.map(|by| by.producer);
                    let all = messages.into_iter().zip(first..).map(|(message, ordinal)| {
                        self.store(partition, &definition, epoch, ordinal, message)
                            .unwrap_or_else(Published::Refused)
                    });
                    Ok(QueueReply::Published(all.collect()))
                })
            }
            QueueCommand::OpenProducer {
                partition,
                producer,
            } => self.open(partition).map(|_| {
                let until = self.now.plus(PRODUCER_LIFE);
                let part = self.parts.entry(partition).or_default();
                let known = part
                    .producers
                    .iter_mut()
                    .find(|p| matches!(p.who, Ok((_, id)) if id == producer));
                if let Some(known) = known {
                    known.until = until;
                    let producer = known.who.map(|(epoch, _)| epoch).unwrap_or_default();
                    return QueueReply::Producer { producer };
                }
                part.last_producer += 1;
                let epoch = ProducerEpoch(part.last_producer);
                part.producers.push(Producer {
                    who: Ok((epoch, producer)),
                    floor: 0,
                    stored: BTreeSet::new(),
                    until,
                });
                QueueReply::Producer { producer: epoch }
            }),
            QueueCommand::Attach {
                partition,
                consumer,
                received,
            } => self.open(partition).map(|_| {
                let now = self.now;
                let part = self.parts.entry(partition).or_default();
                let known = part.consumers.iter().find(|c| c.id == consumer);
                let is_new = known.is_none();
                let epoch = known.map(|c| c.epoch).unwrap_or_else(|| {
                    part.last_consumer += 1;
                    ConsumerEpoch(part.last_consumer)
                });
                if is_new {
                    part.consumers.push(Consumer {
                        epoch,
                        id: consumer,
                        next: DeliveryNumber(1),
                        last_offer: OfferNumber(0),
                        until: now,
                    });
                }
                let known = part.consumer(epoch).expect("it was just made");
                known.until = now.plus(CONSUMER_LIFE);
                let next = known.next;
                let last = received
                    .filter(|r| r.consumer == epoch)
                    .map_or(0, |r| r.last.0);
                let mut again: Vec<Delivery> = part
                    .messages
                    .iter()
                    .filter_map(delivery)
                    .filter(|(by, d)| *by == epoch && d.number.0 > last)
                    .map(|(_, d)| d)
                    .collect();
                again.sort_by_key(|d| d.number);
                if !again.is_empty() {
                    self.events.push(Event::Deliver(partition, epoch, again));
                }
                QueueReply::Attached {
                    consumer: epoch,
                    is_new,
                    next,
                }
            }),
            QueueCommand::Detach {
                partition,
                consumer,
            } => self.open(partition).map(|_| {
                if let Some(part) = self.parts.get_mut(&partition) {
                    for message in &mut part.messages {
                        if matches!(message.stand, Stand::Leased(by, ..) if by == consumer) {
                            message.stand = Stand::Ready;
                        }
                    }
                    part.consumers.retain(|c| c.epoch != consumer);
                }
                QueueReply::Done
            }),
            QueueCommand::Offer { partition, offers } => self
                .open(partition)
                .map(|definition| self.offer(partition, &definition, &offers)),
            QueueCommand::Settle {
                partition,
                consumer,
                verdicts,
            } => self.open(partition).and_then(|definition| {
                let until = self.now.plus(CONSUMER_LIFE);
                let part = self.parts.get_mut(&partition);
                let known = part.and_then(|part| part.consumer(consumer));
                let Some(known) = known else {
                    return Err(QueueRefusal::NoConsumer { consumer });
                };
                known.until = until;
                let counts = verdicts
                    .iter()
                    .map(|verdict| self.verdict(partition, &definition, consumer, verdict));
                Ok(QueueReply::Settled(counts.collect()))
            }),
            QueueCommand::ExpireDue => Ok(self.expire()),
            QueueCommand::ReceiveMoved {
                partition,
                source,
                confirmed_below,
                messages,
            } => {
                let first = self.ordinal;
                self.ordinal += messages.len() as u32;
                self.open(partition).map(|definition| {
                    let until = self.now.plus(PRODUCER_LIFE);
                    let part = self.parts.entry(partition).or_default();
                    let at = part.producers.iter().position(|p| p.who == Err(source));
                    let at = at.unwrap_or_else(|| {
                        part.producers.push(Producer {
                            who: Err(source),
                            floor: 0,
                            stored: BTreeSet::new(),
                            until,
                        });
                        part.producers.len() - 1
                    });
                    part.producers[at].floor = part.producers[at].floor.max(confirmed_below.0);
                    part.producers[at].until = until;
                    let mut answers = Vec::new();
                    for (message, ordinal) in messages.into_iter().zip(first..) {
                        let part = self.parts.get_mut(&partition).expect("it was just made");
                        let known = &part.producers[at];
                        let number = message.number.0;
                        if number < known.floor || known.stored.contains(&number) {
                            answers.push(Published::Duplicate);
                            continue;
                        }
                        let origin = Origin {
                            source,
                            sequence: message.sequence,
                            cause: message.cause,
                        };
                        let moved = Message {
                            sequence: Sequence(0),
                            body: self.body(ordinal, message.body),
                            key: message.key,
                            priority: message.priority,
                            since: self.now,
                            attempts: 0,
                            expires: None,
                            origin: (message.cause != MoveCause::Redrive).then_some(origin),
                            stand: Stand::Ready,
                        };
                        answers.push(match self.append(partition, &definition, moved) {
                            Ok(sequence) => {
                                let part = self.parts.get_mut(&partition).expect("still there");
                                part.producers[at].stored.insert(number);
                                Published::Stored(sequence)
                            }
                            Err(refusal) => Published::Refused(refusal),
                        });
                    }
                    QueueReply::Published(answers)
                })
            }
            QueueCommand::ConfirmMoves { partition, moves } => self.open(partition).map(|_| {
                let mut count = 0;
                if let Some(part) = self.parts.get_mut(&partition) {
                    for number in moves {
                        let before = part.messages.len();
                        part.messages
                            .retain(|m| !matches!(m.stand, Stand::Moving(n, ..) if n == number));
                        count += (before - part.messages.len()) as u32;
                    }
                    part.totals.moved += u64::from(count);
                }
                QueueReply::Handled { count, more: false }
            }),
            QueueCommand::AbandonMoves { partition, moves } => self.open(partition).map(|_| {
                let mut count = 0;
                let parts = self.parts.get_mut(&partition).into_iter();
                for message in parts.flat_map(|part| &mut part.messages) {
                    if let Stand::Moving(number, _, cause) = message.stand
                        && moves.contains(&number)
                    {
                        count += 1;
                        message.stand = match cause {
                            MoveCause::Dead { reason, .. } => Stand::Dead(reason),
                            MoveCause::Redrive => Stand::Ready,
                        };
                    }
                }
                QueueReply::Handled { count, more: false }
            }),
            QueueCommand::Redrive { partition, below } => {
                self.open(partition).map(|_| self.redrive(partition, below))
            }
            QueueCommand::Purge { partition, below } => self.open(partition).map(|_| {
                let part = self.parts.entry(partition).or_default();
                let before = part.messages.len();
                part.messages.retain(|m| {
                    m.sequence >= below
                        || matches!(
                            m.stand,
                            Stand::Leased(..) | Stand::Dead(_) | Stand::Moving(..)
                        )
                });
                let count = before - part.messages.len();
                part.totals.purged += count as u64;
                assert!(count < MAX_EXPIRED, "histories are small");
                let count = count as u32;
                QueueReply::Handled { count, more: false }
            }),
        };
        reply.unwrap_or_else(QueueReply::Refused)
    }

    fn open(&self, id: PartitionId) -> Result<Definition, QueueRefusal> {
        let queue = id.queue;
        match self.queues.get(&queue) {
            Some((_, definition)) if definition.hosted.contains(&id.number) => {
                Ok(definition.clone())
            }
            Some(_) => Err(QueueRefusal::NotHosted { partition: id }),
            None if self.gone.contains(&queue) => Err(QueueRefusal::QueueGone { queue }),
            None => Err(QueueRefusal::NoQueue { queue }),
        }
    }

    fn set(&mut self, queue: QueueId, revision: u64, definition: Definition) -> Result_ {
        if self.gone.contains(&queue) {
            return Err(QueueRefusal::QueueGone { queue });
        }
        match self.queues.get(&queue) {
            Some((known, _)) if *known >= revision => {}
            Some((_, known))
                if known.partitions != definition.partitions
                    || known.hosted != definition.hosted =>
            {
                let partitions = known.partitions;
                return Err(QueueRefusal::FixedPartitions { partitions });
            }
            _ => {
                self.queues.insert(queue, (revision, definition));
            }
        }
        Ok(QueueReply::Done)
    }

    fn body(&self, ordinal: u32, body: Body) -> BodyRef {
        BodyRef {
            index: LogIndex(self.index),
            ordinal,
            length: body.length,
        }
    }

    fn store(
        &mut self,
        id: PartitionId,
        definition: &Definition,
        producer: Option<ProducerEpoch>,
        ordinal: u32,
        message: NewMessage,
    ) -> Result<Published, QueueRefusal> {
        let part = self.parts.entry(id).or_default();
        let known = part
            .producers
            .iter_mut()
            .find(|p| matches!(p.who, Ok((epoch, _)) if Some(epoch) == producer));
        let mut window = None;
        if let Some(number) = message.number {
            let known = known.ok_or(QueueRefusal::NoNumbering)?;
            if number.0 < known.floor {
                return Err(QueueRefusal::DedupForgotten { number });
            }
            if known.stored.contains(&number.0) {
                return Ok(Published::Duplicate);
            }
            window = Some((known, number.0));
        }
        let is_known = |id: &MessageId| part.ids.iter().any(|(known, _)| known == id);
        if message.id.as_ref().is_some_and(is_known) {
            if let Some((known, number)) = window {
                known.stored.insert(number);
            }
            return Ok(Published::Duplicate);
        }
        let (length, limit) = (message.body.length, definition.max_message_bytes);
        if length > limit {
            return Err(QueueRefusal::TooLarge { length, limit });
        }
        let now = self.now;
        let later = message.delay > Millis(0);
        let new = Message {
            sequence: Sequence(0),
            body: self.body(ordinal, message.body),
            key: message.key,
            priority: message.priority,
            since: now,
            attempts: 0,
            expires: message.ttl.map(|ttl| now.plus(ttl)),
            origin: None,
            stand: if later {
                Stand::Later(now.plus(message.delay))
            } else {
                Stand::Ready
            },
        };
        let sequence = self.append(id, definition, new)?;
        let part = self.parts.get_mut(&id).expect("it was just used");
        if let Some(number) = message.number {
            let known = part
                .producers
                .iter_mut()
                .find(|p| matches!(p.who, Ok((epoch, _)) if Some(epoch) == producer));
            known.expect("it was there").stored.insert(number.0);
        }
        if let Some(message) = message.id {
            part.ids.push((message, now.plus(definition.id_window)));
        }
        Ok(Published::Stored(sequence))
    }

    fn append(
        &mut self,
        id: PartitionId,
        definition: &Definition,
        mut message: Message,
    ) -> Result<Sequence, QueueRefusal> {
        let part = self.parts.entry(id).or_default();
        let length = u64::from(message.body.length);
        let (most, most_bytes) = (definition.max_length, definition.max_bytes);
        if length > most_bytes {
            return Err(QueueRefusal::TooManyBytes { limit: most_bytes });
        }
        loop {
            let refusal = if part.messages.len() as u64 >= most {
                QueueRefusal::TooManyMessages { limit: most }
            } else if part.bytes() + length > most_bytes {
                QueueRefusal::TooManyBytes { limit: most_bytes }
            } else {
                break;
            };
            let waits =
                |m: &&Message| matches!(m.stand, Stand::Ready | Stand::Later(_) | Stand::Again(_));
            let oldest = part.messages.iter().filter(waits).map(|m| m.sequence).min();
            match oldest {
                Some(oldest) if definition.overflow == Overflow::DropOldest => {
                    part.take(oldest);
                    part.totals.dropped += 1;
                }
                _ => return Err(refusal),
            }
        }
        part.last += 1;
        message.sequence = Sequence(part.last);
        part.messages.push(message);
        part.totals.published += 1;
        Ok(Sequence(part.last))
    }

    fn offer(
        &mut self,
        id: PartitionId,
        definition: &Definition,
        offers: &[lockstep_model::queue::command::Offer],
    ) -> QueueReply {
        let now = self.now;
        let Some(part) = self.parts.get_mut(&id) else {
            return QueueReply::Offered(vec![Offered::NoConsumer; offers.len()]);
        };
        let active = part.consumers.iter().map(|c| c.epoch).min();
        let mut counted = Vec::new();
        let mut room: BTreeMap<ConsumerEpoch, usize> = BTreeMap::new();
        for offer in offers {
            let in_flight = part.in_flight(offer.consumer);
            let Some(consumer) = part.consumer(offer.consumer) else {
                counted.push(Offered::NoConsumer);
                continue;
            };
            if offer.number <= consumer.last_offer || room.contains_key(&offer.consumer) {
                counted.push(Offered::Stale);
                continue;
            }
            consumer.last_offer = offer.number;
            consumer.until = now.plus(CONSUMER_LIFE);
            let most = (definition.max_in_flight as usize).saturating_sub(in_flight);
            let idle =
                definition.paused || (definition.single_active && active != Some(offer.consumer));
            let most = if idle { 0 } else { most };
            room.insert(offer.consumer, most.min(offer.credit as usize));
            counted.push(Offered::Counted {
                unused: offer.credit,
            });
        }
        let mut given: BTreeMap<ConsumerEpoch, Vec<Delivery>> = BTreeMap::new();
        while let Some(pick) = part.pick() {
            let with_room = || room.iter().filter(|(_, room)| **room > 0).map(|(c, _)| *c);
            // The next one after the one that was served last, round and round.
            let next = with_room().find(|c| *c > part.served);
            let Some(to) = next.or_else(|| with_room().next()) else {
                break;
            };
            *room.get_mut(&to).expect("it has room") -= 1;
            let (sequence, priority, key) = (pick.sequence, pick.priority.get(), pick.key.clone());
            match (key, part.turns.get_mut(&priority)) {
                (Some(key), _) => {
                    part.turns.insert(priority, (key, false));
                }
                (None, Some(turn)) => turn.1 = true,
                (None, None) => {}
            }
            let consumer = part.consumer(to).expect("it was counted");
            let number = consumer.next;
            consumer.next = DeliveryNumber(number.0 + 1);
            part.served = to;
            part.totals.delivered += 1;
            let message = part.get(sequence);
            message.stand = Stand::Leased(to, number, now.plus(definition.visibility));
            let (_, delivery) = delivery(message).expect("it is leased");
            given.entry(to).or_default().push(delivery);
        }
        for (offer, counted) in offers.iter().zip(&mut counted) {
            if let Offered::Counted { unused } = counted {
                *unused -= given.get(&offer.consumer).map_or(0, Vec::len) as u32;
            }
        }
        for (consumer, deliveries) in given {
            self.events.push(Event::Deliver(id, consumer, deliveries));
        }
        QueueReply::Offered(counted)
    }

    fn verdict(
        &mut self,
        id: PartitionId,
        definition: &Definition,
        consumer: ConsumerEpoch,
        verdict: &Verdict,
    ) -> u32 {
        let now = self.now;
        let part = self.parts.get_mut(&id).expect("its consumer is there");
        let mut meant: Vec<(DeliveryNumber, Sequence)> = part
            .messages
            .iter()
            .filter_map(|m| match m.stand {
                Stand::Leased(by, number, _)
                    if by == consumer && number >= verdict.from && number <= verdict.to =>
                {
                    Some((number, m.sequence))
                }
                _ => None,
            })
            .collect();
        meant.sort();
        for (_, sequence) in &meant {
            let part = self.parts.get_mut(&id).expect("it is there");
            match verdict.settlement {
                Settlement::Ack => {
                    part.take(*sequence);
                    part.totals.acked += 1;
                }
                Settlement::Nack { delay } => self.fail(id, Some(definition), *sequence, delay),
                Settlement::Reject => {
                    part.get(*sequence).attempts += 1;
                    part.totals.failed += 1;
                    self.die(id, definition, *sequence, DeathReason::Rejected);
                }
                Settlement::GiveBack => part.get(*sequence).stand = Stand::Ready,
                Settlement::Extend { by } => {
                    let message = part.get(*sequence);
                    if let Stand::Leased(.., deadline) = &mut message.stand {
                        *deadline = now.plus(by);
                    }
                }
            }
        }
        meant.len() as u32
    }

    fn fail(
        &mut self,
        id: PartitionId,
        definition: Option<&Definition>,
        sequence: Sequence,
        delay: Millis,
    ) {
        let now = self.now;
        let part = self.parts.get_mut(&id).expect("it is there");
        let Some(definition) = definition else {
            part.take(sequence);
            part.totals.purged += 1;
            return;
        };
        part.totals.failed += 1;
        let message = part.get(sequence);
        message.attempts += 1;
        if message.attempts >= definition.max_deliveries {
            self.die(id, definition, sequence, DeathReason::MaxDeliveries);
        } else if delay == Millis(0) {
            message.stand = Stand::Ready;
        } else {
            message.stand = Stand::Again(now.plus(delay));
        }
    }

    fn die(&mut self, id: PartitionId, definition: &Definition, at: Sequence, why: DeathReason) {
        let attempts = self
            .parts
            .get_mut(&id)
            .expect("it is there")
            .get(at)
            .attempts;
        let reason = why;
        match definition.dead_letter {
            Some(to) => self.go(id, at, to, MoveCause::Dead { reason, attempts }),
            None => {
                let part = self.parts.get_mut(&id).expect("it is there");
                part.get(at).stand = Stand::Dead(why);
            }
        }
    }

    fn go(&mut self, id: PartitionId, at: Sequence, to: QueueId, cause: MoveCause) {
        let part = self.parts.get_mut(&id).expect("it is there");
        part.last_move += 1;
        let number = MoveNumber(part.last_move);
        let message = part.get(at);
        message.stand = Stand::Moving(number, to, cause);
        let order = order(id, message).expect("it moves");
        self.events.push(Event::Move(order));
    }

    fn redrive(&mut self, id: PartitionId, below: Sequence) -> QueueReply {
        let part = self.parts.entry(id).or_default();
        let again = |m: &&Message| {
            let is_its = matches!(m.stand, Stand::Dead(_));
            let came = m.stand == Stand::Ready && m.origin.is_some();
            m.sequence < below && (is_its || came)
        };
        let mut all: Vec<Message> = part.messages.iter().filter(again).cloned().collect();
        all.sort_by_key(|m| m.sequence);
        for message in &all {
            if let Some(origin) = message.origin {
                self.go(
                    id,
                    message.sequence,
                    origin.source.queue,
                    MoveCause::Redrive,
                );
                continue;
            }
            let part = self.parts.get_mut(&id).expect("it is there");
            let mut message = part.take(message.sequence);
            part.last += 1;
            message.sequence = Sequence(part.last);
            message.attempts = 0;
            message.expires = None;
            message.stand = Stand::Ready;
            part.messages.push(message);
        }
        let count = all.len() as u32;
        QueueReply::Handled { count, more: false }
    }

    /// All that is due, in the order of its times; at one time leases, delays, old messages, then what
    /// is remembered.
    fn expire(&mut self) -> QueueReply {
        let now = self.now;
        self.parts.retain(|id, _| !self.gone.contains(&id.queue));
        loop {
            let mut due: Vec<(ShardTime, u8, PartitionId, u64)> = Vec::new();
            for (id, part) in &self.parts {
                for message in &part.messages {
                    let at = message.sequence.0;
                    match message.stand {
                        Stand::Leased(.., deadline) => due.push((deadline, 1, *id, at)),
                        Stand::Later(until) | Stand::Again(until) => due.push((until, 2, *id, at)),
                        Stand::Ready | Stand::Dead(_) | Stand::Moving(..) => {}
                    }
                    let waits = matches!(
                        message.stand,
                        Stand::Ready | Stand::Later(_) | Stand::Again(_)
                    );
                    if let Some(expires) = message.expires.filter(|_| waits) {
                        due.push((expires, 3, *id, at));
                    }
                }
            }
            for (id, part) in &self.parts {
                let consumers = part.consumers.iter();
                due.extend(consumers.map(|c| (c.until, 4, *id, c.epoch.0)));
            }
            let Some((at, kind, id, sequence)) = due.into_iter().min() else {
                break;
            };
            if at > now {
                break;
            }
            self.expire_message(kind, id, sequence);
        }
        for part in self.parts.values_mut() {
            part.ids.retain(|(_, until)| *until > now);
            part.producers.retain(|p| p.until > now);
        }
        // How much it was is left to the model.
        QueueReply::Handled {
            count: 0,
            more: false,
        }
    }

    fn expire_message(&mut self, kind: u8, id: PartitionId, at: u64) {
        let definition = self.open(id).ok();
        let (now, sequence) = (self.now, Sequence(at));
        let part = self.parts.get_mut(&id).expect("it is there");
        match kind {
            1 => {
                let Stand::Leased(consumer, number, _) = part.get(sequence).stand else {
                    panic!("it was leased");
                };
                self.fail(id, definition.as_ref(), sequence, Millis(0));
                self.events.push(Event::Lapsed(id, consumer, number));
            }
            2 => part.get(sequence).stand = Stand::Ready,
            3 => {
                part.take(sequence);
                part.totals.expired += 1;
            }
            _ => {
                let consumer = ConsumerEpoch(at);
                if part.in_flight(consumer) > 0 {
                    let known = part.consumer(consumer).expect("it is there");
                    known.until = now.plus(CONSUMER_LIFE);
                } else {
                    part.consumers.retain(|c| c.epoch != consumer);
                    self.events.push(Event::ConsumerGone(id, consumer));
                }
            }
        }
    }
}

/// What a consumer is sent of a message, if one has it.
fn delivery(message: &Message) -> Option<(ConsumerEpoch, Delivery)> {
    let Stand::Leased(consumer, number, deadline) = message.stand else {
        return None;
    };
    let delivery = Delivery {
        number,
        sequence: message.sequence,
        body: message.body,
        key: message.key.clone(),
        priority: message.priority,
        attempts: message.attempts,
        since: message.since,
        deadline,
        origin: message.origin,
    };
    Some((consumer, delivery))
}

fn order(source: PartitionId, message: &Message) -> Option<MoveOrder> {
    let Stand::Moving(number, to, cause) = message.stand else {
        return None;
    };
    Some(MoveOrder {
        source,
        sequence: message.sequence,
        number,
        to,
        cause,
        body: message.body,
        key: message.key.clone(),
        priority: message.priority,
    })
}
