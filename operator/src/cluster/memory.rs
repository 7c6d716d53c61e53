//! What this operator has seen of clusters over time.
//!
//! Invariants: counted from when this operator first saw it, by its own monotonic clock: no time stamp of
//! another machine counts, however its clock goes. A new operator begins anew, so it may only wait longer.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::{Duration, Instant},
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;

use super::observed::{Ordinal, RefusedGrowth};
use crate::crd::v1alpha1::SyncCluster;

/// After so long it is tried once more whether volumes may grow: the class may allow it by now.
const GROW_AGAIN: Duration = Duration::from_secs(300);

/// By pod: the volume whose machine is away, and since when. The volume stays while its pods come and go.
type Absent = BTreeMap<Ordinal, (Option<String>, Instant)>;

/// What was seen of a cluster.
#[derive(Default)]
struct Seen {
    absent: Absent,
    /// By pod: which one does not start, none if there is none, and since when.
    troubled: BTreeMap<Ordinal, (Option<String>, Instant)>,
    refused_growth: Option<(RefusedGrowth, Instant)>,
    /// The last step, and how often it has been the same before.
    step: (&'static str, u32),
}

/// What was seen of clusters.
pub struct Memory {
    clock: Box<dyn Fn() -> Instant + Send + Sync>,
    seen: Mutex<HashMap<ObjectRef<SyncCluster>, Seen>>,
    /// The last renewal of other operators' leases, and since when it has been that.
    renewals: Mutex<HashMap<String, (Option<MicroTime>, Instant)>>,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Memory").finish_non_exhaustive()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::with_clock(Instant::now)
    }
}

impl Memory {
    /// Counts by this clock, which never goes back.
    pub fn with_clock(clock: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self {
            clock: Box::new(clock),
            seen: Mutex::default(),
            renewals: Mutex::default(),
        }
    }

    /// For how long each of these pods' machines has been away. `volumes` are those that exist, `pods` those
    /// that were looked at: of a pod that is not there now nothing is known.
    pub fn count_away(
        &self,
        cluster: &ObjectRef<SyncCluster>,
        pods: &BTreeSet<Ordinal>,
        volumes: &BTreeMap<Ordinal, String>,
        away: &BTreeSet<Ordinal>,
    ) -> BTreeMap<Ordinal, Duration> {
        let now = (self.clock)();
        let mut seen = self.seen.lock();
        let absent = &mut seen.entry(cluster.clone()).or_default().absent;
        absent.retain(|ordinal, (volume, _)| {
            volumes.get(ordinal) == volume.as_ref()
                && (away.contains(ordinal) || !pods.contains(ordinal))
        });
        for ordinal in away {
            let volume = volumes.get(ordinal).cloned();
            absent.entry(*ordinal).or_insert((volume, now));
        }
        let counted = away.iter().filter_map(|ordinal| {
            let (_, since) = absent.get(ordinal)?;
            Some((*ordinal, now.saturating_duration_since(*since)))
        });
        counted.collect()
    }

    /// For how long each of these pods has not started, or not been there at all: by its unique id.
    pub fn count_troubled(
        &self,
        cluster: &ObjectRef<SyncCluster>,
        troubled: BTreeMap<Ordinal, Option<String>>,
    ) -> BTreeMap<Ordinal, Duration> {
        let now = (self.clock)();
        let mut seen = self.seen.lock();
        let before = &mut seen.entry(cluster.clone()).or_default().troubled;
        let counted = troubled.into_iter().map(|(ordinal, pod)| {
            let same = before.get(&ordinal).filter(|(before, _)| *before == pod);
            let since = same.map_or(now, |(_, since)| *since);
            (ordinal, (pod, since))
        });
        *before = counted.collect();
        let times = before.iter();
        times
            .map(|(ordinal, (_, since))| (*ordinal, now.saturating_duration_since(*since)))
            .collect()
    }

    /// Volumes could not be enlarged.
    pub fn growth_refused(&self, cluster: &ObjectRef<SyncCluster>, refused: RefusedGrowth) {
        let now = (self.clock)();
        let mut seen = self.seen.lock();
        seen.entry(cluster.clone()).or_default().refused_growth = Some((refused, now));
    }

    /// Which growth was refused, as long as it need not be tried again.
    pub fn refused_growth(&self, cluster: &ObjectRef<SyncCluster>) -> Option<RefusedGrowth> {
        let now = (self.clock)();
        let seen = self.seen.lock();
        let (refused, at) = seen.get(cluster)?.refused_growth.as_ref()?;
        let is_young = now.saturating_duration_since(*at) < GROW_AGAIN;
        is_young.then(|| refused.clone())
    }

    /// How often the cluster's step was this one before, without another in between.
    pub fn repeated(&self, cluster: &ObjectRef<SyncCluster>, step: &'static str) -> u32 {
        let mut seen = self.seen.lock();
        let (last, count) = &mut seen.entry(cluster.clone()).or_default().step;
        *count = if *last == step {
            count.saturating_add(1)
        } else {
            0
        };
        *last = step;
        *count
    }

    /// For how long other operators' lease has been seen with this renewal.
    pub fn unchanged(&self, lease: &str, renewal: Option<MicroTime>) -> Duration {
        let now = (self.clock)();
        let mut renewals = self.renewals.lock();
        let (last, since) = renewals
            .entry(lease.to_owned())
            .or_insert_with(|| (renewal.clone(), now));
        if *last != renewal {
            (*last, *since) = (renewal, now);
        }
        now.saturating_duration_since(*since)
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
        let memory =
            Memory::with_clock(move || start + Duration::from_secs(clock.load(Ordering::Relaxed)));
        let cluster = ObjectRef::new("demo").within("default");
        let look = |at: u64, pods: &[u32], volume: &str, away: &[u32]| {
            time.store(at, Ordering::Relaxed);
            let pods = pods.iter().copied().collect();
            let away = away.iter().copied().collect();
            let volumes = [(1, volume.to_owned())].into();
            let counted = memory.count_away(&cluster, &pods, &volumes, &away);
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

    #[test]
    fn a_pod_that_is_made_anew_is_in_trouble_anew() {
        let (time, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
        let clock = Arc::clone(&time);
        let memory =
            Memory::with_clock(move || start + Duration::from_secs(clock.load(Ordering::Relaxed)));
        let cluster = ObjectRef::new("demo").within("default");
        let look = |at: u64, pod: Option<&str>| {
            time.store(at, Ordering::Relaxed);
            let troubled = [(1, pod.map(str::to_owned))].into();
            memory.count_troubled(&cluster, troubled)[&1].as_secs()
        };
        assert_eq!(look(10, Some("a")), 0);
        assert_eq!(look(20, Some("a")), 10);
        assert_eq!(look(30, None), 0);
        assert_eq!(look(40, None), 10);
        assert_eq!(look(50, Some("b")), 0);
        assert_eq!(memory.count_troubled(&cluster, BTreeMap::new()).len(), 0);
        assert_eq!(look(60, Some("b")), 0);
    }
}
