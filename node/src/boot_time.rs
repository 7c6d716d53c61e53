//! The clock that leases are counted by.
//!
//! Invariant: it goes on while the machine sleeps. The usual monotonic clock stops then
//! (`CLOCK_MONOTONIC`), and a leader that wakes up after minutes would believe for another lease that
//! nobody can have replaced it. What is granted for a time, or relied on for one, is measured by this
//! clock; what is only waited for may use any.
//!
//! On Linux it is `CLOCK_BOOTTIME`; elsewhere `CLOCK_MONOTONIC`, which counts sleep on macOS.

use std::{
    ops::{Add, AddAssign, Sub, SubAssign},
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

#[cfg(target_os = "linux")]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const CLOCK: ClockId = ClockId::Monotonic;

/// A moment: the time since the machine was started, time asleep included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(Duration);

impl BootTime {
    /// This moment.
    #[must_use]
    pub fn now() -> Self {
        let time = clock_gettime(CLOCK);
        // A machine's time since its start is neither negative nor has it more than a second's
        // nanoseconds.
        Self(Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        ))
    }

    /// How long ago it was; zero if it lies ahead.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }

    /// How long after another moment it is; zero if it is before.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for BootTime {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(length))
    }
}

impl AddAssign<Duration> for BootTime {
    fn add_assign(&mut self, length: Duration) {
        *self = *self + length;
    }
}

impl Sub<Duration> for BootTime {
    type Output = Self;

    fn sub(self, length: Duration) -> Self {
        Self(self.0.saturating_sub(length))
    }
}

impl SubAssign<Duration> for BootTime {
    fn sub_assign(&mut self, length: Duration) {
        *self = *self - length;
    }
}

/// Like [`BootTime::since`].
impl Sub for BootTime {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.since(earlier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_and_differences_do_not_underflow() {
        let earlier = BootTime::now();
        let later = earlier + Duration::from_secs(3);
        assert_eq!(later - earlier, Duration::from_secs(3));
        assert_eq!(earlier.since(later), Duration::ZERO);
        assert_eq!(later - Duration::from_secs(3), earlier);
        assert!(BootTime::now() >= earlier);
        assert_eq!(later.elapsed(), Duration::ZERO);
    }
}
