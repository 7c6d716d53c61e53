//! Named points at which a test makes the process die as if by kill -9.
//!
//! Invariant: without `LOCKSTEP_CRASH_AT=<point>[:n]` in the environment, reaching a point costs
//! one relaxed load and does nothing.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// A point in the life of data on its way to the disk, or of a replica on its way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Log records were written to the journal, unsynced.
    LogAppendBeforeSync,
    /// Log records are durable, and nobody has been told.
    LogAppendAfterSync,
    /// A vote is durable, and nobody has been told.
    VoteSaved,
    /// A chunk of a new snapshot was written.
    SnapshotBuildChunk,
    /// All chunks are written, the new snapshot is not the current one yet.
    SnapshotSwitch,
    /// A chunk of a received snapshot was written.
    SnapshotInstallChunk,
    /// All chunks of a received snapshot are written, it is not the current one yet.
    SnapshotInstallSwitch,
    /// The placement driver has planned steps and begun none.
    StepsPlanned,
    /// A learner is in the tables, and the shard's leader was not asked yet.
    LearnerAnnounced,
    /// The shard's leader has added a learner; the driver has not looked since.
    LearnerAdded,
    /// The same for a learner that became a voter.
    Promoted,
    /// The same for a learner that took a voter's place.
    Swapped,
    /// The same for a replica that was removed.
    ReplicaRemoved,
    /// The same for a lead that was handed over.
    LeadTransferred,
    /// What a shard's leader reports is in the tables.
    MembersRecorded,
}

impl Point {
    const fn name(self) -> &'static str {
        match self {
            Self::LogAppendBeforeSync => "log-append-before-sync",
            Self::LogAppendAfterSync => "log-append-after-sync",
            Self::VoteSaved => "vote-saved",
            Self::SnapshotBuildChunk => "snapshot-build-chunk",
            Self::SnapshotSwitch => "snapshot-switch",
            Self::SnapshotInstallChunk => "snapshot-install-chunk",
            Self::SnapshotInstallSwitch => "snapshot-install-switch",
            Self::StepsPlanned => "steps-planned",
            Self::LearnerAnnounced => "learner-announced",
            Self::LearnerAdded => "learner-added",
            Self::Promoted => "promoted",
            Self::Swapped => "swapped",
            Self::ReplicaRemoved => "replica-removed",
            Self::LeadTransferred => "lead-transferred",
            Self::MembersRecorded => "members-recorded",
        }
    }
}

struct Trigger {
    point: String,
    /// How often the point is still passed.
    left: AtomicU64,
}

fn trigger() -> Option<&'static Trigger> {
    static TRIGGER: OnceLock<Option<Trigger>> = OnceLock::new();
    TRIGGER
        .get_or_init(|| {
            let text = std::env::var("LOCKSTEP_CRASH_AT").ok()?;
            let (point, count) = text.split_once(':').unwrap_or((&text, "1"));
            Some(Trigger {
                point: point.to_owned(),
                left: AtomicU64::new(count.parse().unwrap_or(1)),
            })
        })
        .as_ref()
}

/// Dies here if a test asked for it.
pub fn point(point: Point) {
    let Some(trigger) = trigger() else { return };
    if trigger.point == point.name() && trigger.left.fetch_sub(1, Ordering::Relaxed) == 1 {
        tracing::error!(point = point.name(), "crash point reached");
        std::process::abort();
    }
}
