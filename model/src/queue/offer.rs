//! Leasing ready messages to those who have room.
//!
//! Invariants: an offer is counted once; nobody gets more than was offered for it in this command, or
//! than the queue lets one consumer have; what is not used is said to be unused.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Definition, Delivery, Offered, QueueEffect, QueueRefusal, QueueReply, Queues,
    command::{MAX_MESSAGES, Offer},
    id::{ConsumerEpoch, OrderingKey, PartitionId, Rank, Sequence},
    partition::Round,
};

/// The message that is next.
struct Pick {
    sequence: Sequence,
    rank: Rank,
    /// As whose first; none for a message without a key.
    key: Option<OrderingKey>,
}

impl Queues {
    pub(super) fn offer(
        &mut self,
        id: PartitionId,
        offers: &[Offer],
    ) -> Result<QueueReply, QueueRefusal> {
        let definition = self.definition(id)?;
        self.touched.insert(id);
        let mut room = BTreeMap::new();
        let counted: Vec<_> = offers
            .iter()
            .map(|offer| self.count_offer(id, &definition, offer, &mut room))
            .collect();
        let given = self.assign(id, &definition, room);
        let answers = offers.iter().zip(counted).map(|(offer, counted)| {
            let given = given.get(&offer.consumer).map_or(0, Vec::len);
            // At most MAX_MESSAGES.
            let given = u32::try_from(given).unwrap_or(u32::MAX);
            match counted {
                Offered::Counted { .. } => Offered::Counted {
                    unused: offer.credit.saturating_sub(given),
                },
                other @ (Offered::Stale | Offered::NoConsumer) => other,
            }
        });
        let answers = answers.collect();
        for (consumer, deliveries) in given {
            self.effects.push(QueueEffect::Deliver {
                partition: id,
                consumer,
                deliveries,
            });
        }
        Ok(QueueReply::Offered(answers))
    }

    /// Says whether an offer counts, and adds the room that its consumer has.
    fn count_offer(
        &mut self,
        id: PartitionId,
        definition: &Definition,
        offer: &Offer,
        room: &mut BTreeMap<ConsumerEpoch, u32>,
    ) -> Offered {
        let Offer {
            consumer,
            number,
            credit,
        } = *offer;
        let active = self.first_consumer(id);
        let Some(known) = self.consumers.get_mut(&(id, consumer)) else {
            return Offered::NoConsumer;
        };
        // Once in a command, so that its answer is about one offer.
        if number <= known.last_offer || room.contains_key(&consumer) {
            return Offered::Stale;
        }
        known.last_offer = number;
        let most = definition.max_in_flight.saturating_sub(known.in_flight);
        let is_served = !definition.single_active || active == Some(consumer);
        room.insert(consumer, if is_served { credit.min(most) } else { 0 });
        self.hear_of(id, consumer);
        Offered::Counted { unused: credit }
    }

    /// Leases messages to those who have room, in turn, beginning after the one who was served last.
    fn assign(
        &mut self,
        id: PartitionId,
        definition: &Definition,
        room: BTreeMap<ConsumerEpoch, u32>,
    ) -> BTreeMap<ConsumerEpoch, Vec<Delivery>> {
        let mut given: BTreeMap<ConsumerEpoch, Vec<Delivery>> = BTreeMap::new();
        if definition.paused {
            return given;
        }
        let deadline = self.entry.at.plus(definition.visibility);
        let served = self.partitions.get(&id).map(|core| core.served);
        let served = served.unwrap_or_default();
        let has_room = room.into_iter().filter(|(_, room)| *room > 0);
        let (mut turns, after): (Vec<_>, Vec<_>) =
            has_room.partition(|(consumer, _)| *consumer > served);
        turns.extend(after);
        for _ in 0..MAX_MESSAGES {
            let Some((consumer, left)) = turns.first_mut() else {
                break;
            };
            let Some(pick) = self.pick(id) else {
                break;
            };
            let consumer = *consumer;
            *left -= 1;
            let is_full = *left == 0;
            self.take_turn(id, &pick);
            let Some(delivery) = self.lease((id, pick.sequence), consumer, deadline) else {
                break;
            };
            given.entry(consumer).or_default().push(delivery);
            if is_full {
                turns.remove(0);
            } else {
                turns.rotate_left(1);
            }
        }
        given
    }

    /// True if there is a message that could be delivered, and the queue is not paused.
    pub(super) fn is_available(&self, id: PartitionId) -> bool {
        let definition = self.definition(id);
        let is_open = |definition: Arc<Definition>| !definition.paused;
        definition.is_ok_and(is_open) && self.pick(id).is_some()
    }

    fn pick(&self, id: PartitionId) -> Option<Pick> {
        let partition = self.partitions.get(&id)?;
        let plain = partition.ready.first();
        let plain = plain.map(|sequence| (Rank::LAST, Sequence(sequence)));
        let row = self.index.first_unkeyed(id);
        let unkeyed = [plain, row].into_iter().flatten().min();
        let keyed = self.index.first_open(id);
        let is_keyed = match (unkeyed, keyed) {
            (None, None) => return None,
            (Some(_), None) => false,
            (None, Some(_)) => true,
            (Some((unkeyed, _)), Some(keyed)) if unkeyed != keyed => keyed < unkeyed,
            (Some((rank, _)), Some(_)) => {
                let round = partition.rounds.get(&rank);
                round.is_none_or(|round| round.keyed)
            }
        };
        if let (true, Some(rank)) = (is_keyed, keyed) {
            let last = partition.rounds.get(&rank).map(|round| &round.last);
            let (key, sequence) = self.index.open_after(id, rank, last)?;
            let key = Some(key);
            return Some(Pick {
                sequence,
                rank,
                key,
            });
        }
        unkeyed.map(|(rank, sequence)| Pick {
            sequence,
            rank,
            key: None,
        })
    }

    /// Whose turn it is after this message.
    fn take_turn(&mut self, id: PartitionId, pick: &Pick) {
        let rounds = &mut self.partition(id).rounds;
        match (&pick.key, rounds.get_mut(&pick.rank)) {
            (Some(key), _) => {
                let (last, keyed) = (key.clone(), false);
                rounds.insert(pick.rank, Round { last, keyed });
            }
            (None, Some(round)) => round.keyed = true,
            (None, None) => {}
        }
    }
}
