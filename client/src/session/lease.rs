//! How long a session is known to live, and when that must be confirmed anew.
//!
//! Invariant: the lease never ends later than a TTL after the send time of a confirmed keep-alive.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::{
    KEEP_ALIVE_ANSWERS_PER_TTL, MAX_KEEP_ALIVE_INTERVAL, MAX_KEEP_ALIVE_PATIENCE,
    MIN_KEEP_ALIVE_PATIENCE,
};

/// The lease of one session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    ttl: Duration,
    /// When the latest confirmed keep-alive was sent.
    confirmed: Instant,
}

impl Lease {
    pub(super) const fn new(ttl: Duration, opened: Instant) -> Self {
        Self {
            ttl,
            confirmed: opened,
        }
    }

    pub(super) const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// When the session is lost unless confirmed before.
    pub(super) fn ends(&self) -> Instant {
        self.confirmed + self.ttl
    }

    /// A keep-alive that was sent then is confirmed. Late answers to early ones change nothing.
    pub(super) fn confirm(&mut self, sent: Instant, ttl: Duration) {
        if sent >= self.confirmed {
            self.confirmed = sent;
            self.ttl = ttl;
        }
    }

    /// The time between keep-alives: three in a TTL.
    pub(super) fn interval(&self) -> Duration {
        (self.ttl / 3).min(MAX_KEEP_ALIVE_INTERVAL)
    }

    /// How long an answer to a keep-alive is awaited before its node counts as silent.
    pub(super) fn patience(&self) -> Duration {
        (self.ttl / KEEP_ALIVE_ANSWERS_PER_TTL)
            .clamp(MIN_KEEP_ALIVE_PATIENCE, MAX_KEEP_ALIVE_PATIENCE)
    }
}
