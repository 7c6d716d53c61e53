//! Watches the members of clusters that are well, without asking the API server anything.
//!
//! Invariant: a quiet cluster costs its API server nothing; what its members find out (one that does
//! not answer, a shard without a leader) leads to a reconcile within a few seconds.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt as _, stream};
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::sync::mpsc;
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
const CONCURRENCY: usize = 16;
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

/// Watches members.
#[derive(Clone)]
pub struct Sentinel {
    watched: Arc<Mutex<HashMap<ObjectRef<SyncCluster>, Watched>>>,
    changed: mpsc::Sender<ObjectRef<SyncCluster>>,
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
            },
            changes,
        )
    }

    /// Watches a cluster from now on, until it is gone or changes.
    pub fn watch(&self, cluster: ObjectRef<SyncCluster>, watched: Watched) {
        self.watched.lock().insert(cluster, watched);
    }

    /// Asks until cancelled.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let all: Vec<_> = self
                .watched
                .lock()
                .iter()
                .map(|(cluster, watched)| (cluster.clone(), watched.clone()))
                .collect();
            let round = stream::iter(all).for_each_concurrent(CONCURRENCY, |(cluster, watched)| {
                self.look(cluster, watched)
            });
            tokio::select! {
                () = stop.cancelled() => return,
                () = round => {}
            }
        }
    }

    async fn look(&self, cluster: ObjectRef<SyncCluster>, watched: Watched) {
        let some = watched.doors.get(..ASKED).unwrap_or(&watched.doors);
        let id = watched.id.as_ref();
        let answers = members::ask(some, id).await;
        let heard = members::hear(answers, &watched.name, id, Electorate::default());
        if digest(heard.members.as_ref()) != watched.digest {
            // The reconcile watches it again, if it still exists.
            self.watched.lock().remove(&cluster);
            if self.changed.try_send(cluster.clone()).is_err() {
                self.watched.lock().insert(cluster, watched);
            }
        }
    }
}

/// What a reconcile would see: not who leads, and not how long logs are.
fn digest(members: Option<&Members>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Some(members) = members else {
        return 0;
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
