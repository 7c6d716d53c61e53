//! Which partition a message goes to, and which shard a partition lives in.
//!
//! Invariant: the answer depends on the arguments alone, so a message that is tried again comes where it
//! came first, and is known there. A retry elsewhere would be stored twice.

use super::id::{
    MessageId, MoveNumber, OrderingKey, PartitionId, PartitionNumber, ProducerId, QueueId,
};
use crate::{
    id::ShardId,
    ring::{Kind, VIRTUAL_NODES, hash},
};

/// The mapping from ordering keys to the partitions of a queue, as that from locks to shards: a queue that
/// grows by a partition moves few keys.
#[derive(Clone, Debug)]
pub struct PartitionRing {
    /// By position; no two at one.
    points: Vec<(u64, PartitionNumber)>,
}

impl PartitionRing {
    /// The ring of partitions 0 and up; of one, if there should be none.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        let mut points: Vec<_> = (0..partitions.max(1))
            .flat_map(|partition| {
                (0..VIRTUAL_NODES).map(move |number| {
                    let parts: [&[u8]; 2] = [&partition.to_be_bytes(), &number.to_be_bytes()];
                    let at = hash(Kind::PartitionPoint, &parts);
                    (at, PartitionNumber(partition))
                })
            })
            .collect();
        points.sort_unstable();
        points.dedup_by_key(|(position, _)| *position);
        Self { points }
    }

    /// Where messages of a key are kept in order.
    #[must_use]
    pub fn partition_of_key(&self, key: &OrderingKey) -> PartitionNumber {
        let hash = key.hash();
        let next = self.points.partition_point(|(at, _)| *at < hash);
        let point = self.points.get(next).or_else(|| self.points.first());
        // There is always a point, so the default never serves.
        point.map_or(PartitionNumber(0), |(_, partition)| *partition)
    }
}

/// Where the messages without a key of a producer go that numbers them.
#[must_use]
pub fn partition_of_producer(producer: ProducerId, partitions: u32) -> PartitionNumber {
    share(
        hash(Kind::Producer, &[&producer.0.to_be_bytes()]),
        partitions,
    )
}

/// Where a message without a key or a producer's number goes that has an id.
#[must_use]
pub fn partition_of_id(id: &MessageId, partitions: u32) -> PartitionNumber {
    share(hash(Kind::MessageId, &[id.as_str().as_bytes()]), partitions)
}

/// Where a message without a key goes that moves to another queue.
#[must_use]
pub fn partition_of_move(
    source: PartitionId,
    number: MoveNumber,
    partitions: u32,
) -> PartitionNumber {
    let parts: [&[u8]; 3] = [
        &source.queue.0.to_be_bytes(),
        &source.number.0.to_be_bytes(),
        &number.0.to_be_bytes(),
    ];
    share(hash(Kind::Move, &parts), partitions)
}

/// The data shard, of 1..=`shards`, that a partition lives in. Those of a queue take shards one after
/// another, and begin anew when all have one: hashing each alone would put two of four on one shard in
/// most queues.
#[must_use]
pub fn shard_of_partition(queue: QueueId, partition: PartitionNumber, shards: u32) -> ShardId {
    let shards = u64::from(shards.max(1));
    let first = hash(Kind::Queue, &[&queue.0.to_be_bytes()]) % shards;
    let shard = (first + u64::from(partition.0)) % shards + 1;
    // At most `shards`.
    ShardId(u32::try_from(shard).unwrap_or(1))
}

fn share(hash: u64, partitions: u32) -> PartitionNumber {
    let partition = hash % u64::from(partitions.max(1));
    // Less than `partitions`.
    PartitionNumber(u32::try_from(partition).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn the_partitions_of_a_queue_spread_over_the_shards() {
        for queue in 1..200 {
            let shards = |count, of| -> BTreeSet<ShardId> {
                (0..count)
                    .map(|number| shard_of_partition(QueueId(queue), PartitionNumber(number), of))
                    .collect()
            };
            assert_eq!(shards(4, 8).len(), 4);
            assert_eq!(shards(8, 8).len(), 8);
            assert_eq!(shards(9, 4), (1..=4).map(ShardId).collect());
        }
    }

    #[test]
    fn keys_spread_over_the_partitions_and_few_move() {
        let (four, five) = (PartitionRing::new(4), PartitionRing::new(5));
        let mut shares: BTreeMap<PartitionNumber, u32> = BTreeMap::new();
        let mut moved = 0;
        for number in 0..10_000 {
            let key = OrderingKey::new(&format!("key-{number}")).unwrap();
            let before = four.partition_of_key(&key);
            let after = five.partition_of_key(&key);
            *shares.entry(before).or_default() += 1;
            if before != after {
                assert_eq!(after, PartitionNumber(4), "keys move to the new one only");
                moved += 1;
            }
        }
        assert_eq!(shares.len(), 4);
        assert!(shares.values().all(|share| (1_800..3_200).contains(share)));
        assert!((1_500..2_600).contains(&moved), "{moved}");
    }

    /// Places of messages are a disk format: they may never change.
    #[test]
    fn the_mappings_are_pinned() {
        let key = OrderingKey::new("customer-17").unwrap();
        let id = MessageId::new("order-4711").unwrap();
        let source = PartitionId {
            queue: QueueId(7),
            number: PartitionNumber(2),
        };
        let places = [
            PartitionRing::new(8).partition_of_key(&key).0,
            partition_of_producer(ProducerId(0x0123_4567_89ab_cdef), 8).0,
            partition_of_id(&id, 8).0,
            partition_of_move(source, MoveNumber(3), 8).0,
            shard_of_partition(QueueId(7), PartitionNumber(2), 8).0,
        ];
        assert_eq!(places, [7, 6, 6, 1, 3]);
    }
}
