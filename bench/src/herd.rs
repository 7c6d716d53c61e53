//! A herd: ten thousand sessions wait for one lock, and it is released from one to the next.
//!
//! If a release woke more than the next in the queue, or if its cost grew with the queue, then the
//! first releases, with all others waiting, would cost more than the last. So the first and the last
//! tenth are compared.
//!
//! Invariant: while counters are read the lock rests with its holder, so that what belongs to one
//! tenth is counted in no other.

mod sessions;

use anyhow::ensure;

use self::sessions::Sessions;
use crate::{counters::Counters, peer::Lockstep, report::aligned, usage::Usage};

/// So many parts have counts of their own.
pub const PARTS: usize = 10;

/// What the releases of one part cost.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// How many sessions waited before the first of them.
    pub waiting: usize,
    /// How many releases.
    pub releases: usize,
    /// For how long, in seconds.
    pub seconds: f64,
    /// Messages that the sessions got: grants and answers to releases.
    pub messages: u64,
    /// Processor time.
    pub usage: Usage,
    /// What the servers counted.
    pub counters: Counters,
}

/// Something that a part is told by.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// The table's column.
    pub column: &'static str,
    /// The middle of the figures' names.
    pub figure: &'static str,
    /// Its unit, in figures.
    pub unit: &'static str,
    /// What it is.
    pub of: fn(&Part) -> f64,
}

/// What a release costs, and how fast it goes.
pub const QUANTITIES: [Quantity; 5] = [
    Quantity {
        column: "messages/release",
        figure: "messages",
        unit: "messages",
        of: |part| part.messages as f64 / part.releases as f64,
    },
    Quantity {
        column: "node CPU ms/release",
        figure: "node_cpu",
        unit: "ms",
        of: |part| part.usage.servers * 1e3 / part.releases as f64,
    },
    Quantity {
        column: "commands/release",
        figure: "commands",
        unit: "commands",
        of: |part| part.counters.commands / part.releases as f64,
    },
    Quantity {
        column: "log entries/release",
        figure: "log_entries",
        unit: "entries",
        of: |part| part.counters.entries / part.releases as f64,
    },
    Quantity {
        column: "releases/s",
        figure: "releases",
        unit: "releases/s",
        of: |part| part.releases as f64 / part.seconds,
    },
];

/// The parts one below the other.
#[must_use]
pub fn table(parts: &[Part]) -> String {
    let columns = QUANTITIES.map(|quantity| quantity.column.to_owned());
    let mut rows = vec![["waiting".to_owned()].into_iter().chain(columns).collect()];
    for part in parts {
        let values = QUANTITIES.map(|quantity| format!("{:.3}", (quantity.of)(part)));
        let waiting = part.waiting.to_string();
        rows.push([waiting].into_iter().chain(values).collect::<Vec<_>>());
    }
    aligned(&rows)
}

/// Lets so many sessions wait for a lock that one more holds, and releases it from one to the next;
/// what each tenth of the releases cost.
///
/// # Errors
/// If a session gets an error, or anything that it did not ask for.
pub async fn run(lockstep: &Lockstep, waiters: usize) -> anyhow::Result<Vec<Part>> {
    ensure!(
        waiters > 0 && waiters.is_multiple_of(PARTS),
        "a herd has {PARTS} sessions, or a multiple of that"
    );
    let mut sessions = Sessions::open(lockstep, waiters + 1).await?;
    sessions.queue(lockstep).await?;
    let mut parts = Vec::with_capacity(PARTS);
    for _ in 0..PARTS {
        parts.push(sessions.release_part(lockstep, waiters / PARTS).await?);
    }
    Ok(parts)
}
