//! The consistent-hash ring: which data shard a key belongs to.
//!
//! Invariant: the answer depends on the number of shards and the key alone, and never changes
//! within one [`RING_VERSION`]: keys are stored where it says.
//!
//! Version 1. Every hash is XXH3-64 with seed 0 of one tag byte and a payload:
//!
//! | what                            | tag    | payload                                       |
//! |---------------------------------|--------|-----------------------------------------------|
//! | a point of a shard              | `0x01` | shard `u32`, number `u32` in 0..150           |
//! | a lock's name                   | `0x02` | its UTF-8 bytes                               |
//! | a session's id                  | `0x03` | id `u64`                                      |
//! | a message's ordering key        | `0x04` | its UTF-8 bytes                               |
//! | a point of a partition          | `0x05` | partition `u32`, number `u32` in 0..150       |
//! | a producer's id                 | `0x06` | id `u64`                                      |
//! | a message's id                  | `0x07` | its UTF-8 bytes                               |
//! | a move of a message             | `0x08` | queue `u64`, partition `u32`, number `u64`    |
//! | a queue's first shard           | `0x09` | queue `u64`                                   |
//! | a point of a node (placement)   | `0x10` | node `u64`, number `u32` in 0..150            |
//! | a shard's replicas (placement)  | `0x11` | shard `u32`                                   |
//!
//! Integers are big-endian. A key belongs to the shard of the first point at or after its hash,
//! and after the greatest point to that of the least. Where two points are equal, the lower shard
//! has it. The tags keep the kinds of key independent of each other: that a lock's name spells a
//! session's id says nothing about where either lives.
//!
//! Source: Karger et al., "Consistent Hashing and Random Trees", 1997.

use xxhash_rust::xxh3::Xxh3;

use crate::{
    id::{LockName, SessionId, ShardId},
    meta::record::{MAX_SHARDS, MIN_SHARDS},
};

/// The version of the mapping from keys to shards, kept in the cluster's settings.
pub const RING_VERSION: u32 = 1;

/// Points of each shard on the ring, and of each node on the ring of the placement. A shard's share
/// of the keys then varies by about 8 % (the standard deviation falls with the square root).
pub const VIRTUAL_NODES: u32 = 150;

/// The kinds of thing that are hashed; the numbers are part of the format.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    ShardPoint = 0x01,
    Lock = 0x02,
    Session = 0x03,
    OrderingKey = 0x04,
    PartitionPoint = 0x05,
    Producer = 0x06,
    MessageId = 0x07,
    Move = 0x08,
    Queue = 0x09,
    NodePoint = 0x10,
    Replicas = 0x11,
}

/// The hash of a thing of one kind, whose payload is the concatenation of `parts`.
pub(crate) fn hash(kind: Kind, parts: &[&[u8]]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&[kind as u8]);
    for part in parts {
        hasher.update(part);
    }
    hasher.digest()
}

/// The mapping from keys to data shards.
#[derive(Clone, Debug)]
pub struct Ring {
    /// By position; no two at one. 16 bytes each: at most 2.4 MB.
    points: Vec<(u64, ShardId)>,
}

impl Ring {
    /// The ring of data shards 1..=`shards`. A number outside [`MIN_SHARDS`]..=[`MAX_SHARDS`],
    /// which no settings hold, is taken as the nearest bound.
    #[must_use]
    pub fn new(shards: u32) -> Self {
        let mut points: Vec<_> = (1..=shards.clamp(MIN_SHARDS, MAX_SHARDS))
            .flat_map(|shard| {
                (0..VIRTUAL_NODES).map(move |number| {
                    let parts: [&[u8]; 2] = [&shard.to_be_bytes(), &number.to_be_bytes()];
                    (hash(Kind::ShardPoint, &parts), ShardId(shard))
                })
            })
            .collect();
        points.sort_unstable();
        points.dedup_by_key(|(position, _)| *position);
        Self { points }
    }

    /// The shard that keeps a lock.
    #[must_use]
    pub fn shard_of_lock(&self, name: &LockName) -> ShardId {
        self.shard_at(hash(Kind::Lock, &[name.as_str().as_bytes()]))
    }

    /// The shard that is a session's home.
    #[must_use]
    pub fn shard_of_session(&self, session: SessionId) -> ShardId {
        self.shard_at(hash(Kind::Session, &[&session.0.to_be_bytes()]))
    }

    fn shard_at(&self, hash: u64) -> ShardId {
        let next = self.points.partition_point(|(at, _)| *at < hash);
        let point = self.points.get(next).or_else(|| self.points.first());
        // There is always a point, so the default never serves.
        point.map_or(ShardId(MIN_SHARDS), |(_, shard)| *shard)
    }
}

#[cfg(test)]
mod tests;
