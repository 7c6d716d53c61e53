//! Whether the operator sees what it has to act on.
//!
//! Invariant: an operator that cannot watch its clusters (their definition is not installed, it may not, or the
//! API server does not answer) is not ready, and says why. It is alive all the same: it tries again by itself.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// So long a failed watch counts: one that goes on failing fails again within half a minute, which is the longest
/// pause between two attempts.
const COUNTS: Duration = Duration::from_secs(45);

/// Whether the operator sees what it has to act on.
#[derive(Debug, Default)]
pub struct Health {
    failed: Mutex<Option<(Instant, String)>>,
}

impl Health {
    /// A watch has failed, and is begun anew.
    pub fn watch_failed(&self, why: String) {
        *self.failed.lock() = Some((Instant::now(), why));
    }

    /// Why the operator is not ready, if it is not.
    pub fn unready(&self) -> Option<String> {
        self.unready_at(Instant::now())
    }

    fn unready_at(&self, now: Instant) -> Option<String> {
        let failed = self.failed.lock();
        let (at, why) = failed.as_ref()?;
        (now.saturating_duration_since(*at) < COUNTS).then(|| why.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_watch_counts_for_some_time() {
        let health = Health::default();
        assert_eq!(health.unready(), None);
        health.watch_failed("not found".to_owned());
        assert_eq!(health.unready().as_deref(), Some("not found"));
        assert_eq!(health.unready_at(Instant::now() + COUNTS), None);
    }
}
