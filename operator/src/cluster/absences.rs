//! How long machines have been away.
//!
//! Invariants: counted from when this operator first saw it, by its own monotonic clock: no time stamp of
//! another machine counts, however its clock goes. A new operator begins anew, so it may only wait longer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use super::observed::Ordinal;
use crate::crd::v1alpha1::SyncCluster;

/// By pod: the volume whose machine is away, and since when. The volume stays while its pods come and go.
type Absent = BTreeMap<Ordinal, (Option<String>, Instant)>;

/// Counts how long machines have been away.
pub struct Absences {
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    seen: Mutex<HashMap<ObjectRef<SyncCluster>, Absent>>,
}

impl std::fmt::Debug for Absences {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Absences").finish_non_exhaustive()
    }
}

impl Default for Absences {
    fn default() -> Self {
        Self::with_clock(Instant::now)
    }
}

impl Absences {
    /// Counts by this clock, which never goes back.
    pub fn with_clock(clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self {
            clock: Box::new(clock),
            seen: Mutex::default(),
        }
    }

    /// For how long each of these pods' machines has been away. `volumes` are those that exist, `pods` those
    /// that were looked at: of a pod that is not there now nothing is known.
    pub fn count(
        &self,
        cluster: &ObjectRef<SyncCluster>,
        pods: &BTreeSet<Ordinal>,
        volumes: &BTreeMap<Ordinal, String>,
        away: &BTreeSet<Ordinal>,
    ) -> BTreeMap<Ordinal, Duration> {
        let now = (self.clock)();
        let mut seen = self.seen.lock();
        let mut absent = seen.remove(cluster).unwrap_or_default();
        absent.retain(|ordinal, (volume, _)| {
            volumes.get(ordinal) == volume.as_ref()
                && (away.contains(ordinal) || !pods.contains(ordinal))
        });
        for ordinal in away {
            let volume = volumes.get(ordinal).cloned();
            absent.entry(*ordinal).or_insert((volume, now));
        }
        let counted = away
            .iter()
            .filter_map(|ordinal| {
                let (_, since) = absent.get(ordinal)?;
                Some((*ordinal, now.saturating_duration_since(*since)))
            })
            .collect();
        if !absent.is_empty() {
            seen.insert(cluster.clone(), absent);
        }
        counted
    }

    /// The cluster is gone.
    pub fn forget(&self, cluster: &ObjectRef<SyncCluster>) {
        self.seen.lock().remove(cluster);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    };

    use super::*;

    #[test]
    fn time_away_is_counted_from_when_it_was_first_seen() {
        let (time, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let clock = Arc::clone(&time);
        let absences = Absences::with_clock(move || {
            start + Duration::from_secs(clock.load(Ordering::Relaxed))
        });
        let cluster = ObjectRef::new("demo").within("default");
        let look = |at: u64, pods: &[u32], volume: &str, away: &[u32]| {
            time.store(at, Ordering::Relaxed);
            let pods = pods.iter().copied().collect();
            let away = away.iter().copied().collect();
            let volumes = [(1, volume.to_owned())].into();
            let counted = absences.count(&cluster, &pods, &volumes, &away);
            counted.get(&1).map(Duration::as_secs)
        };
        assert_eq!(look(100, &[0, 1], "a", &[1]), Some(0));
        assert_eq!(look(130, &[0, 1], "a", &[1]), Some(30));
        // Its pod is made anew, and the volume is still where it was.
        assert_eq!(look(140, &[0], "a", &[]), None);
        assert_eq!(look(150, &[0, 1], "a", &[1]), Some(50));
        // It comes back, and goes once more.
        assert_eq!(look(160, &[0, 1], "a", &[]), None);
        assert_eq!(look(170, &[0, 1], "a", &[1]), Some(0));
        // Another volume is another absence.
        assert_eq!(look(180, &[0, 1], "b", &[1]), Some(0));
    }
}
