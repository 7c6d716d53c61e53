//! Whose answers a client has: all below a floor, and ranges above it.
//!
//! Invariant: the ranges are disjoint, do not touch each other or the floor, and are at most
//! [`MAX_ACKED_RANGES`]. What was acknowledged stays so: a serial in it is never carried out anew.
//!
//! The floor alone would not do: a single request that waits for days holds it back, and the answers of
//! all that came after would have to be kept.

use std::collections::BTreeMap;

use crate::{
    id::Serial,
    request::{AckedRanges, SerialRange},
};

/// Most ranges that are kept of a session: between two of them lies a request without an answer, of
/// which a client has no more under way than are kept here.
pub const MAX_ACKED_RANGES: usize = super::requests::MAX_IN_FLIGHT;

/// The serials whose answers a client has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Acked {
    pub(crate) below: Serial,
    /// From and below.
    ranges: BTreeMap<Serial, Serial>,
}

impl Acked {
    /// From what was kept. None if the ranges are not as they should be.
    pub(crate) fn restore(below: Serial, ranges: BTreeMap<Serial, Serial>) -> Option<Self> {
        let mut end = below;
        for (from, to) in &ranges {
            if *from <= end || to <= from {
                return None;
            }
            end = *to;
        }
        let is_bounded = ranges.len() <= MAX_ACKED_RANGES && end <= Serial::FIRST_EPHEMERAL;
        is_bounded.then_some(Self { below, ranges })
    }

    /// The ranges above the floor: from and below.
    pub(crate) const fn ranges(&self) -> &BTreeMap<Serial, Serial> {
        &self.ranges
    }

    /// True if the client has this answer.
    pub(crate) fn contains(&self, serial: Serial) -> bool {
        let range = self.ranges.range(..=serial).next_back();
        serial < self.below || range.is_some_and(|(_, below)| serial < *below)
    }

    /// Takes what a request acknowledges, and gives what of it is news. Ranges that find no room are
    /// left out; they come again.
    pub(crate) fn acknowledge(&mut self, below: Serial, ranges: AckedRanges) -> Vec<SerialRange> {
        let mut news = Vec::new();
        // No client acknowledges what nodes number.
        let below = below.min(Serial::FIRST_EPHEMERAL);
        if below > self.below {
            news.push(SerialRange {
                from: self.below,
                below,
            });
            self.raise(below);
        }
        news.extend(ranges.iter().filter(|range| self.add(*range)));
        news
    }

    fn raise(&mut self, below: Serial) {
        self.below = self.below.max(below);
        while let Some(first) = self.ranges.first_entry() {
            if *first.key() > self.below {
                return;
            }
            self.below = self.below.max(first.remove());
        }
    }

    /// False if it was there before, or there is no room.
    fn add(&mut self, range: SerialRange) -> bool {
        let SerialRange { mut from, below } = range;
        let mut below = below.min(Serial::FIRST_EPHEMERAL);
        if below <= from || below <= self.below {
            return false;
        }
        if from <= self.below {
            self.raise(below);
            return true;
        }
        let before = self.ranges.range(..=from).next_back();
        let before = before.map(|(from, below)| (*from, *below));
        if let Some((start, end)) = before.filter(|(_, end)| *end >= from) {
            if end >= below {
                return false;
            }
            from = start;
        } else if self.ranges.len() >= MAX_ACKED_RANGES
            && self.ranges.range(from..=below).next().is_none()
        {
            return false;
        }
        while let Some((start, end)) = self.ranges.range(from..=below).next() {
            let (start, end) = (*start, *end);
            below = below.max(end);
            self.ranges.remove(&start);
        }
        self.ranges.insert(from, below);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn range(from: u64, below: u64) -> SerialRange {
        let (from, below) = (Serial(from), Serial(below));
        SerialRange { from, below }
    }

    fn ranges(all: &[(u64, u64)]) -> AckedRanges {
        AckedRanges::new(all.iter().map(|(from, below)| range(*from, *below))).unwrap()
    }

    /// Against a plain set of numbers: all pairs of ranges and floors of a few serials.
    #[test]
    fn ranges_are_a_set() {
        let some = (1..9_u64).flat_map(|from| (from + 1..10).map(move |below| (from, below)));
        let some: Vec<_> = some.collect();
        for one in &some {
            for two in &some {
                for floor in 0..10 {
                    let mut acked = Acked::default();
                    let mut plain = BTreeSet::new();
                    for (floor, (from, below)) in [(0, *one), (floor, *two)] {
                        let news = acked.acknowledge(Serial(floor), ranges(&[(from, below)]));
                        let told: BTreeSet<u64> = (0..floor).chain(from..below).collect();
                        let heard: BTreeSet<u64> = news
                            .iter()
                            .flat_map(|new| new.from.0..new.below.0)
                            .collect();
                        assert!(heard.is_subset(&told));
                        assert!(told.difference(&plain).all(|new| heard.contains(new)));
                        plain.extend(told);
                    }
                    let is = |serial: &u64| acked.contains(Serial(*serial));
                    let set: BTreeSet<u64> = (0..12).filter(is).collect();
                    assert_eq!(set, plain, "{one:?} {two:?} {floor}");
                    let kept = (acked.below, acked.ranges.clone());
                    assert_eq!(Acked::restore(kept.0, kept.1), Some(acked));
                }
            }
        }
    }

    #[test]
    fn the_ranges_are_bounded() {
        let mut acked = Acked::default();
        for at in 1..=MAX_ACKED_RANGES as u64 {
            acked.acknowledge(Serial(0), ranges(&[(3 * at, 3 * at + 1)]));
        }
        let far = 4 * MAX_ACKED_RANGES as u64;
        let one_more = ranges(&[(far, far + 1)]);
        assert_eq!(acked.acknowledge(Serial(0), one_more), []);
        assert!(
            !acked.contains(Serial(far)),
            "what is not kept is not forgotten"
        );
        acked.acknowledge(Serial(0), ranges(&[(4, 6)]));
        assert!(!acked.acknowledge(Serial(0), one_more).is_empty());
    }
}
