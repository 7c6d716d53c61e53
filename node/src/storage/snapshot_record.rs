//! The records of a snapshot, in column family `snapshot`.
//!
//! ```text
//! head    key: shard u32 | 0u8      payload: generation u64 | chunk count u32 | size u64
//!                                            | last log id (optional) | membership
//! chunk   key: shard u32 | 1u8 | generation u64 | number u32      payload: bytes
//! ```
//!
//! Invariant: a head is written only when all chunks of its generation are durable, and no
//! generation is written twice: so the head always names a whole snapshot, the old or the new one.

use lockstep_model::ShardId;

use super::{
    membership,
    record::{self, Kind, Problem},
};
use crate::raft::types::SnapshotMeta;

/// The size of a chunk: one read, one checksum, and one copy in memory at a time.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Counts the snapshots that a replica has begun to write. Never used again, not even after a
/// crash in the middle.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Generation(pub(crate) u64);

impl Generation {
    /// The one after.
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// Which snapshot is the current one, and what it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotHead {
    /// Whose chunks to read.
    pub(crate) generation: Generation,
    /// How many chunks.
    pub(crate) chunks: u32,
    /// How many bytes together.
    pub(crate) bytes: u64,
    /// What it covers.
    pub(crate) meta: SnapshotMeta,
}

/// The key of a shard's head. It sorts before the chunks.
pub(crate) const fn head_key(shard: ShardId) -> [u8; 5] {
    let [a, b, c, d] = shard.0.to_be_bytes();
    [a, b, c, d, 0]
}

/// The key of a chunk.
pub(crate) fn chunk_key(shard: ShardId, generation: Generation, number: u32) -> Vec<u8> {
    let mut key = generation_key(shard, generation);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// The least key of a generation.
pub(crate) fn generation_key(shard: ShardId, generation: Generation) -> Vec<u8> {
    let mut key = shard.0.to_be_bytes().to_vec();
    key.push(1);
    key.extend_from_slice(&generation.0.to_be_bytes());
    key
}

/// The generation and number in a chunk's key.
pub(crate) fn parse_chunk_key(key: &[u8]) -> Result<(Generation, u32), Problem> {
    let wrong = Problem::Malformed("its key is not that of a snapshot chunk");
    let Some((rest, number)) = key.split_last_chunk::<4>() else {
        return Err(wrong);
    };
    match rest.split_last_chunk::<8>() {
        Some((&[_, _, _, _, 1], generation)) => Ok((
            Generation(u64::from_be_bytes(*generation)),
            u32::from_be_bytes(*number),
        )),
        Some(_) | None => Err(wrong),
    }
}

/// The value of a head.
pub(crate) fn encode_head(key: &[u8], head: &SnapshotHead) -> Vec<u8> {
    record::seal(Kind::SnapshotHead, key, |out| {
        out.extend_from_slice(&head.generation.0.to_be_bytes());
        out.extend_from_slice(&head.chunks.to_be_bytes());
        out.extend_from_slice(&head.bytes.to_be_bytes());
        membership::put_optional_log_id(out, head.meta.last_log_id.as_ref());
        membership::put_stored(out, &head.meta.last_membership);
    })
}

/// The head in a record.
pub(crate) fn decode_head(key: &[u8], value: &[u8]) -> Result<SnapshotHead, Problem> {
    let mut fields = record::open_as(Kind::SnapshotHead, key, value)?;
    let head = SnapshotHead {
        generation: Generation(fields.u64()?),
        chunks: fields.u32()?,
        bytes: fields.u64()?,
        meta: SnapshotMeta {
            last_log_id: membership::take_optional_log_id(&mut fields)?,
            last_membership: membership::take_stored(&mut fields)?,
        },
    };
    fields.end()?;
    Ok(head)
}

/// The value of a chunk.
pub(crate) fn encode_chunk(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    record::seal(Kind::SnapshotChunk, key, |out| {
        out.reserve_exact(bytes.len() + 4);
        out.extend_from_slice(bytes);
    })
}

/// The bytes in a chunk.
pub(crate) fn decode_chunk<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], Problem> {
    Ok(record::open_as(Kind::SnapshotChunk, key, value)?.rest())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        raft::types::{LeaderId, LogId, Membership, PeerAddress, StoredMembership},
        storage::record::tests::assert_damage_is_detected,
    };

    #[test]
    fn heads_survive_the_round_trip_and_damage_is_detected() {
        let id = |index| LogId {
            leader_id: LeaderId {
                term: 3,
                node_id: 1,
            },
            index,
        };
        let membership = Membership::new(
            vec![BTreeSet::from([1])],
            BTreeMap::from([(1, PeerAddress("a:1".into()))]),
        )
        .unwrap();
        let metas = [
            SnapshotMeta::default(),
            SnapshotMeta {
                last_log_id: Some(id(90)),
                last_membership: StoredMembership::new(Some(id(12)), membership),
            },
        ];
        for meta in metas {
            let head = SnapshotHead {
                generation: Generation(7),
                chunks: 2,
                bytes: 1 << 21,
                meta,
            };
            let key = head_key(ShardId(1));
            let value = encode_head(&key, &head);
            assert_eq!(decode_head(&key, &value).unwrap(), head);
            assert_damage_is_detected(&key, &value, decode_head);
        }
    }

    #[test]
    fn chunks_survive_the_round_trip_and_damage_is_detected() {
        let key = chunk_key(ShardId(1), Generation(7), 4);
        assert_eq!(parse_chunk_key(&key).unwrap(), (Generation(7), 4));
        assert!(parse_chunk_key(&head_key(ShardId(1))).is_err());
        let value = encode_chunk(&key, b"some bytes");
        assert_eq!(decode_chunk(&key, &value).unwrap(), b"some bytes");
        assert_damage_is_detected(&key, &value, |key, value| {
            decode_chunk(key, value).map(<[u8]>::to_vec)
        });
        assert!(head_key(ShardId(1))[..] < key[..]);
        assert!(key < generation_key(ShardId(1), Generation(8)));
    }
}
