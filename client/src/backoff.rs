//! Pauses between attempts: exponential, bounded, with jitter.
//!
//! Invariant: a pause is never longer than [`MAX_RETRY_PAUSE`] and never shorter than half of
//! [`FIRST_RETRY_PAUSE`].
//!
//! Source of the jitter: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015
//! ("equal jitter").

use std::time::Duration;

use crate::config::{FIRST_RETRY_PAUSE, MAX_RETRY_PAUSE};

/// The pause after the `failures`-th failure in a row, counted from 1.
pub(crate) fn pause(failures: u32) -> Duration {
    let factor = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    let full = FIRST_RETRY_PAUSE
        .saturating_mul(factor)
        .min(MAX_RETRY_PAUSE);
    full.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_stay_within_their_bounds() {
        for failures in 0..100 {
            let pause = pause(failures);
            assert!(pause >= FIRST_RETRY_PAUSE / 2, "{failures}: {pause:?}");
            assert!(pause <= MAX_RETRY_PAUSE, "{failures}: {pause:?}");
        }
        assert!(pause(20) >= MAX_RETRY_PAUSE / 2);
    }
}
