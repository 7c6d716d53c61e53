//! The clock that a session's lease is counted by.
//!
//! Invariant: it goes on while the machine sleeps. The usual monotonic clock stops then, and a machine that
//! wakes up after an hour would show locks as held for another TTL. On Linux it is `CLOCK_BOOTTIME`;
//! elsewhere `CLOCK_MONOTONIC`, which counts sleep on macOS.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// A moment: the time since the machine was started, time asleep included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LeaseTime(Duration);

impl LeaseTime {
    /// This moment.
    pub(crate) fn now() -> Self {
        let time = clock_gettime(CLOCK);
        // The time since a machine's start is not negative, and its nanoseconds are below a second.
        Self(Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        ))
    }

    /// How long it is until then; none if that is over.
    pub(crate) fn left(self) -> Duration {
        self - Self::now()
    }
}

impl Add<Duration> for LeaseTime {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length))
    }
}

/// How long after another moment it is; zero if it is before.
impl Sub for LeaseTime {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_differences_do_not_underflow() {
        let earlier = LeaseTime::now();
        let later = earlier + Duration::from_secs(3);
        assert_eq!(later - earlier, Duration::from_secs(3));
        assert_eq!(earlier - later, Duration::ZERO);
        assert!(LeaseTime::now() >= earlier);
        assert!(later.left() <= Duration::from_secs(3));
    }
}
