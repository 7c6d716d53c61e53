//! What the holder tells its supervisor, and what that answers: one JSON document a line.
//!
//! Invariant: times are absolute, so a message that was long under way extends nothing.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::boot_time::BootTime;

/// How long a command may take to end after SIGTERM, if its lease lasts so long.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// From the holder to the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// The first one; the command's standard input comes with it.
    Start {
        /// What it runs under, in words.
        what: String,
        /// Until when.
        lease: Lease,
        /// The process group of the holder: the terminal may be its.
        holder_group: i32,
    },
    /// What it runs under is confirmed for longer.
    Renewed(Lease),
    /// The holder got this signal.
    Signal(i32),
    /// What it runs under is lost.
    Lost,
}

/// From the supervisor to the holder; the last message.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The command has ended, and whatever it had started.
    Ended {
        /// How it did.
        how: Ended,
        /// True if it was ended because what it ran under was lost, or would have been.
        for_loss: bool,
    },
    /// Nothing was started.
    NotStarted {
        /// Why not.
        words: String,
    },
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ended {
    /// By itself, with this code.
    Exited(u8),
    /// By this signal.
    Killed(u8),
}

/// How long what a command runs under is known to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// If it is not confirmed anew by then, the command is told to end.
    pub(super) warn: BootTime,
    /// Others may have it from then on.
    pub(super) end: BootTime,
}

impl Lease {
    /// A lease of `remaining` from `now`, of a session with this TTL. The command has the last
    /// quarter of the TTL to end, [`GRACE`] at most: keep-alives come every third of a TTL, so by
    /// then two were not answered.
    pub(crate) fn new(now: BootTime, remaining: Duration, ttl: Duration) -> Self {
        let end = now.after(remaining);
        Self {
            warn: end.before((ttl / 4).min(GRACE)),
            end,
        }
    }
}
