//! The record of a replica's vote, in column family `vote`.
//!
//! ```text
//! key:     shard u32 | 0u8
//! payload: term u64 | node u64 | committed u8
//! ```
//!
//! Invariant: a replica has one vote, its latest; losing it would let it vote twice in a term.

use lockstep_model::ShardId;

use super::record::{self, Kind, Problem};
use crate::raft::types::Vote;

/// The key of a shard's vote.
pub(crate) const fn key(shard: ShardId) -> [u8; 5] {
    let [a, b, c, d] = shard.0.to_be_bytes();
    [a, b, c, d, 0]
}

/// The value of a vote.
pub(crate) fn encode(key: &[u8], vote: &Vote) -> Vec<u8> {
    record::seal(Kind::Vote, key, |out| {
        record::put_leader(out, &vote.leader_id);
        out.push(u8::from(vote.committed));
    })
}

/// The vote in a record.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Vote, Problem> {
    let mut fields = record::open_as(Kind::Vote, key, value)?;
    let vote = Vote {
        leader_id: fields.leader()?,
        committed: fields.flag()?,
    };
    fields.end()?;
    Ok(vote)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{raft::types::LeaderId, storage::record::tests::assert_damage_is_detected};

    #[test]
    fn votes_survive_the_round_trip_and_damage_is_detected() {
        for committed in [false, true] {
            let vote = Vote {
                leader_id: LeaderId {
                    term: 1 << 40,
                    node_id: 9,
                },
                committed,
            };
            let key = key(ShardId(3));
            let value = encode(&key, &vote);
            assert_eq!(decode(&key, &value).unwrap(), vote);
            assert_damage_is_detected(&key, &value, decode);
        }
    }
}
