//! Watches the members of clusters that are well, without asking the API server anything.
//!
//! Invariant: a quiet cluster costs its API server nothing; what its members find out (one that does
//! not answer, a shard without a leader) leads to a reconcile within a few seconds, however many other
//! clusters are silent.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    sync::Arc,
    time::{Duration, Instant},
};

use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{
        identity::{ClusterId, Electorate},
        observed::{Lifecycle, Members},
    },
    crd::v1alpha1::SyncCluster,
    members::{self, Door},
};

/// How often members are asked.
const INTERVAL: Duration = Duration::from_secs(5);
/// Clusters whose members are asked at the same time.
const CONCURRENCY: usize = 64;
/// A cluster that does not answer is asked half as often each time, up to so many times: every 40 s.
const MOST_DOUBLINGS: u32 = 3;
/// The digest of nobody's answer.
const SILENT: u64 = 0;
/// Clusters whose reconcile may be waiting: more are asked about again five seconds later.
const QUEUE: usize = 256;
/// Members asked of each cluster: the others are heard of through them.
const ASKED: usize = 2;

/// A cluster as it was last seen.
#[derive(Clone, Debug)]
pub struct Watched {
    name: String,
    doors: Vec<Door>,
    id: Option<ClusterId>,
    digest: u64,
}

impl Watched {
    /// As it was seen by a reconcile.
    #[must_use]
    pub fn new(
        name: String,
        doors: Vec<Door>,
        id: Option<ClusterId>,
        members: Option<&Members>,
    ) -> Self {
        Self {
            name,
            doors,
            id,
            digest: digest(members),
        }
    }
}

/// A cluster that is watched, and when it is asked again.
#[derive(Debug)]
struct Entry {
    watched: Watched,
    due: Instant,
    /// Rounds in a row in which nobody has answered.
    silent: u32,
    /// Answers are waited for.
    is_asked: bool,
}

/// Watches members.
#[derive(Clone)]
pub struct Sentinel {
    watched: Arc<Mutex<HashMap<ObjectRef<SyncCluster>, Entry>>>,
    changed: mpsc::Sender<ObjectRef<SyncCluster>>,
    interval: Duration,
}

impl Sentinel {
    /// A sentinel, and the clusters that have changed.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<ObjectRef<SyncCluster>>) {
        let (changed, changes) = mpsc::channel(QUEUE);
        (
            Self {
                watched: Arc::default(),
                changed,
                interval: INTERVAL,
            },
            changes,
        )
    }

    /// Watches a cluster from now on, until it is gone or changes.
    pub fn watch(&self, cluster: ObjectRef<SyncCluster>, watched: Watched) {
        let entry = Entry {
            watched,
            due: Instant::now() + self.interval,
            silent: 0,
            is_asked: false,
        };
        self.watched.lock().insert(cluster, entry);
    }

    /// Asks until cancelled.
    pub async fn run(self, stop: CancellationToken) {
        self.run_with(stop, hear).await;
    }

    /// Each cluster is asked when it is due, whoever else has not answered yet.
    async fn run_with<F>(self, stop: CancellationToken, ask: impl Fn(Watched) -> F)
    where
        F: Future<Output = Option<u64>> + Send + 'static,
    {
        let mut ticks = tokio::time::interval(self.interval / 5);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut asked = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(answered) = asked.join_next() => {
                    if let Ok((cluster, digest)) = answered {
                        self.look(cluster, digest);
                    }
                }
                _ = ticks.tick() => {
                    let room = CONCURRENCY.saturating_sub(asked.len());
                    for (cluster, watched) in self.due(room) {
                        let asking = ask(watched);
                        asked.spawn(async move { (cluster, asking.await) });
                    }
                }
            }
        }
    }

    /// Clusters that are to be asked now, those first that have waited longest; as many as there is room for.
    fn due(&self, room: usize) -> Vec<(ObjectRef<SyncCluster>, Watched)> {
        let now = Instant::now();
        let mut watched = self.watched.lock();
        let due = watched.iter_mut();
        let mut due: Vec<_> = due
            .filter(|(_, entry)| !entry.is_asked && entry.due <= now)
            .collect();
        due.sort_by_key(|(_, entry)| entry.due);
        let due = due.into_iter().take(room).map(|(cluster, entry)| {
            entry.is_asked = true;
            (cluster.clone(), entry.watched.clone())
        });
        due.collect()
    }

    /// What was heard of a cluster; none if nobody has answered.
    fn look(&self, cluster: ObjectRef<SyncCluster>, heard: Option<u64>) {
        let mut watched = self.watched.lock();
        let Some(entry) = watched.get_mut(&cluster).filter(|entry| entry.is_asked) else {
            return;
        };
        entry.is_asked = false;
        entry.silent = if heard.is_some() {
            0
        } else {
            entry.silent.saturating_add(1)
        };
        let factor = 2_u32.saturating_pow(entry.silent.min(MOST_DOUBLINGS));
        entry.due = Instant::now() + self.interval.saturating_mul(factor);
        // The reconcile watches it again, if it still exists.
        if heard.unwrap_or(SILENT) != entry.watched.digest
            && self.changed.try_send(cluster.clone()).is_ok()
        {
            watched.remove(&cluster);
        }
    }
}

/// The digest of what the members of a cluster say; none if nobody answers.
async fn hear(watched: Watched) -> Option<u64> {
    let some = watched.doors.get(..ASKED).unwrap_or(&watched.doors);
    let id = watched.id.as_ref();
    let answers = members::ask(some, id).await;
    let heard = members::hear(answers, &watched.name, id, Electorate::default());
    heard.members.map(|members| digest(Some(&members)))
}

/// What a reconcile would see: not who leads, and not how long logs are.
fn digest(members: Option<&Members>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Some(members) = members else {
        return SILENT;
    };
    for (id, member) in &members.nodes {
        let lifecycle = match member.lifecycle {
            Lifecycle::Active => 0_u8,
            Lifecycle::Draining => 1,
            Lifecycle::Lost => 2,
        };
        (
            id,
            &member.name,
            lifecycle,
            member.is_reachable,
            member.is_ready,
            member.placed,
        )
            .hash(&mut hasher);
    }
    for shard in &members.shards {
        (shard.id, shard.leader.is_some(), members.is_whole(shard)).hash(&mut hasher);
    }
    (members.is_settled, &members.obstacles).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tenth of a second in the place of five.
    const SHORT: Duration = Duration::from_millis(100);

    /// 30 clusters, 3 of which never answer: each of the others is asked again and again all the same.
    #[tokio::test]
    async fn silent_clusters_do_not_keep_others_from_being_asked() {
        let (mut sentinel, mut changes) = Sentinel::new();
        sentinel.interval = SHORT;
        for at in 0..30 {
            let cluster = ObjectRef::new(&format!("c-{at}")).within("default");
            let watched = Watched {
                name: format!("c-{at}"),
                doors: Vec::new(),
                id: None,
                digest: 1,
            };
            sentinel.watch(cluster, watched);
        }
        let stop = CancellationToken::new();
        let asked: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
        let counts = Arc::clone(&asked);
        let running = sentinel.run_with(stop.clone(), move |watched: Watched| {
            let counts = Arc::clone(&counts);
            async move {
                if ["c-0", "c-1", "c-2"].contains(&watched.name.as_str()) {
                    std::future::pending::<()>().await;
                }
                let mut counts = counts.lock();
                let count = counts.entry(watched.name.clone()).or_default();
                *count += 1;
                // In the tenth round something is different of the last cluster.
                Some(if watched.name == "c-29" && *count == 10 {
                    2
                } else {
                    1
                })
            }
        });
        tokio::select! {
            () = running => {}
            changed = changes.recv() => assert_eq!(changed.unwrap().name, "c-29"),
        }
        let asked = asked.lock();
        assert_eq!(asked.len(), 27);
        assert!(asked.values().all(|count| *count >= 3), "{asked:?}");
    }
}
