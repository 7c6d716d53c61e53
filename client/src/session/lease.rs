//! How long a session is known to live, and when that must be confirmed anew.
//!
//! Invariant: the lease never ends later than a TTL, less [`RATE_MARGIN`], after the send time of a
//! confirmed keep-alive. So it is over before the cluster may give the session up, as long as no clock runs
//! faster than another by more than that margin, which is hundreds of times what clocks do.

use std::time::Duration;

use crate::{
    config::{
        KEEP_ALIVE_ANSWERS_PER_TTL, MAX_KEEP_ALIVE_INTERVAL, MAX_KEEP_ALIVE_PATIENCE,
        MIN_KEEP_ALIVE_PATIENCE,
    },
    lease_time::LeaseTime,
};

/// The part of a TTL that is given up for clocks that do not run at one rate: a twentieth.
const RATE_MARGIN: u32 = 20;

/// The lease of one session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    ttl: Duration,
    /// When the latest confirmed keep-alive was sent.
    confirmed: LeaseTime,
}

impl Lease {
    pub(super) const fn new(ttl: Duration, opened: LeaseTime) -> Self {
        Self {
            ttl,
            confirmed: opened,
        }
    }

    pub(super) const fn ttl(&self) -> Duration {
        self.ttl
    }

    /// When the session is lost unless confirmed before.
    pub(super) fn ends(&self) -> LeaseTime {
        self.confirmed + (self.ttl - self.ttl / RATE_MARGIN)
    }

    /// A keep-alive that was sent then is confirmed. Late answers to early ones change nothing.
    pub(super) fn confirm(&mut self, sent: LeaseTime, ttl: Duration) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ends_a_twentieth_before_the_ttl() {
        let opened = LeaseTime::now();
        let mut lease = Lease::new(Duration::from_secs(10), opened);
        assert_eq!(lease.ends() - opened, Duration::from_millis(9_500));
        let sent = opened + Duration::from_secs(4);
        lease.confirm(sent, Duration::from_secs(20));
        assert_eq!(lease.ends() - sent, Duration::from_secs(19));
        lease.confirm(opened, Duration::from_secs(3_600));
        assert_eq!(lease.ends() - sent, Duration::from_secs(19));
    }
}
