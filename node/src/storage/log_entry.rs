//! The record of a log entry, in column family `log`.
//!
//! ```text
//! key:     shard u32 | index u64
//! payload: term u64 | node u64 | nothing, an encoded batch, or a membership
//! ```
//!
//! Invariant: keys sort by shard, then by index.

use bytes::Bytes;
use lockstep_model::ShardId;

use super::{
    membership,
    record::{self, Kind, Problem},
};
use crate::raft::types::{BatchBytes, Entry, LogId, Payload};

/// A log entry's key.
pub(crate) type Key = [u8; 12];

/// The key of an entry.
pub(crate) const fn key(shard: ShardId, index: u64) -> Key {
    let [a, b, c, d] = shard.0.to_be_bytes();
    let [e, f, g, h, i, j, k, l] = index.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

/// The least key above that of `index`, as the open end of a range.
pub(crate) fn key_after(shard: ShardId, index: u64) -> Vec<u8> {
    let mut key = key(shard, index).to_vec();
    key.push(0);
    key
}

/// The index in a key of the shard.
pub(crate) fn index_of(key: &[u8]) -> Result<u64, Problem> {
    match key.split_last_chunk::<8>() {
        Some((shard, index)) if shard.len() == 4 => Ok(u64::from_be_bytes(*index)),
        Some(_) | None => Err(Problem::Malformed("its key is not that of a log entry")),
    }
}

/// The value of an entry.
pub(crate) fn encode(key: &Key, entry: &Entry) -> Vec<u8> {
    let kind = match &entry.payload {
        Payload::Blank => Kind::BlankEntry,
        Payload::Normal(_) => Kind::BatchEntry,
        Payload::Membership(_) => Kind::MembershipEntry,
    };
    record::seal(kind, key, |out| {
        out.reserve_exact(size_in_memory(entry));
        record::put_leader(out, &entry.log_id.leader_id);
        match &entry.payload {
            Payload::Blank => {}
            Payload::Normal(BatchBytes(batch)) => out.extend_from_slice(batch),
            Payload::Membership(it) => membership::put(out, it),
        }
    })
}

/// The entry in a record.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Entry, Problem> {
    let index = index_of(key)?;
    let (kind, mut fields) = record::open(key, value)?;
    let leader_id = fields.leader()?;
    let payload = match kind {
        Kind::BlankEntry => {
            fields.end()?;
            Payload::Blank
        }
        Kind::BatchEntry => Payload::Normal(BatchBytes(Bytes::copy_from_slice(fields.rest()))),
        Kind::MembershipEntry => {
            let membership = membership::take(&mut fields)?;
            fields.end()?;
            Payload::Membership(membership)
        }
        Kind::Vote
        | Kind::Purged
        | Kind::Committed
        | Kind::SnapshotHead
        | Kind::SnapshotChunk
        | Kind::Meta
        | Kind::Reach => return Err(Problem::Kind { found: kind as u8 }),
    };
    Ok(Entry {
        log_id: LogId { leader_id, index },
        payload,
    })
}

/// About how many bytes an entry takes in memory: for bounds, not for accounts.
pub(crate) fn size_in_memory(entry: &Entry) -> usize {
    /// Log id, envelope, and the entry's own struct.
    const FIXED: usize = 128;
    /// A voter or a node with its address.
    const PER_NODE: usize = 96;
    FIXED
        + match &entry.payload {
            Payload::Blank => 0,
            Payload::Normal(BatchBytes(batch)) => batch.len(),
            Payload::Membership(it) => it.nodes().count() * PER_NODE,
        }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        raft::types::{LeaderId, Membership, PeerAddress},
        storage::record::tests::assert_damage_is_detected,
    };

    fn entries() -> Vec<Entry> {
        let node = |id: u64| (id, PeerAddress(format!("node-{id}:7401")));
        let joint = Membership::new(
            vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4])],
            BTreeMap::from([node(1), node(2), node(3), node(4), node(9)]),
        )
        .unwrap();
        [
            Payload::Blank,
            Payload::Normal(BatchBytes(Bytes::from_static(b"\x00commands\xff"))),
            Payload::Normal(BatchBytes(Bytes::new())),
            Payload::Membership(joint),
        ]
        .into_iter()
        .map(|payload| Entry {
            log_id: LogId {
                leader_id: LeaderId {
                    term: 7,
                    node_id: 3,
                },
                index: u64::MAX - 1,
            },
            payload,
        })
        .collect()
    }

    #[test]
    fn entries_survive_the_round_trip_and_damage_is_detected() {
        for entry in entries() {
            let key = key(ShardId(5), entry.log_id.index);
            let value = encode(&key, &entry);
            assert_eq!(decode(&key, &value).unwrap(), entry);
            assert_damage_is_detected(&key, &value, decode);
        }
    }

    #[test]
    fn the_layout_of_version_1_stays() {
        let entry = Entry {
            log_id: LogId {
                leader_id: LeaderId {
                    term: 2,
                    node_id: 1,
                },
                index: 3,
            },
            payload: Payload::Normal(BatchBytes(Bytes::from_static(b"ab"))),
        };
        let key = key(ShardId(4), 3);
        assert_eq!(key, [0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 3]);
        let mut expected = vec![1, 2];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend(b"ab");
        let value = encode(&key, &entry);
        assert_eq!(value[..value.len() - 4], expected);
        let crc = crc32fast::hash(&[&key[..], &expected].concat());
        assert_eq!(value[value.len() - 4..], crc.to_be_bytes());
    }

    #[test]
    fn keys_sort_by_shard_then_index() {
        let sorted = [key(ShardId(0), 0), key(ShardId(0), 256), key(ShardId(1), 1)];
        assert!(sorted.is_sorted());
        assert!(key_after(ShardId(0), 5)[..] > key(ShardId(0), 5)[..]);
        assert!(key_after(ShardId(0), 5)[..] < key(ShardId(0), 6)[..]);
    }
}
