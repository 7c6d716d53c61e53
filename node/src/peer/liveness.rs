//! Whether a peer answers.
//!
//! Invariant: what keeps a follower from electing, which is heartbeats and entries, is sent only to a
//! peer that answers, or of which nothing is known. A leader that can be heard and hears nobody
//! must not keep its followers from electing one that can serve (CheckQuorum; openraft issue 2080).
//! And a peer that nothing was asked of is not taken for silent.
//!
//! A silent peer is sent empty heartbeats, which only ask whether it is there.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

/// A peer that has owed an answer for longer is silent: just below a leader's lease at the default
/// election timeout, after which it may not serve anyway, and far above a round trip.
const SILENT: Duration = Duration::from_millis(700);
/// The longest that entries wait for a silent peer before they are given back to Raft, which tries
/// again: bounds how long an ended replication stays.
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

    /// True if it has owed an answer for too long.
    pub fn is_silent(&self) -> bool {
        match self.asked.load(Ordering::Relaxed) {
            0 => false,
            asked => Duration::from_millis(self.elapsed().saturating_sub(asked)) > SILENT,
        }
    }

    /// Waits until the peer is not silent any more; false if it stays so.
    pub async fn answers(&self) -> bool {
        self.answers_within(HELD_BACK).await
    }

    async fn answers_within(&self, limit: Duration) -> bool {
        let again = self.again.notified();
        !self.is_silent() || timeout(limit, again).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Hearing {
        /// Of a peer that has owed an answer for too long.
        pub fn silent() -> Self {
            Self {
                began: Instant::now() - SILENT * 10,
                asked: AtomicU64::new(1),
                ..Self::default()
            }
        }
    }

    #[tokio::test]
    async fn entries_are_given_back_if_a_peer_stays_silent_and_sent_once_it_answers() {
        let hearing = Hearing::silent();
        assert!(!hearing.answers_within(Duration::ZERO).await);
        let (answers, ()) = tokio::join!(hearing.answers(), async { hearing.answered() });
        assert!(answers);
    }

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
