//! The record of how far a replica's log reached when it was removed from this node, in column family
//! `vote`.
//!
//! ```text
//! key:     shard u32 | 3u8
//! payload: term u64 | node u64 | index u64
//! ```
//!
//! Invariant: it survives the deletion of the replica, together with its vote, and only ever grows; see
//! [`crate::replica::eligibility`].

use lockstep_model::ShardId;

use super::record::{self, Kind, Problem};
use crate::raft::types::LogId;

/// The key of a shard's record.
pub(crate) const fn key(shard: ShardId) -> [u8; 5] {
    let [a, b, c, d] = shard.0.to_be_bytes();
    [a, b, c, d, 3]
}

/// The value of a record.
pub(crate) fn encode(key: &[u8], reach: &LogId) -> Vec<u8> {
    record::seal(Kind::Reach, key, |out| record::put_log_id(out, reach))
}

/// The place in a record.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<LogId, Problem> {
    let mut fields = record::open_as(Kind::Reach, key, value)?;
    let reach = fields.log_id()?;
    fields.end()?;
    Ok(reach)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{raft::types::LeaderId, storage::record::tests::assert_damage_is_detected};

    #[test]
    fn places_survive_the_round_trip_and_damage_is_detected() {
        let reach = LogId {
            leader_id: LeaderId {
                term: 7,
                node_id: 3,
            },
            index: 1 << 40,
        };
        let key = key(ShardId(5));
        let value = encode(&key, &reach);
        assert_eq!(decode(&key, &value).unwrap(), reach);
        assert_damage_is_detected(&key, &value, decode);
    }
}
