//! The record of up to where a shard's log has been purged, in column family `vote`.
//!
//! ```text
//! key:     shard u32 | 1u8
//! payload: term u64 | node u64 | index u64
//! ```
//!
//! Invariant: the log of the shard begins at the index after this one, and nothing below it is read.

use lockstep_model::ShardId;

use super::record::{self, Kind, Problem};
use crate::raft::types::LogId;

/// The key of a shard's mark.
pub(crate) const fn key(shard: ShardId) -> [u8; 5] {
    let [a, b, c, d] = shard.0.to_be_bytes();
    [a, b, c, d, 1]
}

/// The value of a mark.
pub(crate) fn encode(key: &[u8], upto: &LogId) -> Vec<u8> {
    record::seal(Kind::Purged, key, |out| record::put_log_id(out, upto))
}

/// The mark in a record.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<LogId, Problem> {
    let mut fields = record::open_as(Kind::Purged, key, value)?;
    let upto = fields.log_id()?;
    fields.end()?;
    Ok(upto)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{raft::types::LeaderId, storage::record::tests::assert_damage_is_detected};

    #[test]
    fn marks_survive_the_round_trip_and_damage_is_detected() {
        let upto = LogId {
            leader_id: LeaderId {
                term: 4,
                node_id: 2,
            },
            index: u64::MAX,
        };
        let key = key(ShardId(8));
        let value = encode(&key, &upto);
        assert_eq!(decode(&key, &value).unwrap(), upto);
        assert_damage_is_detected(&key, &value, decode);
    }
}
