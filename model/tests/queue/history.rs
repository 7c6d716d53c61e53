//! Random histories of queues: the model does what the rules say, and a restored one does the same.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::{
    Millis, ShardTime,
    codec::{Decode, Encode, Reader},
    queue::{
        Counts, Definition, Entry, Overflow, QueueAnswer, QueueCommand, QueueEffect, QueueQuery,
        QueueReply, Queues, Totals,
        command::{
            Body, DeathReason, MoveCause, MovedMessage, NewMessage, Numbering, Offer, Received,
            Settlement, Verdict,
        },
        id::{
            ConsumerEpoch, ConsumerId, DeliveryNumber, LogIndex, MessageId, MessagePriority,
            MoveNumber, OfferNumber, OrderingKey, PartitionId, PartitionNumber, ProducerEpoch,
            ProducerId, ProducerSequence, QueueId, Sequence,
        },
        query::{MessageState, MessageView, PartitionView},
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select, test_runner::TestCaseResult};

use crate::{
    naive::{Event, Message, Naive, Stand},
    seed,
};

const QUEUES: u64 = 3;
const PARTITIONS: u32 = 2;

fn partition() -> impl Strategy<Value = PartitionId> {
    // Queue 1 most of the time, so that its messages meet.
    let queue = prop_oneof![8 => Just(1), 3 => Just(2), 1 => 3..=QUEUES + 1];
    let number = prop_oneof![12 => Just(0), 1 => 1..=PARTITIONS];
    (queue, number).prop_map(|(queue, number)| PartitionId {
        queue: QueueId(queue),
        number: PartitionNumber(number),
    })
}

fn definition() -> impl Strategy<Value = Definition> {
    let limits = (
        prop_oneof![Just(1_000_u64), 2..9_u64],
        prop_oneof![Just(1_000_u64), 5..20_u64],
        any::<bool>(),
        1..6_u32,
    );
    let modes = (
        prop_oneof![4 => Just(false), 1 => Just(true)],
        prop_oneof![4 => Just(false), 1 => Just(true)],
        option::of(Just(QueueId(2))),
        1..4_u32,
    );
    let times = (1_000..9_000_u64, 0..9_000_u64, 4..9_u32);
    (limits, modes, times).prop_map(|(limits, modes, times)| {
        let (max_length, max_bytes, drops, max_in_flight) = limits;
        let (single_active, paused, dead_letter, max_deliveries) = modes;
        let (visibility, id_window, max_message_bytes) = times;
        Definition {
            partitions: PARTITIONS,
            hosted: (0..PARTITIONS).map(PartitionNumber).collect(),
            visibility: Millis(visibility),
            max_deliveries,
            dead_letter,
            single_active,
            paused,
            max_in_flight,
            max_length,
            max_bytes,
            overflow: if drops {
                Overflow::DropOldest
            } else {
                Overflow::Reject
            },
            max_message_bytes,
            id_window: Millis(id_window),
        }
    })
}

fn key() -> impl Strategy<Value = Option<OrderingKey>> {
    let some = select(vec!["a", "b", "c"]).prop_map(|key| Some(OrderingKey::new(key).unwrap()));
    prop_oneof![Just(None), some]
}

fn priority() -> impl Strategy<Value = MessagePriority> {
    prop_oneof![3 => Just(0), 1 => 0..3_u8].prop_map(|number| MessagePriority::new(number).unwrap())
}

fn body() -> impl Strategy<Value = Body> {
    (0..6_u32).prop_map(|length| Body {
        length,
        checksum: length,
    })
}

fn message() -> impl Strategy<Value = NewMessage> {
    let plain = body().prop_map(|body| NewMessage {
        body,
        key: None,
        priority: MessagePriority::default(),
        delay: Millis(0),
        ttl: None,
        id: None,
        number: None,
    });
    let delay = prop_oneof![2 => Just(0), 1 => 1..4_000_u64].prop_map(Millis);
    let ttl = option::of((1..9_000_u64).prop_map(Millis));
    let id = option::of(select(vec!["m", "n"]).prop_map(|id| MessageId::new(id).unwrap()));
    let number = option::of((0..8_u64).prop_map(ProducerSequence));
    let any = (body(), key(), priority(), delay, ttl, id, number).prop_map(
        |(body, key, priority, delay, ttl, id, number)| NewMessage {
            body,
            key,
            priority,
            delay,
            ttl,
            id,
            number,
        },
    );
    prop_oneof![plain, any]
}

fn moved() -> impl Strategy<Value = MovedMessage> {
    let cause = prop_oneof![
        Just(MoveCause::Redrive),
        (1..4_u32).prop_map(|attempts| MoveCause::Dead {
            reason: DeathReason::Rejected,
            attempts
        })
    ];
    (0..6_u64, 1..9_u64, cause, body(), key(), priority()).prop_map(
        |(number, sequence, cause, body, key, priority)| MovedMessage {
            number: MoveNumber(number),
            sequence: Sequence(sequence),
            cause,
            body,
            key,
            priority,
        },
    )
}

fn epoch() -> impl Strategy<Value = ConsumerEpoch> {
    prop_oneof![6 => 1..4_u64, 1 => 1..9_u64].prop_map(ConsumerEpoch)
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let settlement = prop_oneof![
        Just(Settlement::Ack),
        prop_oneof![Just(0), 1..4_000_u64].prop_map(|delay| Settlement::Nack {
            delay: Millis(delay)
        }),
        Just(Settlement::Reject),
        Just(Settlement::GiveBack),
        (1_000..9_000_u64).prop_map(|by| Settlement::Extend { by: Millis(by) }),
    ];
    (1..16_u64, 0..4_u64, settlement).prop_map(|(from, more, settlement)| Verdict {
        from: DeliveryNumber(from),
        to: DeliveryNumber(from + more),
        settlement,
    })
}

fn moves() -> impl Strategy<Value = Vec<MoveNumber>> {
    vec((1..6_u64).prop_map(MoveNumber), 1..3)
}

fn below() -> impl Strategy<Value = Sequence> {
    prop_oneof![(0..20_u64), Just(u64::MAX)].prop_map(Sequence)
}

fn command() -> impl Strategy<Value = QueueCommand> {
    let set = (1..=QUEUES, 1..9_u64, definition()).prop_map(|(queue, revision, definition)| {
        QueueCommand::Set {
            queue: QueueId(queue),
            revision,
            definition,
        }
    });
    let numbering = option::of(
        (1..3_u64, 0..5_u64).prop_map(|(producer, below)| Numbering {
            producer: ProducerEpoch(producer),
            answered_below: ProducerSequence(below),
        }),
    );
    let publish = (partition(), numbering, vec(message(), 1..5)).prop_map(
        |(partition, producer, messages)| QueueCommand::Publish {
            partition,
            producer,
            messages,
        },
    );
    let producer =
        (partition(), 1..3_u64).prop_map(|(partition, producer)| QueueCommand::OpenProducer {
            partition,
            producer: ProducerId(producer),
        });
    let received = option::of((epoch(), 0..9_u64)).prop_map(|received| {
        received.map(|(consumer, last)| Received {
            consumer,
            last: DeliveryNumber(last),
        })
    });
    let attach = (partition(), 1..4_u64, received).prop_map(|(partition, consumer, received)| {
        QueueCommand::Attach {
            partition,
            consumer: ConsumerId(consumer),
            received,
        }
    });
    let offer = (epoch(), 1..60_u64, 0..5_u32).prop_map(|(consumer, number, credit)| Offer {
        consumer,
        number: OfferNumber(number),
        credit,
    });
    let offer = (partition(), vec(offer, 1..4))
        .prop_map(|(partition, offers)| QueueCommand::Offer { partition, offers });
    let settle =
        (partition(), epoch(), vec(verdict(), 1..3)).prop_map(|(partition, consumer, verdicts)| {
            QueueCommand::Settle {
                partition,
                consumer,
                verdicts,
            }
        });
    let receive = (partition(), partition(), 0..4_u64, vec(moved(), 1..3)).prop_map(
        |(partition, source, below, messages)| QueueCommand::ReceiveMoved {
            partition,
            source,
            confirmed_below: MoveNumber(below),
            messages,
        },
    );
    prop_oneof![
        2 => set,
        1 => (2..=QUEUES).prop_map(|queue| QueueCommand::Remove { queue: QueueId(queue) }),
        12 => publish,
        2 => producer,
        4 => attach,
        1 => (partition(), epoch()).prop_map(|(partition, consumer)| QueueCommand::Detach {
            partition,
            consumer
        }),
        12 => offer,
        12 => settle,
        6 => Just(QueueCommand::ExpireDue),
        2 => receive,
        2 => (partition(), moves()).prop_map(|(partition, moves)| QueueCommand::ConfirmMoves {
            partition,
            moves
        }),
        1 => (partition(), moves()).prop_map(|(partition, moves)| QueueCommand::AbandonMoves {
            partition,
            moves
        }),
        2 => (partition(), below())
            .prop_map(|(partition, below)| QueueCommand::Redrive { partition, below }),
        1 => (partition(), below())
            .prop_map(|(partition, below)| QueueCommand::Purge { partition, below }),
    ]
}

#[derive(Clone, Debug)]
struct Step {
    passes: u64,
    commands: Vec<QueueCommand>,
    restores: bool,
}

fn step() -> impl Strategy<Value = Step> {
    let passes = prop_oneof![3 => 0..300_u64, 3 => 300..3_000_u64, 1 => 20_000..100_000_u64];
    let restores = prop_oneof![4 => Just(false), 1 => Just(true)];
    (passes, vec(command(), 1..5), restores).prop_map(|(passes, commands, restores)| Step {
        passes,
        commands,
        restores,
    })
}

fn encoded(queues: &Queues) -> Vec<u8> {
    let mut bytes = Vec::new();
    queues.encode_into(&mut bytes);
    bytes
}

fn restored(bytes: &[u8]) -> Queues {
    let mut input = Reader::new(bytes);
    let queues = Queues::decode_from(&mut input).expect("what was written is read");
    input.finish().expect("nothing follows");
    queues
}

/// A command as another replica reads it from the log.
fn read_again(command: &QueueCommand) -> QueueCommand {
    let mut bytes = Vec::new();
    command.encode_into(&mut bytes);
    let again = QueueCommand::decode_from(&mut Reader::new(&bytes)).expect("it is in bounds");
    assert_eq!(again, *command);
    again
}

fn event(effect: QueueEffect) -> Option<Event> {
    match effect {
        QueueEffect::Deliver {
            partition,
            consumer,
            deliveries,
        } => Some(Event::Deliver(partition, consumer, deliveries)),
        QueueEffect::Lapsed {
            partition,
            consumer,
            number,
        } => Some(Event::Lapsed(partition, consumer, number)),
        QueueEffect::ConsumerGone {
            partition,
            consumer,
        } => Some(Event::ConsumerGone(partition, consumer)),
        QueueEffect::Move(order) => Some(Event::Move(order)),
        QueueEffect::Removed { queue } => Some(Event::Removed(queue)),
        QueueEffect::Available { .. } | QueueEffect::NextDue(_) => None,
    }
}

fn without_count(command: &QueueCommand, reply: QueueReply) -> QueueReply {
    match (command, reply) {
        (QueueCommand::ExpireDue, QueueReply::Handled { more, .. }) => {
            QueueReply::Handled { count: 0, more }
        }
        (_, reply) => reply,
    }
}

fn view(message: &Message) -> MessageView {
    MessageView {
        sequence: message.sequence,
        body: message.body,
        key: message.key.clone(),
        priority: message.priority,
        attempts: message.attempts,
        since: message.since,
        expires: message.expires,
        origin: message.origin,
        state: match message.stand {
            Stand::Ready => MessageState::Ready,
            Stand::Later(due) | Stand::Again(due) => MessageState::Delayed { due },
            Stand::Leased(consumer, number, deadline) => MessageState::Leased {
                consumer,
                number,
                deadline,
            },
            Stand::Dead(reason) => MessageState::Dead { reason },
            Stand::Moving(_, to, _) => MessageState::Moving { to },
        },
    }
}

struct Run {
    model: Queues,
    other: Queues,
    naive: Naive,
    due: Option<ShardTime>,
}

impl Run {
    fn step(&mut self, step: &Step) -> TestCaseResult {
        let could: BTreeSet<_> = self.available();
        self.naive.now = self.naive.now.plus(Millis(step.passes));
        self.naive.index += 1;
        self.naive.ordinal = 0;
        let entry = Entry {
            index: LogIndex(self.naive.index),
            at: self.naive.now,
        };
        self.model.begin(entry);
        self.other.begin(entry);
        for command in &step.commands {
            let reply = self.model.execute(command.clone());
            prop_assert_eq!(&self.other.execute(read_again(command)), &reply);
            let mut bytes = Vec::new();
            reply.encode_into(&mut bytes);
            let read = QueueReply::decode_from(&mut Reader::new(&bytes));
            prop_assert_eq!(read.as_ref(), Ok(&reply));
            let expected = self.naive.apply(command);
            prop_assert_eq!(without_count(command, reply), expected, "{:?}", command);
        }
        let effects = self.model.finish();
        prop_assert_eq!(&self.other.finish(), &effects);
        let mut told = BTreeSet::new();
        for effect in &effects {
            match effect {
                QueueEffect::Available { partition } => {
                    told.insert(*partition);
                }
                QueueEffect::NextDue(due) => self.due = *due,
                _ => {}
            }
        }
        prop_assert_eq!(self.due, self.model.next_due());
        let events: Vec<_> = effects.into_iter().filter_map(event).collect();
        prop_assert_eq!(events, std::mem::take(&mut self.naive.events));
        let can = self.available();
        prop_assert!(told.is_subset(&can), "told {told:?}, are {can:?}");
        let new: Vec<_> = can
            .difference(&could)
            .filter(|id| !told.contains(id))
            .collect();
        prop_assert!(new.is_empty(), "not told of {new:?}");
        self.compare()?;
        let bytes = encoded(&self.model);
        prop_assert_eq!(&encoded(&self.other), &bytes);
        if step.restores {
            self.other = restored(&bytes);
            prop_assert_eq!(encoded(&self.other), bytes);
        }
        Ok(())
    }

    /// Where something could be delivered.
    fn available(&self) -> BTreeSet<PartitionId> {
        let parts = self.naive.parts.iter();
        let can = parts.filter(|(id, part)| {
            let queue = self.naive.queues.get(&id.queue);
            queue.is_some_and(|(_, definition)| !definition.paused) && part.pick().is_some()
        });
        can.map(|(id, _)| *id).collect()
    }

    fn compare(&self) -> TestCaseResult {
        for (id, part) in &self.naive.parts {
            let peek = QueueQuery::Peek {
                partition: *id,
                after: Sequence(0),
                limit: 1_000,
            };
            let mut messages: Vec<_> = part.messages.iter().map(view).collect();
            messages.sort_by_key(|view| view.sequence);
            let answer = QueueAnswer::Messages(messages);
            for model in [&self.model, &self.other] {
                prop_assert_eq!(&model.query(&peek), &answer);
            }
            check_keys(part.messages.iter())?;
        }
        let mut alive: Vec<_> = self.model.bodies_after(LogIndex(0)).collect();
        let parts = self.naive.parts.values();
        let mut bodies: Vec<_> = parts
            .flat_map(|p| p.messages.iter().map(|m| m.body))
            .collect();
        alive.sort();
        bodies.sort();
        prop_assert_eq!(alive, bodies);
        let all = QueueQuery::List {
            after: QueueId(0),
            limit: 1_000,
        };
        let answer = self.model.query(&all);
        prop_assert_eq!(&self.other.query(&all), &answer);
        let QueueAnswer::Queues(queues) = answer else {
            panic!("{answer:?}");
        };
        let known: Vec<_> = queues.iter().map(|view| view.queue).collect();
        prop_assert_eq!(known, self.naive.queues.keys().copied().collect::<Vec<_>>());
        queues
            .iter()
            .flat_map(|view| &view.partitions)
            .try_for_each(|view| self.compare_part(view))
    }

    fn compare_part(&self, view: &PartitionView) -> TestCaseResult {
        let PartitionView {
            partition,
            counts,
            totals,
            last_sequence,
            oldest,
        } = view;
        let none = crate::naive::Part::default();
        let part = self.naive.parts.get(partition).unwrap_or(&none);
        prop_assert_eq!(totals, &part.totals);
        prop_assert_eq!(last_sequence.0, part.last);
        let mut expected = Counts {
            consumers: part.consumers.len() as u64,
            producers: counts.producers,
            ..Counts::default()
        };
        let mut since = Vec::new();
        for message in &part.messages {
            expected.bytes += u64::from(message.body.length);
            let count = match message.stand {
                Stand::Ready => &mut expected.ready,
                Stand::Later(_) | Stand::Again(_) => &mut expected.delayed,
                Stand::Leased(..) => &mut expected.leased,
                Stand::Dead(_) => &mut expected.dead,
                Stand::Moving(..) => &mut expected.moving,
            };
            *count += 1;
            if !matches!(message.stand, Stand::Dead(_) | Stand::Moving(..)) {
                since.push((message.sequence, message.since));
            }
        }
        prop_assert_eq!(counts, &expected);
        prop_assert_eq!(*oldest, since.into_iter().min().map(|(_, since)| since));
        let Totals {
            published,
            acked,
            expired,
            purged,
            dropped,
            moved,
            ..
        } = *totals;
        let ended = acked + expired + purged + dropped + moved;
        prop_assert_eq!(
            published,
            counts.length() + ended,
            "what came is there, or is counted"
        );
        Ok(())
    }
}

/// Never two of one key with consumers.
fn check_keys<'a>(messages: impl Iterator<Item = &'a Message>) -> TestCaseResult {
    let mut leased: BTreeMap<&OrderingKey, usize> = BTreeMap::new();
    for message in messages {
        if let (Some(key), Stand::Leased(..)) = (&message.key, &message.stand) {
            *leased.entry(key).or_default() += 1;
        }
    }
    prop_assert!(leased.values().all(|count| *count == 1), "{leased:?}");
    Ok(())
}

fn run((definitions, steps): (Vec<Definition>, Vec<Step>)) -> TestCaseResult {
    let mut run = Run {
        model: Queues::new(),
        other: Queues::new(),
        naive: Naive::default(),
        due: None,
    };
    let sets = (1..)
        .zip(definitions)
        .map(|(queue, definition)| QueueCommand::Set {
            queue: QueueId(queue),
            revision: 1,
            definition,
        });
    let id = |queue| PartitionId {
        queue: QueueId(queue),
        number: PartitionNumber(0),
    };
    let attached = [(1, 1), (1, 2), (2, 1)].map(|(queue, consumer)| QueueCommand::Attach {
        partition: id(queue),
        consumer: ConsumerId(consumer),
        received: None,
    });
    run.step(&Step {
        passes: 1,
        commands: sets.chain(attached).collect(),
        restores: true,
    })?;
    steps.iter().try_for_each(|step| run.step(step))
}

/// The model does what the rules say, and a restored one does the same.
#[test]
fn random_histories_of_queues_follow_the_rules() {
    let history = (vec(definition(), 2..=3), vec(step(), 1..60));
    seed::check(400, &history, run);
}
