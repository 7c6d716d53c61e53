//! Lines in the log about what happens again and again.
//!
//! Invariant: the first time is told at once, and after that at most once in an interval, with how
//! often it has happened since the line before: a fault that lasts never floods the log, and never
//! leaves it.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often a lasting fault is told again.
pub const EVERY: Duration = Duration::from_secs(30);

/// Decides when a line is due.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    told: Option<Instant>,
    untold: u64,
}

impl Throttle {
    /// Never told yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Mutex::new(State {
            told: None,
            untold: 0,
        }))
    }

    /// It has happened. If a line is due: how often since the last one, this time included.
    pub fn happened(&self) -> Option<u64> {
        self.happened_at(Instant::now())
    }

    fn happened_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.untold += 1;
        let is_due = state
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= EVERY);
        if !is_due {
            return None;
        }
        state.told = Some(now);
        Some(std::mem::take(&mut state.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_is_told_and_then_how_often_it_was() {
        let began = Instant::now();
        let throttle = Throttle::new();
        assert_eq!(throttle.happened_at(began), Some(1));
        for _ in 0..999 {
            assert_eq!(throttle.happened_at(began + EVERY / 2), None);
        }
        assert_eq!(throttle.happened_at(began + EVERY), Some(1_000));
        assert_eq!(throttle.happened_at(began + EVERY), None);
    }
}
