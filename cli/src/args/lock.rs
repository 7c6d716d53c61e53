//! What can be done with locks, semaphores, elections and barriers.
//!
//! Invariant: every option says its default and its unit.

use std::time::Duration;

use clap::Subcommand;
use lockstep_client::FencingToken;

use super::{DEFAULT_ROWS, ElectRun, LockRun, SemaphoreRun};
use crate::{exit, span};

/// What to do with locks.
#[derive(Debug, Subcommand)]
pub(crate) enum LockAction {
    /// Run a command while holding a lock
    ///
    /// Waits for the lock, runs the command, and releases the lock when the command ends.
    /// The command finds LOCKSTEP_LOCK, LOCKSTEP_TOKEN (the fencing token) and LOCKSTEP_SESSION
    /// in its environment, runs in a process group of its own, and gets the signals that this
    /// program gets. Before the lock would be lost, the group gets SIGTERM, and SIGKILL when it is, five
    /// seconds later at most. Nothing that it has started outlives the lock.
    #[command(after_long_help = exit::HELP, verbatim_doc_comment)]
    Run(LockRun),
    /// List the locks that are held or waited for
    Ls {
        /// Only names that begin so
        #[arg(default_value = "")]
        prefix: String,
        /// Most rows
        #[arg(long, default_value_t = DEFAULT_ROWS, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
    },
    /// Show one lock: who holds it, who waits
    Show {
        /// Its name
        name: String,
    },
    /// Tell whether a token is that of a present holder: exit code 0 if so, 1 if not
    Validate {
        /// The lock's name
        name: String,
        /// The token
        #[arg(value_parser = token)]
        token: FencingToken,
    },
}

/// What to do with semaphores.
#[derive(Debug, Subcommand)]
pub(crate) enum SemaphoreAction {
    /// Run a command while holding permits of a semaphore
    ///
    /// As `lock run`; the command finds LOCKSTEP_SEMAPHORE instead of LOCKSTEP_LOCK. `lock show`
    /// says who has the permits.
    #[command(after_long_help = exit::HELP)]
    Run(SemaphoreRun),
}

/// What to do with elections.
#[derive(Debug, Subcommand)]
pub(crate) enum ElectAction {
    /// Run a command while leading: for programs of which one is active and others stand by
    ///
    /// As `lock run`; the command finds LOCKSTEP_ELECTION instead of LOCKSTEP_LOCK.
    #[command(after_long_help = exit::HELP)]
    Run(ElectRun),
    /// Show who leads and who stands by
    Show {
        /// The election's name
        name: String,
    },
    /// Tell who leads, now and whenever that changes, one line a change, until interrupted
    Observe {
        /// The election's name
        name: String,
    },
}

/// What to do with barriers.
#[derive(Debug, Subcommand)]
pub(crate) enum BarrierAction {
    /// Wait until as many wait as are to meet, and print the generation
    ///
    /// The generation is a number that is the same for all who pass together, and greater than at
    /// every time before.
    #[command(after_long_help = exit::HELP)]
    Wait {
        /// The barrier's name
        name: String,
        /// How many are to meet, 1 to 65536: the same for all
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
        parties: u32,
        /// Wait at most so long (500ms, 10s, 2m, 1h); without limit otherwise
        #[arg(long, value_name = "SPAN", value_parser = span::parse)]
        timeout: Option<Duration>,
    },
}

fn token(text: &str) -> Result<FencingToken, String> {
    let number = text.parse().map(FencingToken);
    number
        .map_err(|_| format!("{text:?} is not a token: it is a number, such as `lock show` shows"))
}
