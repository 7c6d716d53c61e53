//! The one place that reads the wall clock.
//!
//! Invariant: wall time is for people and for the wait after a recovery: no lock, session or wait is
//! decided by it; leases are counted by [`crate::boot_time`], and every other timeout by the
//! monotonic clock.

use std::time::{SystemTime, UNIX_EPOCH};

use lockstep_model::Timestamp;

/// Unix time now; 0 for a clock before 1970.
#[must_use]
pub fn now() -> Timestamp {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    Timestamp(u64::try_from(millis).unwrap_or(u64::MAX))
}
