//! How a node shares out the volume that its data directory is on.
//!
//! Invariant: whatever is configured, logs get at most a quarter of the volume. The rest is for what a log
//! costs besides its own bytes: the journal's segments, table files that are dead but not yet compacted and
//! the copy that a compaction makes of them, snapshots, and the marks below.

const MIB: u64 = 1 << 20;

/// Most of the volume that logs may have, as a share of it.
const LOG_SHARE: u64 = 4;
/// Most that logs get where nothing is configured. A restart applies the log after the last snapshot again,
/// so more room makes restarts longer; and a follower that lacks more is quicker to have with a snapshot.
const DEFAULT_LOG_BYTES: u64 = 1_024 * MIB;
/// Least that logs get, so that some batches fit on the smallest volume.
const MIN_LOG_BYTES: u64 = 16 * MIB;
/// Least that one shard's log gets, however many shards share: a few of the largest batches.
const MIN_SHARD_LOG_BYTES: u64 = 4 * MIB;
/// A segment of the journal as a share of the log's bytes: at most three of them are on disk, and as many
/// bytes again in the table files that are made of each.
const SEGMENT_SHARE: u64 = 16;
/// Bounds of a segment. The upper one is twice the log's memtables, so that these decide when tables are
/// written; the lower one holds the largest group of writes.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 4 * MIB..=64 * MIB;
/// Below this share of the volume, nothing that grows is taken on.
const LOW_SHARE: u64 = 10;
/// More than that much need not be free: it is enough for all shards' snapshots and for compactions.
const MAX_LOW_BYTES: u64 = 512 * MIB;

/// See the module. All in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// The logs of all shards of the node together.
    pub log: u64,
    /// A segment of the journal that has come so far is followed by another.
    pub segment: u64,
    /// Less than this is little free space.
    pub low: u64,
    /// This much is enough again.
    pub ample: u64,
    /// The reserve that is given up when nothing is free: what one change of segments takes, a new segment
    /// and the tables of the one before.
    pub ballast: u64,
}

impl Budget {
    /// Of a volume of `volume` bytes, where logs are to have `configured` bytes or what is usual.
    #[must_use]
    pub fn of(volume: u64, configured: Option<u64>) -> Self {
        let log = configured
            .unwrap_or(DEFAULT_LOG_BYTES)
            .min(volume / LOG_SHARE)
            .max(MIN_LOG_BYTES);
        let segment = (log / SEGMENT_SHARE).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
        let ballast = 2 * segment;
        let low = (volume / LOW_SHARE).min(MAX_LOW_BYTES).max(ballast);
        Self {
            log,
            segment,
            low,
            ample: low / 2 * 3,
            ballast,
        }
    }

    /// What each shard's log gets where so many share.
    #[must_use]
    pub fn share(&self, shards: usize) -> u64 {
        let shards = u64::try_from(shards).unwrap_or(u64::MAX).max(1);
        (self.log / shards).max(MIN_SHARD_LOG_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_get_a_quarter_of_the_volume_at_most() {
        for gib in [1, 10, 100, 10_000] {
            let volume = gib << 30;
            for configured in [None, Some(0), Some(100 * MIB), Some(u64::MAX)] {
                let budget = Budget::of(volume, configured);
                assert!(budget.log <= volume / 4, "{volume} {configured:?}");
                assert!(budget.log >= MIN_LOG_BYTES);
                assert!(budget.low < budget.ample && budget.ample < volume / 4);
            }
        }
        assert_eq!(Budget::of(100 << 30, None).log, DEFAULT_LOG_BYTES);
        assert_eq!(Budget::of(100 << 30, Some(2 << 30)).log, 2 << 30);
    }

    #[test]
    fn a_small_volume_has_small_segments_and_a_large_one_is_as_before() {
        let small = Budget::of(300 * MIB, None);
        assert_eq!((small.log, small.low), (75 * MIB, 30 * MIB));
        let journal = 3 * small.segment;
        assert!(journal + small.log + small.ballast < 150 * MIB, "{small:?}");
        let large = Budget::of(10 << 30, None);
        assert_eq!((large.segment, large.ballast), (64 * MIB, 128 * MIB));
        assert_eq!(large.low, MAX_LOW_BYTES);
    }

    #[test]
    fn shards_share_alike_and_none_gets_too_little() {
        let budget = Budget::of(10 << 30, None);
        assert_eq!(budget.share(0), budget.log);
        assert_eq!(budget.share(8), budget.log / 8);
        assert_eq!(budget.share(1_000_000), MIN_SHARD_LOG_BYTES);
    }
}
