//! Whether a peer answers.
//!
//! Invariant: entries are sent only to a peer that answers, or of which nothing is known. A leader
//! that is not answered must not keep its followers from electing another by sending them entries
//! again and again; and a peer that nothing was asked of is not taken for silent.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

/// A peer that has owed an answer for longer is not sent entries. Longer than heartbeats are apart.
const SILENT: Duration = Duration::from_millis(700);
/// The longest that entries are held back. Longer than an election, so that there has been one.
const HELD_BACK: Duration = Duration::from_secs(4);

/// How long a peer has owed an answer.
pub struct Hearing {
    began: Instant,
    /// Milliseconds from `began` to the first question after the last answer; 0 if there is none.
    asked: AtomicU64,
    again: Notify,
}

impl Default for Hearing {
    /// Nothing was asked yet.
    fn default() -> Self {
        Self {
            began: Instant::now(),
            asked: AtomicU64::new(0),
            again: Notify::new(),
        }
    }
}

impl Hearing {
    /// Something was sent that the peer has to answer.
    pub fn asked(&self) {
        let now = self.elapsed().max(1);
        // An earlier question that is still open counts.
        let _ = self
            .asked
            .compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The peer has answered something.
    pub fn answered(&self) {
        self.asked.store(0, Ordering::Relaxed);
        self.again.notify_waiters();
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_silent(&self) -> bool {
        match self.asked.load(Ordering::Relaxed) {
            0 => false,
            asked => Duration::from_millis(self.elapsed().saturating_sub(asked)) > SILENT,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_asked_makes_a_peer_silent() {
        let hearing = Hearing {
            began: Instant::now() - SILENT * 10,
            ..Hearing::default()
        };
        assert!(!hearing.is_silent());
        hearing.asked.store(1, Ordering::Relaxed);
        assert!(hearing.is_silent());
        hearing.asked();
        assert!(hearing.is_silent());
        hearing.answered();
        assert!(!hearing.is_silent());
        hearing.asked();
        assert!(!hearing.is_silent());
    }
}
