//! Options of the commands that run a command.
//!
//! Invariant: what they have in common is the same in all of them.

use std::{ffi::OsString, time::Duration};

use crate::span;

/// How to run a command under a lock.
#[derive(Debug, clap::Args)]
pub(crate) struct LockRun {
    /// The lock's name, 1 to 512 bytes
    pub(crate) name: String,
    /// Hold it beside other shared holders; exclusively otherwise
    #[arg(long)]
    pub(crate) shared: bool,
    #[command(flatten)]
    pub(crate) terms: RunTerms,
}

/// How to run a command under permits.
#[derive(Debug, clap::Args)]
pub(crate) struct SemaphoreRun {
    /// The semaphore's name, 1 to 512 bytes
    pub(crate) name: String,
    /// How many permits there are, 1 to 65536: the same for all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) size: u32,
    /// How many of them to take
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) permits: u32,
    #[command(flatten)]
    pub(crate) terms: RunTerms,
}

/// How to run a command as the leader.
#[derive(Debug, clap::Args)]
pub(crate) struct ElectRun {
    /// The election's name, 1 to 512 bytes
    pub(crate) name: String,
    /// What to say as the leader, at most 4096 bytes; otherwise HOST/PID
    #[arg(long)]
    pub(crate) value: Option<String>,
    #[command(flatten)]
    pub(crate) terms: RunTerms,
}

/// What all have in common.
#[derive(Debug, clap::Args)]
pub(crate) struct RunTerms {
    /// Wait at most so long (500ms, 10s, 2m, 1h); without limit otherwise
    #[arg(long, value_name = "SPAN", value_parser = span::parse)]
    pub(crate) timeout: Option<Duration>,
    /// Do not wait at all
    #[arg(long = "try", conflicts_with = "timeout")]
    pub(crate) try_: bool,
    /// How long the hold outlives a loss of contact, 1s to 1h
    #[arg(long, value_name = "SPAN", default_value = "10s", value_parser = span::parse)]
    pub(crate) ttl: Duration,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}
