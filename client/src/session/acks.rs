//! Which answers each shard was told that this client has.
//!
//! Invariant: nothing is acknowledged without its answer, and all that a shard keeps answers of is
//! acknowledged there in the end, whatever waits meanwhile: a floor below which nothing is pending goes
//! with every request, and where something that waits for long holds the floor back, so do some of the
//! ranges between what is pending, those first that the shard has not heard of.

use std::collections::BTreeMap;

use lockstep_model::{id::ShardId, request::MAX_RANGES_PER_REQUEST};
use lockstep_proto::lock::v1::SerialRange;

/// How far the floor may lag behind before ranges are sent too: far below the 4,096 answers that a shard
/// keeps, and above what is under way in most sessions, which then send none.
const MAX_LAG: u64 = 512;

/// What shards were told of a session.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// By shard, none where the client cannot tell; ranges from their first to their last.
    told: BTreeMap<Option<ShardId>, BTreeMap<u64, u64>>,
}

impl Acks {
    /// The ranges to send to a shard: between what is `pending` (ascending) and before `next`, the first
    /// serial that was not used yet. The newest that the shard has not heard of.
    pub(super) fn ranges(
        &mut self,
        shard: Option<ShardId>,
        pending: impl Iterator<Item = u64>,
        next: u64,
    ) -> Vec<SerialRange> {
        let mut pending = pending.chain([next]);
        let Some(floor) = pending.next() else {
            return Vec::new();
        };
        if next.saturating_sub(floor) <= MAX_LAG {
            return Vec::new();
        }
        let told = self.told.entry(shard).or_default();
        while let Some(first) = told.first_entry().filter(|first| *first.get() < floor) {
            first.remove();
        }
        let mut ranges = Vec::new();
        let mut after = floor;
        for serial in pending {
            let range = (after + 1, serial - 1);
            after = serial;
            if range.0 <= range.1 && !contains(told, range) {
                ranges.push(range);
            }
        }
        let newest = ranges.len().saturating_sub(MAX_RANGES_PER_REQUEST);
        let ranges = ranges.split_off(newest).into_iter();
        ranges
            .map(|(first, last)| SerialRange { first, last })
            .collect()
    }

    /// A request with these ranges was answered by a shard.
    pub(super) fn told(&mut self, shard: Option<ShardId>, ranges: &[SerialRange]) {
        let told = self.told.entry(shard).or_default();
        for range in ranges {
            // Ranges only grow, between requests that are pending and leave one after another.
            while let Some((first, _)) = told.range(range.first..=range.last).next() {
                let first = *first;
                told.remove(&first);
            }
            told.insert(range.first, range.last);
        }
    }
}

fn contains(told: &BTreeMap<u64, u64>, (first, last): (u64, u64)) -> bool {
    let before = told.range(..=first).next_back();
    before.is_some_and(|(_, end)| *end >= last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(ranges: &[SerialRange]) -> Vec<(u64, u64)> {
        ranges.iter().map(|r| (r.first, r.last)).collect()
    }

    #[test]
    fn nothing_is_sent_while_the_floor_follows() {
        let mut acks = Acks::default();
        assert_eq!(
            sent(&acks.ranges(None, [7, 9].into_iter(), MAX_LAG + 7)),
            []
        );
        assert_eq!(
            sent(&acks.ranges(None, [7, 9].into_iter(), MAX_LAG + 8)),
            [(8, 8), (10, MAX_LAG + 7)]
        );
    }

    /// More long waits than one request has ranges: each shard hears of all, the newest first.
    #[test]
    fn every_shard_hears_of_every_range() {
        let mut acks = Acks::default();
        let pending = || (1..=100_u64).map(|at| 10 * at);
        let shards = [Some(ShardId(1)), Some(ShardId(2))];
        for shard in shards {
            let mut heard = Vec::new();
            loop {
                let ranges = acks.ranges(shard, pending(), 1_001);
                if ranges.is_empty() {
                    break;
                }
                assert!(ranges.len() <= MAX_RANGES_PER_REQUEST);
                acks.told(shard, &ranges);
                heard.extend(sent(&ranges));
            }
            heard.sort_unstable();
            let all: Vec<_> = (1..100_u64).map(|at| (10 * at + 1, 10 * at + 9)).collect();
            assert_eq!(heard, all);
        }
    }
}
