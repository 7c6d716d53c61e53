//! One test for each rule of queues that was once a hole on paper, or that histories seldom reach.

use lockstep_model::{
    Millis, ShardTime,
    codec::{Decode, Encode, Reader},
    queue::{
        BodyRef, Definition, Delivery, Entry, Offered, Published, QueueAnswer, QueueCommand,
        QueueEffect, QueueQuery, QueueRefusal, QueueReply, Queues,
        command::{Body, MAX_EXPIRED, NewMessage, Numbering, Offer, Received, Settlement, Verdict},
        id::{
            ConsumerEpoch, ConsumerId, DeliveryNumber, LogIndex, MessagePriority, OfferNumber,
            OrderingKey, PartitionId, PartitionNumber, ProducerEpoch, ProducerId, ProducerSequence,
            QueueId, Sequence,
        },
    },
};

const HERE: PartitionId = PartitionId {
    queue: QueueId(1),
    number: PartitionNumber(0),
};

fn definition() -> Definition {
    Definition {
        partitions: 1,
        hosted: [PartitionNumber(0)].into(),
        ..Definition::default()
    }
}

struct World {
    queues: Queues,
    index: u64,
    at: ShardTime,
    offers: u64,
}

impl World {
    fn new(definition: Definition) -> Self {
        let mut world = Self {
            queues: Queues::new(),
            index: 0,
            at: ShardTime(1),
            offers: 0,
        };
        world.apply(QueueCommand::Set {
            queue: QueueId(1),
            revision: 1,
            definition,
        });
        world
    }

    fn apply(&mut self, command: QueueCommand) -> (QueueReply, Vec<QueueEffect>) {
        self.index += 1;
        self.queues.begin(Entry {
            index: LogIndex(self.index),
            at: self.at,
        });
        let reply = self.queues.execute(command);
        (reply, self.queues.finish())
    }

    fn reply(&mut self, command: QueueCommand) -> QueueReply {
        self.apply(command).0
    }

    fn publish(&mut self, messages: Vec<NewMessage>) -> Vec<Published> {
        self.publish_as(None, messages)
    }

    fn publish_as(
        &mut self,
        producer: Option<Numbering>,
        messages: Vec<NewMessage>,
    ) -> Vec<Published> {
        let partition = HERE;
        match self.reply(QueueCommand::Publish {
            partition,
            producer,
            messages,
        }) {
            QueueReply::Published(all) => all,
            other => panic!("{other:?}"),
        }
    }

    fn attach(&mut self, id: u64, last: u64) -> (ConsumerEpoch, bool, Vec<Delivery>) {
        let consumer = ConsumerId(id);
        let received = Some(Received {
            consumer: ConsumerEpoch(id),
            last: DeliveryNumber(last),
        });
        let partition = HERE;
        let (reply, effects) = self.apply(QueueCommand::Attach {
            partition,
            consumer,
            received,
        });
        match reply {
            QueueReply::Attached {
                consumer, is_new, ..
            } => (consumer, is_new, delivered(effects)),
            other => panic!("{other:?}"),
        }
    }

    /// What each consumer gets of an offer of its.
    fn offer(&mut self, credits: &[(u64, u32)]) -> Vec<Delivery> {
        self.offers += 1;
        let offers = credits.iter().map(|(consumer, credit)| Offer {
            consumer: ConsumerEpoch(*consumer),
            number: OfferNumber(self.offers),
            credit: *credit,
        });
        let command = QueueCommand::Offer {
            partition: HERE,
            offers: offers.collect(),
        };
        delivered(self.apply(command).1)
    }

    fn settle(&mut self, consumer: u64, number: u64, settlement: Settlement) -> QueueReply {
        self.reply(QueueCommand::Settle {
            partition: HERE,
            consumer: ConsumerEpoch(consumer),
            verdicts: vec![Verdict {
                from: DeliveryNumber(number),
                to: DeliveryNumber(number),
                settlement,
            }],
        })
    }
}

fn delivered(effects: Vec<QueueEffect>) -> Vec<Delivery> {
    let deliveries = effects.into_iter().filter_map(|effect| match effect {
        QueueEffect::Deliver { deliveries, .. } => Some(deliveries),
        _ => None,
    });
    deliveries.flatten().collect()
}

fn plain() -> NewMessage {
    NewMessage {
        body: Body {
            length: 1,
            checksum: 0,
        },
        key: None,
        priority: MessagePriority::default(),
        delay: Millis(0),
        ttl: None,
        id: None,
        number: None,
    }
}

fn keyed(key: &str) -> NewMessage {
    NewMessage {
        key: Some(OrderingKey::new(key).unwrap()),
        ..plain()
    }
}

fn sequences(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|d| d.sequence.0).collect()
}

/// A leader that dies before it sent does not stall its consumer until the lease is over.
#[test]
fn what_was_not_received_is_sent_again_under_its_numbers() {
    let mut world = World::new(definition());
    world.attach(1, 0);
    world.publish(vec![plain(); 4]);
    let first = world.offer(&[(1, 4)]);
    assert_eq!(sequences(&first), [1, 2, 3, 4]);
    world.settle(1, 3, Settlement::Ack);
    let (_, is_new, again) = world.attach(1, 1);
    assert!(!is_new);
    assert_eq!(again, [first[1].clone(), first[3].clone()]);
}

#[test]
fn an_offer_that_comes_twice_counts_once() {
    let mut world = World::new(definition());
    world.attach(1, 0);
    world.publish(vec![plain(); 4]);
    let offer = Offer {
        consumer: ConsumerEpoch(1),
        number: OfferNumber(1),
        credit: 3,
    };
    let command = QueueCommand::Offer {
        partition: HERE,
        offers: vec![offer],
    };
    let (reply, effects) = world.apply(command.clone());
    assert_eq!(
        reply,
        QueueReply::Offered(vec![Offered::Counted { unused: 0 }])
    );
    assert_eq!(delivered(effects).len(), 3);
    let (reply, effects) = world.apply(command);
    assert_eq!(reply, QueueReply::Offered(vec![Offered::Stale]));
    assert_eq!(delivered(effects), []);
}

/// Credit is no part of the state: what finds no message is given back, and nothing is leased later.
#[test]
fn credit_strands_in_no_partition() {
    let mut world = World::new(definition());
    world.attach(1, 0);
    let offer = Offer {
        consumer: ConsumerEpoch(1),
        number: OfferNumber(1),
        credit: 3,
    };
    let offers = vec![offer];
    let partition = HERE;
    let reply = world.reply(QueueCommand::Offer { partition, offers });
    assert_eq!(
        reply,
        QueueReply::Offered(vec![Offered::Counted { unused: 3 }])
    );
    let (_, effects) = world.apply(QueueCommand::Publish {
        partition,
        producer: None,
        messages: vec![plain()],
    });
    assert_eq!(effects, [QueueEffect::Available { partition }]);
}

#[test]
fn a_receipt_of_a_lease_that_is_over_settles_nothing() {
    let mut world = World::new(definition());
    world.attach(1, 0);
    world.attach(2, 0);
    world.publish(vec![plain()]);
    let first = world.offer(&[(1, 1)]);
    world.at = first[0].deadline;
    assert_eq!(
        world.settle(1, 1, Settlement::Extend { by: Millis(1_000) }),
        QueueReply::Settled(vec![1])
    );
    world.at = world.at.plus(Millis(1_000));
    world.reply(QueueCommand::ExpireDue);
    let second = world.offer(&[(2, 1)]);
    assert_eq!((second[0].sequence, second[0].attempts), (Sequence(1), 1));
    assert_eq!(
        world.settle(1, 1, Settlement::Ack),
        QueueReply::Settled(vec![0])
    );
    let holds = QueueQuery::Holds {
        partition: HERE,
        consumer: ConsumerEpoch(2),
        number: DeliveryNumber(1),
    };
    assert_eq!(world.queues.query(&holds), QueueAnswer::Holds(true));
    let consumer = ConsumerEpoch(9);
    assert_eq!(
        world.settle(9, 1, Settlement::Ack),
        QueueReply::Refused(QueueRefusal::NoConsumer { consumer })
    );
}

/// Nothing runs out but by the command: a new leader gives consumers time to find it.
#[test]
fn time_alone_ends_no_lease() {
    let mut world = World::new(definition());
    world.attach(1, 0);
    world.publish(vec![plain()]);
    let first = world.offer(&[(1, 1)]);
    world.at = first[0].deadline.plus(Millis(1_000_000));
    assert_eq!(world.offer(&[(1, 1)]), []);
    assert_eq!(
        world.settle(1, 1, Settlement::Ack),
        QueueReply::Settled(vec![1])
    );
}

/// The numbers of a producer are a set: one that comes late is no repetition.
#[test]
fn a_number_that_comes_late_is_new_and_one_below_the_floor_is_forgotten() {
    let mut world = World::new(definition());
    let partition = HERE;
    let producer = ProducerId(7);
    let open = QueueCommand::OpenProducer {
        partition,
        producer,
    };
    let producer = ProducerEpoch(1);
    assert_eq!(world.reply(open), QueueReply::Producer { producer });
    let numbered = |number| NewMessage {
        number: Some(ProducerSequence(number)),
        ..plain()
    };
    let by = |below| {
        Some(Numbering {
            producer,
            answered_below: ProducerSequence(below),
        })
    };
    let stored = |number| Published::Stored(Sequence(number));
    assert_eq!(world.publish_as(by(0), vec![numbered(5)]), [stored(1)]);
    assert_eq!(
        world.publish_as(by(0), vec![numbered(3), numbered(5)]),
        [stored(2), Published::Duplicate]
    );
    let number = ProducerSequence(3);
    let forgotten = Published::Refused(QueueRefusal::DedupForgotten { number });
    assert_eq!(
        world.publish_as(by(4), vec![numbered(3), numbered(5), numbered(4)]),
        [forgotten, Published::Duplicate, stored(3)]
    );
}

/// One hot key does not hold up the others: each gets its turn.
#[test]
fn keys_take_turns_and_have_one_message_with_consumers() {
    let mut world = World::new(definition());
    world.attach(1, 0);
    world.publish(vec![keyed("hot"); 100]);
    world.publish(vec![keyed("a"), keyed("b"), keyed("a")]);
    let mut seen = Vec::new();
    for _ in 0..6 {
        let got = world.offer(&[(1, 1)]);
        seen.push(got[0].key.clone().unwrap().as_str().to_owned());
        let number = got[0].number.0;
        world.settle(1, number, Settlement::Ack);
    }
    for key in ["hot", "a", "b"] {
        assert!(seen[..3].iter().any(|served| served == key), "{seen:?}");
    }
    let all = world.offer(&[(1, 100)]);
    assert_eq!(all.len(), 1, "one of each key that is left: {all:?}");
}

#[test]
fn a_delayed_nack_blocks_its_key_and_no_other() {
    let mut world = World::new(definition());
    world.attach(1, 0);
    world.publish(vec![keyed("a"), keyed("a"), keyed("b")]);
    let got = world.offer(&[(1, 9)]);
    let number = got
        .iter()
        .find(|d| d.sequence == Sequence(1))
        .unwrap()
        .number
        .0;
    let delay = Millis(500);
    world.settle(1, number, Settlement::Nack { delay });
    assert_eq!(world.offer(&[(1, 9)]), []);
    world.at = world.at.plus(delay);
    world.reply(QueueCommand::ExpireDue);
    let again = world.offer(&[(1, 9)]);
    assert_eq!(sequences(&again), [1]);
    assert_eq!(again[0].attempts, 1);
}

#[test]
fn consumers_take_turns() {
    let mut world = World::new(definition());
    world.attach(1, 0);
    world.attach(2, 0);
    let mut counts = [0; 3];
    for _ in 0..10 {
        world.publish(vec![plain()]);
        let got = world.offer(&[(1, 1), (2, 1)]);
        let consumers = QueueQuery::Consumers {
            partition: HERE,
            after: ConsumerEpoch(0),
            limit: 10,
        };
        assert_eq!(got.len(), 1);
        if let QueueAnswer::Consumers(all) = world.queues.query(&consumers) {
            all.iter()
                .for_each(|c| counts[c.consumer.0 as usize] = c.in_flight);
        }
    }
    assert_eq!(counts, [0, 5, 5]);
}

/// A command never does more than its share, however much is due.
#[test]
fn expiry_and_purge_go_in_steps() {
    let mut world = World::new(definition());
    let short = NewMessage {
        ttl: Some(Millis(1)),
        ..plain()
    };
    for _ in 0..3 {
        world.publish(vec![short.clone(); 2_000]);
    }
    world.at = world.at.plus(Millis(1));
    let step = |count: usize, more| QueueReply::Handled {
        count: count as u32,
        more,
    };
    assert_eq!(
        world.reply(QueueCommand::ExpireDue),
        step(MAX_EXPIRED, true)
    );
    assert_eq!(
        world.reply(QueueCommand::ExpireDue),
        step(6_000 - MAX_EXPIRED, false)
    );
    for _ in 0..3 {
        world.publish(vec![plain(); 2_000]);
    }
    let purge = |below| QueueCommand::Purge {
        partition: HERE,
        below: Sequence(below),
    };
    assert_eq!(world.reply(purge(12_000)), step(MAX_EXPIRED, true));
    assert_eq!(world.reply(purge(12_000)), step(5_999 - MAX_EXPIRED, false));
    assert_eq!(world.reply(purge(12_001)), step(1, false));
}

#[test]
fn a_removed_queue_answers_so_and_is_swept_in_steps() {
    let mut world = World::new(definition());
    world.attach(1, 0);
    world.publish(vec![plain(); 4_000]);
    world.publish(vec![keyed("a"); 2_000]);
    world.offer(&[(1, 10)]);
    let queue = QueueId(1);
    let (_, effects) = world.apply(QueueCommand::Remove { queue });
    assert_eq!(effects[0], QueueEffect::Removed { queue });
    let gone = QueueReply::Refused(QueueRefusal::QueueGone { queue });
    assert_eq!(world.settle(1, 1, Settlement::Ack), gone);
    let (mut steps, mut bytes) = (0, Vec::new());
    while world.queues.next_due().is_some() {
        world.reply(QueueCommand::ExpireDue);
        bytes.clear();
        world.queues.encode_into(&mut bytes);
        Queues::decode_from(&mut Reader::new(&bytes)).expect("half swept, it is read");
        steps += 1;
    }
    assert_eq!(steps, 2);
    assert_eq!(world.queues.bodies_after(LogIndex(0)).count(), 0);
    assert!(
        bytes.len() < 20,
        "only that it is gone is remembered: {bytes:?}"
    );
    let set = QueueCommand::Set {
        queue,
        revision: 9,
        definition: definition(),
    };
    assert_eq!(world.reply(set), gone);
}

/// Bodies are counted whether their messages are stored or not: others count them too.
#[test]
fn a_refused_message_has_an_ordinal_too() {
    let mut world = World::new(Definition {
        max_message_bytes: 1,
        ..definition()
    });
    let large = NewMessage {
        body: Body {
            length: 2,
            checksum: 0,
        },
        ..plain()
    };
    world.publish(vec![plain(), large, plain()]);
    let bodies: Vec<_> = world.queues.bodies_after(LogIndex(0)).collect();
    let body = |ordinal| BodyRef {
        index: LogIndex(2),
        ordinal,
        length: 1,
    };
    assert_eq!(bodies, [body(0), body(2)]);
}
