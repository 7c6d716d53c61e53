//! The room on the node's volume: how much is free, what follows from that, and a reserve.
//!
//! Below a mark of free space the node takes on nothing that grows, so that what frees the disk (releases,
//! ended sessions, snapshots, purges) still fits. If a write finds no room all the same, the
//! [ballast](super::ballast) is given up, and the write is tried again until there is room: nothing is lost
//! and nobody has to restart anything. The ballast is made again when space is ample.
//!
//! Invariant: a level is left only by clear evidence: [`Level::Low`] when another, higher mark is free, and
//! [`Level::Full`] when what had failed has been written.

use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{ballast::Ballast, budget::Budget, engine::EngineError};

/// How often a write that found no room is tried again.
const RETRY: Duration = Duration::from_millis(200);
/// How often the free space is looked at. What is refused below the mark is small against the distance
/// from the mark to nothing.
const LOOK: Duration = Duration::from_secs(1);

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Enough.
    Ample,
    /// So little that nothing that grows is taken on.
    Low,
    /// None: writes wait.
    Full,
}

/// Who may find that there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Writes {
    /// The writer, with a group of changes.
    Group,
    /// The flusher, with tables.
    Tables,
}

impl Writes {
    const fn bit(self) -> u8 {
        match self {
            Self::Group => 1,
            Self::Tables => 2,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Space {
    dir: PathBuf,
    budget: Budget,
    ballast: Ballast,
    free: AtomicU64,
    low: AtomicBool,
    /// Those that wait for room, as bits.
    waiting: AtomicU8,
    closing: Mutex<bool>,
    wake: Condvar,
}

impl Space {
    /// Looks at the volume of a directory that exists. If hardly anything is free, gives the ballast up: the
    /// node needs room to open its storage, and to make the snapshots that free more.
    ///
    /// # Errors
    /// If the file system does not say how large it is.
    pub(crate) fn open(dir: &Path, configured: Option<u64>) -> io::Result<Self> {
        let (volume, free) = measure(dir)?;
        let budget = Budget::of(volume, configured);
        let space = Self {
            dir: dir.to_owned(),
            budget,
            ballast: Ballast::new(dir, budget.ballast),
            free: AtomicU64::new(free),
            low: AtomicBool::new(free < budget.low),
            waiting: AtomicU8::new(0),
            closing: Mutex::new(false),
            wake: Condvar::new(),
        };
        if free < budget.ballast && space.ballast.give_up() {
            tracing::warn!(dir = %dir.display(), free, "hardly any disk space is left: the reserve is given up");
        }
        Ok(space)
    }

    /// How the volume is shared out.
    #[must_use]
    pub const fn budget(&self) -> Budget {
        self.budget
    }

    /// Bytes that were free at the last look.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// How much room there is.
    #[must_use]
    pub fn level(&self) -> Level {
        if self.waiting.load(Ordering::Relaxed) != 0 {
            Level::Full
        } else if self.low.load(Ordering::Relaxed) {
            Level::Low
        } else {
            Level::Ample
        }
    }

    /// What is wrong and what to do; none while there is room.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let dir = self.dir.display();
        match self.level() {
            Level::Ample => None,
            Level::Low => Some(format!(
                "disk low: {} MiB are free on the volume of {dir}, and below {} MiB nothing is taken on that \
                 needs more room: free some space there or enlarge it",
                self.free() >> 20,
                self.budget.low >> 20,
            )),
            Level::Full => Some(format!(
                "disk full: writes wait for room on the volume of {dir}: free some space there or enlarge it; \
                 the node then goes on by itself"
            )),
        }
    }

    /// Looks again, and makes the ballast if there is room for it beyond the marks.
    pub(crate) fn look(&self) {
        let free = match measure(&self.dir) {
            Ok((_, free)) => free,
            Err(error) => {
                tracing::warn!(%error, dir = %self.dir.display(), "the free space is not known");
                return;
            }
        };
        self.free.store(free, Ordering::Relaxed);
        let was_low = self.low.load(Ordering::Relaxed);
        let is_low = free < self.budget.low || (was_low && free < self.budget.ample);
        self.low.store(is_low, Ordering::Relaxed);
        match (was_low, is_low) {
            (false, true) => {
                let words = self.problem().unwrap_or_default();
                tracing::warn!("{words}");
            }
            (true, false) => tracing::info!(free, "there is disk space again"),
            (false, false) | (true, true) => {}
        }
        let room = self.budget.ample.saturating_add(self.budget.ballast);
        if !is_low && free >= room && self.level() != Level::Full {
            self.ballast.make();
        }
    }

    /// Writes; while there is no room, again and again.
    ///
    /// # Errors
    /// If it fails for another reason, or there is no room when the storage is closed.
    pub(crate) fn with_room<T>(
        &self,
        writes: Writes,
        mut write: impl FnMut() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        loop {
            match write() {
                Err(error) if error.is_full() && self.wait(writes, &error) => {}
                Err(error) => return Err(error),
                Ok(written) => {
                    self.found(writes);
                    return Ok(written);
                }
            }
        }
    }

    /// A write found no room. Gives the ballast up, or waits a moment; true if it is to be tried again, false
    /// if the storage is being closed.
    fn wait(&self, writes: Writes, error: &dyn Display) -> bool {
        let before = self.waiting.fetch_or(writes.bit(), Ordering::Relaxed);
        if before & writes.bit() == 0 {
            tracing::error!(%error, dir = %self.dir.display(), "disk full: writes wait until there is room");
        }
        let mut closing = self.closing.lock();
        if !*closing && !self.ballast.give_up() {
            self.wake.wait_for(&mut closing, RETRY);
        }
        !*closing
    }

    /// What had found no room is written, if anything had.
    fn found(&self, writes: Writes) {
        if self.waiting.load(Ordering::Relaxed) & writes.bit() == 0 {
            return;
        }
        self.waiting.fetch_and(!writes.bit(), Ordering::Relaxed);
        tracing::info!("there is room on the disk again: writing goes on");
    }

    /// Nobody waits for room any more.
    pub(crate) fn close(&self) {
        *self.closing.lock() = true;
        self.wake.notify_all();
    }
}

/// Looks at the free space now and then, until cancelled.
pub async fn watch(space: Arc<Space>, stop: CancellationToken) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = looks.tick() => {}
        }
        let space = Arc::clone(&space);
        // The runtime is shutting down if it fails.
        let _ = tokio::task::spawn_blocking(move || space.look()).await;
    }
}

/// True if a write failed because the volume, or the quota on it, has no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Bytes of the directory's volume, and those of it that this process may still use.
fn measure(dir: &Path) -> io::Result<(u64, u64)> {
    let found = rustix::fs::statvfs(dir)?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Ok((bytes(found.f_blocks), bytes(found.f_bavail)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_left_by_a_higher_mark_or_by_a_write() {
        let dir = tempfile::tempdir().unwrap();
        let mut space = Space::open(dir.path(), None).unwrap();
        let (_, free) = measure(dir.path()).unwrap();
        let set = |space: &mut Space, low, ample| {
            space.budget.low = low;
            space.budget.ample = ample;
            space.look();
            space.level()
        };
        assert_eq!(set(&mut space, 1, 2), Level::Ample);
        assert_eq!(set(&mut space, free * 2, free * 3), Level::Low);
        assert_eq!(set(&mut space, 1, free * 3), Level::Low, "not yet ample");
        assert!(space.problem().unwrap().starts_with("disk low"));
        assert!(space.wait(Writes::Group, &"no room"));
        assert!(space.wait(Writes::Tables, &"no room"));
        assert!(space.problem().unwrap().starts_with("disk full"));
        space.found(Writes::Group);
        assert_eq!(space.level(), Level::Full, "tables wait");
        space.found(Writes::Tables);
        assert_eq!(space.level(), Level::Low);
        assert_eq!(set(&mut space, 1, 2), Level::Ample);
        space.close();
        assert!(!space.wait(Writes::Group, &"no room"));
    }

    #[test]
    fn the_reserve_is_made_given_up_and_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut space = Space::open(dir.path(), None).unwrap();
        space.budget.ample = 2;
        let (_, free) = measure(dir.path()).unwrap();
        if free < 2 * space.budget.ballast {
            eprintln!(
                "skipped: the volume of {} is nearly full",
                dir.path().display()
            );
            return;
        }
        assert_eq!(space.ballast.bytes(), 0);
        space.look();
        assert_eq!(space.ballast.bytes(), space.budget.ballast);
        assert!(space.wait(Writes::Group, &"no room"));
        assert_eq!(space.ballast.bytes(), 0);
        space.look();
        assert_eq!(space.ballast.bytes(), 0, "a write still waits for room");
        space.found(Writes::Group);
        space.look();
        assert_eq!(space.ballast.bytes(), space.budget.ballast);
    }
}
