//! The one place that reads the wall clock.
//!
//! Invariant: only batches and views carry wall time; every timeout is measured by the monotonic clock.

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
