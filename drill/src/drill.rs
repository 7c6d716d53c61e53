//! Drills: a fault, again and again, under load, with a verdict. One module a drill.
//!
//! Invariant: a drill says that it proved something only if the fault happened and the load went
//! on; and what it says is what the checker found.

mod clock;
mod deadlock;
mod descriptors;
mod disk_full;
mod driver_kill;
mod exercise;
mod foreign;
mod kill;
mod lose_disk;
mod minority;
mod moved;
mod partition;
mod pause;
mod queue_probe;
mod recover;
mod restore;
mod roll;
mod scale;

use std::{fmt, path::PathBuf};

pub use self::{
    clock::clock,
    deadlock::deadlock,
    descriptors::descriptors,
    disk_full::disk_full,
    driver_kill::driver_kill,
    exercise::{Exercise, Going, SERVE_LIMIT},
    foreign::{ForeignOptions, load},
    kill::kill,
    lose_disk::lose_disk,
    minority::MinorityRequest,
    partition::{Cut, partition},
    pause::pause,
    queue_probe::QueueProbe,
    recover::recover,
    restore::restore,
    roll::roll,
    scale::scale,
};
use crate::{checker::Verdict, figure::Figures};

/// What a drill is asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillOptions {
    /// How often the fault happens.
    pub cycles: u32,
    /// How many clients lock and unlock meanwhile.
    pub clients: usize,
    /// From which all that is random is drawn.
    pub seed: u64,
    /// Data shards.
    pub shards: u32,
}

/// How a drill ended.
#[derive(Debug)]
pub struct Outcome {
    /// What was measured.
    pub figures: Figures,
    /// What was found.
    pub verdict: Verdict,
    /// Where data, logs and the histories of violations are kept, if something was found.
    pub kept: Option<PathBuf>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for violation in &self.verdict.violations {
            writeln!(f, "violation: {violation}")?;
        }
        if self.verdict.is_clean() {
            return writeln!(f, "no violations");
        }
        write!(f, "{} violations", self.verdict.violation_count)?;
        match &self.kept {
            None => writeln!(f),
            Some(dir) => writeln!(
                f,
                "; data, logs and histories are kept in {}",
                dir.display()
            ),
        }
    }
}
