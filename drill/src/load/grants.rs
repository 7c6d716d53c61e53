//! When each shard granted, and how long it granted nothing.
//!
//! Invariant: a gap is never measured shorter than it was: it runs from answer to answer, as the
//! clients saw it.

use std::time::Duration;

use parking_lot::Mutex;

use crate::history::Moment;

/// The grants of all data shards.
#[derive(Debug)]
pub struct GrantTimes {
    /// Of shard 1, 2, ...
    shards: Vec<Mutex<Times>>,
}

#[derive(Debug, Default)]
struct Times {
    /// When a grant was asked for and answered, roughly ascending by the latter: clients note theirs
    /// on their own.
    grants: Vec<(Moment, Moment)>,
    /// When the newest of the granted acquisitions was asked for.
    asked: Moment,
}

impl GrantTimes {
    /// None yet, for data shards 1 to `shards`.
    #[must_use]
    pub fn new(shards: u32) -> Self {
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
        }
    }

    fn times(&self, shard: u32) -> Option<&Mutex<Times>> {
        self.shards.get((shard as usize).checked_sub(1)?)
    }

    /// A grant on `shard` was asked for and answered.
    pub fn note(&self, shard: u32, asked: Moment, answered: Moment) {
        if let Some(times) = self.times(shard) {
            let mut times = times.lock();
            times.grants.push((asked, answered));
            times.asked = times.asked.max(asked);
        }
    }

    /// The shards that have granted nothing that was asked for after `moment`.
    #[must_use]
    pub fn silent_since(&self, moment: Moment) -> Vec<u32> {
        let shards = 1..=self.shards.len() as u32;
        shards
            .filter(|shard| {
                let times = self.times(*shard);
                times.is_none_or(|times| times.lock().asked <= moment)
            })
            .collect()
    }

    /// The longest time without a grant on `shard` between `from` and `to`.
    #[must_use]
    pub fn longest_gap(&self, shard: u32, from: Moment, to: Moment) -> Duration {
        let mut answered: Vec<Moment> = match self.times(shard) {
            Some(times) => {
                let times = times.lock();
                let within = |moment: &&Moment| (from..to).contains(*moment);
                let answered = times.grants.iter().map(|(_, answered)| answered);
                answered.filter(within).copied().collect()
            }
            None => vec![],
        };
        answered.extend([from, to]);
        answered.sort_unstable();
        let pairs = answered.iter().zip(answered.iter().skip(1));
        pairs
            .map(|(earlier, later)| later.since(*earlier))
            .max()
            .unwrap_or_default()
    }

    /// How long the grants that were answered between `from` and `to` took, in seconds.
    #[must_use]
    pub fn latencies(&self, from: Moment, to: Moment) -> Vec<f64> {
        let mut latencies = vec![];
        for times in &self.shards {
            let times = times.lock();
            let within = times.grants.iter();
            let within = within.filter(|(_, answered)| (from..to).contains(answered));
            latencies.extend(within.map(|(asked, answered)| answered.since(*asked).as_secs_f64()));
        }
        latencies
    }

    /// Forgets the times so far: what a round kept is no use to the next.
    pub fn forget(&self) {
        self.shards
            .iter()
            .for_each(|times| times.lock().grants.clear());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_run_from_the_fault_to_the_first_grant_or_between_grants() {
        let grants = GrantTimes::new(2);
        let second = |s: u64| Moment(s * 1_000_000_000);
        for at in [1, 2, 3, 9, 10, 12] {
            grants.note(2, second(at - 1), second(at));
        }
        let gap = |from, to| grants.longest_gap(2, second(from), second(to)).as_secs();
        assert_eq!(gap(1, 13), 6);
        assert_eq!(gap(5, 11), 4);
        assert_eq!(gap(9, 13), 2);
        // Still silent at the end.
        assert_eq!(gap(9, 30), 18);
        assert_eq!(grants.longest_gap(1, second(0), second(4)).as_secs(), 4);
    }

    #[test]
    fn only_what_was_asked_for_after_it_shows_that_a_shard_serves_again() {
        let grants = GrantTimes::new(2);
        grants.note(1, Moment(10), Moment(30));
        grants.note(2, Moment(20), Moment(21));
        assert_eq!(grants.silent_since(Moment(15)), [1]);
        assert_eq!(grants.silent_since(Moment(9)), [0_u32; 0]);
        grants.forget();
        assert_eq!(grants.silent_since(Moment(15)), [1]);
    }
}
