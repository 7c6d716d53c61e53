//! When a peer was last heard: any answer of its counts.
//!
//! Invariant: entries are sent only to a peer that answers. A leader that is not answered must not
//! keep its followers from electing another by sending them entries again and again.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

/// A peer that has been silent for longer is not sent entries. Longer than heartbeats are apart.
const SILENT: Duration = Duration::from_millis(700);
/// The longest that entries are held back. Longer than an election, so that there has been one.
const HELD_BACK: Duration = Duration::from_secs(4);

/// How long a peer has been silent.
pub struct Hearing {
    since: Instant,
    /// Milliseconds from `since` to the last answer.
    heard: AtomicU64,
    again: Notify,
}

impl Default for Hearing {
    /// Not heard yet, which counts as just heard: the first attempt is free.
    fn default() -> Self {
        Self {
            since: Instant::now(),
            heard: AtomicU64::new(0),
            again: Notify::new(),
        }
    }
}

impl Hearing {
    /// The peer has answered something.
    pub fn answered(&self) {
        self.heard.store(self.elapsed(), Ordering::Relaxed);
        self.again.notify_waiters();
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_silent(&self) -> bool {
        let silence = self
            .elapsed()
            .saturating_sub(self.heard.load(Ordering::Relaxed));
        Duration::from_millis(silence) > SILENT
    }

    /// Returns when the peer is not silent any more, or has been waited for long enough.
    pub async fn answers(&self) {
        let again = self.again.notified();
        if self.is_silent() {
            // Either way it is tried.
            let _ = timeout(HELD_BACK, again).await;
        }
    }
}
