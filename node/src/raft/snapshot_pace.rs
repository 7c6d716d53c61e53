//! How fast a node sends snapshots, all together.
//!
//! Invariant: over any span the node sends at most what its rate allows for that span, and one chunk
//! more. Whoever comes first goes first, so that all transfers get on alike.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// See the module. What it counts are turns, as in the leaky bucket as a meter (ITU-T I.371, Annex A:
/// the generic cell rate algorithm), without a burst.
#[derive(Debug)]
pub struct Pace {
    bytes_per_second: u64,
    /// When the next may go.
    free: Mutex<Instant>,
}

impl Pace {
    /// At most so many bytes a second.
    #[must_use]
    pub fn new(bytes_per_second: u64) -> Self {
        Self {
            bytes_per_second: bytes_per_second.max(1),
            free: Mutex::new(Instant::now()),
        }
    }

    /// Returns when so many bytes may go. A caller that gives up has spent its turn.
    pub async fn take(&self, bytes: usize) {
        sleep_until(self.turn(bytes, Instant::now())).await;
    }

    /// When so many bytes may go that are to go now.
    fn turn(&self, bytes: usize, now: Instant) -> Instant {
        let mut free = self.free.lock();
        let turn = (*free).max(now);
        *free = turn + self.cost(bytes);
        turn
    }

    fn cost(&self, bytes: usize) -> Duration {
        let nanos = bytes as u128 * 1_000_000_000 / u128::from(self.bytes_per_second);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: usize = 1_000;
    const RATE: u64 = 10_000;

    #[test]
    fn all_transfers_together_keep_to_the_rate_and_share_it() {
        let pace = Pace::new(RATE);
        let begin = *pace.free.lock();
        // Each of four asks again as soon as its turn has come.
        let mut turns = [begin; 4];
        for chunk in 0..100 {
            let next = turns.iter_mut().min().unwrap();
            *next = pace.turn(CHUNK, *next);
            assert_eq!(*next - begin, Duration::from_millis(100) * chunk);
        }
        let (first, last) = (turns.iter().min().unwrap(), turns.iter().max().unwrap());
        assert_eq!(*last - *first, Duration::from_millis(300));
    }

    #[test]
    fn time_that_was_not_used_is_not_made_up_for() {
        let pace = Pace::new(RATE);
        let later = *pace.free.lock() + Duration::from_secs(60);
        assert_eq!(pace.turn(CHUNK, later), later);
        for _ in 0..9 {
            pace.turn(CHUNK, later);
        }
        assert_eq!(pace.turn(CHUNK, later), later + Duration::from_secs(1));
    }

    #[tokio::test]
    async fn a_turn_is_waited_for() {
        let pace = Pace::new(RATE);
        let begin = Instant::now();
        for _ in 0..3 {
            pace.take(CHUNK).await;
        }
        assert!(begin.elapsed() >= Duration::from_millis(199));
    }
}
