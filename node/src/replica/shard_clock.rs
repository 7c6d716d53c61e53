//! A shard's time, as this replica counts it: what timed waits run out by.
//!
//! Every replica counts, whether it leads or not: on from the time of the last batch that it has
//! applied, by its own monotonic clock, since the moment when it applied it. A leader puts its count
//! into each batch. Invariant: it never goes back, and (but for the rate of those clocks) no count is
//! ahead of the time that has passed, because a batch is applied no earlier than it was made. So a wait
//! never ends early; and since whoever takes over the lead has counted on, it ends late only by
//! what that replica lagged, or by the time in which no replica of the shard ran. Nothing here looks at a
//! wall clock: one that is set, or wrong, changes nothing.

use std::time::{Duration, Instant};

use lockstep_model::{Millis, ShardTime};
use parking_lot::Mutex;

/// A shard's time.
pub struct ShardClock {
    anchor: Mutex<Anchor>,
}

/// What the time was, and when.
#[derive(Clone, Copy)]
struct Anchor {
    time: ShardTime,
    at: Instant,
}

impl Anchor {
    fn count(self, now: Instant) -> ShardTime {
        let passed = now.saturating_duration_since(self.at);
        self.time.plus(millis(passed))
    }
}

impl ShardClock {
    /// Begins at zero: what is applied puts that right.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        let time = ShardTime(0);
        Self {
            anchor: Mutex::new(Anchor { time, at: now }),
        }
    }

    /// The shard's time at a moment.
    #[must_use]
    pub fn at(&self, now: Instant) -> ShardTime {
        self.anchor.lock().count(now)
    }

    /// The shard's time.
    #[must_use]
    pub fn now(&self) -> ShardTime {
        self.at(Instant::now())
    }

    /// The shard had this time in the last batch that was applied here. If this replica has counted
    /// further, it goes on from there.
    pub fn applied(&self, time: ShardTime, now: Instant) {
        let mut anchor = self.anchor.lock();
        if time > anchor.count(now) {
            *anchor = Anchor { time, at: now };
        }
    }

    /// How long it is until the shard has this time, if nothing goes wrong.
    #[must_use]
    pub fn until(&self, time: ShardTime) -> Duration {
        Duration::from_millis(time.since(self.now()).0)
    }
}

fn millis(duration: Duration) -> Millis {
    Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_counts_on_from_what_was_applied_and_never_goes_back() {
        let begin = Instant::now();
        let clock = ShardClock::new(begin);
        assert_eq!(clock.at(begin + 7 * MS), ShardTime(7));
        clock.applied(ShardTime(1_000), begin + 10 * MS);
        assert_eq!(clock.at(begin + 15 * MS), ShardTime(1_005));
        // An entry that was on its way while this replica counted on.
        clock.applied(ShardTime(1_003), begin + 15 * MS);
        assert_eq!(clock.at(begin + 15 * MS), ShardTime(1_005));
        assert_eq!(clock.at(begin), ShardTime(1_000));
    }

    /// A leader's death costs a timed wait nothing where the next one has kept up.
    #[test]
    fn whoever_takes_over_has_counted_on() {
        let begin = Instant::now();
        let (leader, follower) = (ShardClock::new(begin), ShardClock::new(begin));
        leader.applied(ShardTime(500), begin);
        let batch = leader.at(begin + 20 * MS);
        follower.applied(batch, begin + 25 * MS);
        let later = begin + 60_000 * MS;
        assert_eq!(leader.at(later), ShardTime(60_500));
        assert_eq!(follower.at(later), ShardTime(60_495));
    }
}
