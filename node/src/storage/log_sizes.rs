//! How many bytes each entry of a shard's log has on disk.
//!
//! Invariant: the sizes are those of the log's entries, in order and without a gap, and their sum is kept.

use std::collections::VecDeque;

/// See the module. Four bytes an entry, of which a log's budget bounds the number.
#[derive(Debug, Default)]
pub(crate) struct LogSizes {
    /// The index of the first.
    first: u64,
    sizes: VecDeque<u32>,
    sum: u64,
}

impl LogSizes {
    /// The next entry has so many bytes. One that does not follow the last begins anew.
    pub(crate) fn push(&mut self, index: u64, bytes: usize) {
        if self.end() != index {
            *self = Self {
                first: index,
                ..Self::default()
            };
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.sizes.push_back(bytes);
        self.sum += u64::from(bytes);
    }

    /// Entries at and above an index are not in the log any more.
    pub(crate) fn truncate(&mut self, from: u64) {
        while self.end() > from
            && let Some(bytes) = self.sizes.pop_back()
        {
            self.sum = self.sum.saturating_sub(u64::from(bytes));
        }
    }

    /// Entries up to an index are not in the log any more.
    pub(crate) fn purge(&mut self, upto: u64) {
        while self.first <= upto
            && let Some(bytes) = self.sizes.pop_front()
        {
            self.sum = self.sum.saturating_sub(u64::from(bytes));
            self.first += 1;
        }
    }

    /// All together.
    pub(crate) const fn sum(&self) -> u64 {
        self.sum
    }

    /// Those above an index; all if there is none.
    pub(crate) fn above(&self, index: Option<u64>) -> u64 {
        let next = index.map_or(0, |index| index.saturating_add(1));
        let skipped = usize::try_from(next.saturating_sub(self.first)).unwrap_or(usize::MAX);
        // From the nearer end.
        if skipped > self.sizes.len() / 2 {
            self.sizes
                .iter()
                .skip(skipped)
                .copied()
                .map(u64::from)
                .sum()
        } else {
            let below: u64 = self
                .sizes
                .iter()
                .take(skipped)
                .copied()
                .map(u64::from)
                .sum();
            self.sum.saturating_sub(below)
        }
    }

    /// The last index that is to go if at most so many bytes are to stay; none if all may stay.
    pub(crate) fn surplus(&self, keep: u64) -> Option<u64> {
        let mut rest = self.sum;
        let mut next = self.first;
        for bytes in &self.sizes {
            if rest <= keep {
                break;
            }
            rest = rest.saturating_sub(u64::from(*bytes));
            next += 1;
        }
        (next > self.first).then(|| next - 1)
    }

    fn end(&self) -> u64 {
        self.first + self.sizes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sizes: impl IntoIterator<Item = usize>) -> LogSizes {
        let mut log = LogSizes::default();
        for (index, bytes) in (5..).zip(sizes) {
            log.push(index, bytes);
        }
        log
    }

    #[test]
    fn sums_follow_the_log() {
        let mut log = of([10, 20, 30, 40]);
        assert_eq!(log.sum(), 100);
        let above = |log: &LogSizes, index| log.above(Some(index));
        assert_eq!(
            [4, 5, 6, 7, 8, 99].map(|index| above(&log, index)),
            [100, 90, 70, 40, 0, 0]
        );
        assert_eq!(log.above(None), 100);
        log.truncate(8);
        assert_eq!(log.sum(), 60);
        log.push(8, 1);
        log.purge(5);
        assert_eq!((log.sum(), above(&log, 6)), (51, 31));
        log.purge(3);
        assert_eq!(log.sum(), 51);
        log.purge(100);
        assert_eq!((log.sum(), log.above(None)), (0, 0));
        log.push(101, 7);
        log.push(102, 7);
        assert_eq!((log.sum(), above(&log, 101)), (14, 7));
        log.truncate(0);
        assert_eq!(log.sum(), 0);
    }

    #[test]
    fn a_snapshot_may_lie_beyond_the_end_and_the_log_begins_behind_it() {
        let mut log = of([10, 20]);
        log.push(50, 3);
        assert_eq!(
            (log.sum(), log.above(Some(49)), log.surplus(0)),
            (3, 3, Some(50))
        );
    }

    #[test]
    fn the_oldest_are_the_surplus() {
        let log = of([10, 20, 30, 40]);
        assert_eq!(log.surplus(100), None);
        assert_eq!(log.surplus(99), Some(5));
        assert_eq!(log.surplus(70), Some(6));
        assert_eq!(log.surplus(69), Some(7));
        assert_eq!(log.surplus(0), Some(8));
        assert_eq!(LogSizes::default().surplus(0), None);
    }
}
