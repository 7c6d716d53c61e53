//! What this node knows of the cluster: who is where, which shards live where, who leads them.
//!
//! Invariant: the directory only ever tells where to ask. A wrong entry costs a hop, never a wrong
//! answer, because the node that is asked knows itself whether it leads. The tables' revision never
//! goes back.

use std::collections::BTreeMap;

use lockstep_model::{
    ClusterId, LockName, NodeId, SessionId, ShardId,
    meta::{ClusterView, Lifecycle, NodeRecord, Settings},
    placement::preferred_leaders,
    ring::Ring,
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

/// The cluster as this node knows it.
pub struct Directory {
    /// This node.
    pub me: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// Fixed at the founding.
    pub settings: Settings,
    ring: Ring,
    tables: RwLock<Tables>,
    leaders: BTreeMap<ShardId, watch::Sender<Option<NodeId>>>,
    /// The terms of the leaders that peers told of.
    terms: Mutex<BTreeMap<ShardId, u64>>,
    changed: watch::Sender<u64>,
}

struct Tables {
    nodes: BTreeMap<NodeId, NodeRecord>,
    view: ClusterView,
}

impl Tables {
    fn new(view: ClusterView) -> Self {
        let nodes = view.nodes.iter().map(|node| (node.node, node.clone()));
        Self {
            nodes: nodes.collect(),
            view,
        }
    }
}

impl Directory {
    /// Starts from the tables that this node knew last.
    #[must_use]
    pub fn new(me: NodeId, view: ClusterView) -> Self {
        let leaders = view
            .placement
            .shards
            .keys()
            .map(|shard| (*shard, watch::Sender::new(None)))
            .collect();
        Self {
            me,
            cluster: view.cluster,
            ring: Ring::new(view.settings.shards),
            settings: view.settings,
            tables: RwLock::new(Tables::new(view)),
            leaders,
            terms: Mutex::default(),
            changed: watch::Sender::new(0),
        }
    }

    /// Takes the meta shard's tables, if they are newer.
    pub fn update(&self, view: ClusterView) {
        let mut tables = self.tables.write();
        if view.revision <= tables.view.revision {
            return;
        }
        *tables = Tables::new(view);
        drop(tables);
        self.changed.send_modify(|version| *version += 1);
    }

    /// A copy of the tables.
    #[must_use]
    pub fn view(&self) -> ClusterView {
        self.tables.read().view.clone()
    }

    /// The tables' revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.tables.read().view.revision
    }

    /// The shard of a lock.
    #[must_use]
    pub fn shard_of_lock(&self, name: &LockName) -> ShardId {
        self.ring.shard_of_lock(name)
    }

    /// The home of a session.
    #[must_use]
    pub fn home_of(&self, session: SessionId) -> ShardId {
        self.ring.shard_of_session(session)
    }

    /// All shards, the meta shard first.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.leaders.keys().copied()
    }

    /// The data shards.
    pub fn data_shards(&self) -> impl Iterator<Item = ShardId> + '_ {
        self.shards().filter(|shard| *shard != ShardId::META)
    }

    /// The nodes that vote in a shard.
    #[must_use]
    pub fn replicas(&self, shard: ShardId) -> Vec<NodeId> {
        let tables = self.tables.read();
        let voters = tables.view.placement.shards.get(&shard);
        voters.cloned().unwrap_or_default()
    }

    /// Who should stand for election first when a shard begins.
    #[must_use]
    pub fn preferred_leader(&self, shard: ShardId) -> Option<NodeId> {
        let tables = self.tables.read();
        preferred_leaders(&tables.view.placement)
            .get(&shard)
            .copied()
    }

    /// Every node.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeRecord> {
        self.tables.read().nodes.values().cloned().collect()
    }

    /// One node.
    #[must_use]
    pub fn node(&self, node: NodeId) -> Option<NodeRecord> {
        self.tables.read().nodes.get(&node).cloned()
    }

    /// What is to become of a node.
    #[must_use]
    pub fn lifecycle(&self, node: NodeId) -> Lifecycle {
        self.tables.read().view.lifecycle(node)
    }

    /// Who leads a shard, as far as is known.
    #[must_use]
    pub fn leader(&self, shard: ShardId) -> Option<NodeId> {
        self.leaders.get(&shard).and_then(|leader| *leader.borrow())
    }

    /// Follows who leads a shard; none for a shard that does not exist.
    #[must_use]
    pub fn watch_leader(&self, shard: ShardId) -> Option<watch::Receiver<Option<NodeId>>> {
        self.leaders.get(&shard).map(watch::Sender::subscribe)
    }

    /// Notes who leads a shard, as the replica on this node says.
    pub fn set_leader(&self, shard: ShardId, leader: Option<NodeId>) {
        let Some(known) = self.leaders.get(&shard) else {
            return;
        };
        let changed = known.send_if_modified(|known| {
            let changed = *known != leader;
            *known = leader;
            changed
        });
        if changed {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    /// Notes who leads a shard that has no replica here, as a peer that has one says. Older news
    /// are dropped.
    pub fn hear_leader(&self, shard: ShardId, term: u64, leader: NodeId) {
        {
            let mut terms = self.terms.lock();
            let known = terms.entry(shard).or_default();
            if term < *known {
                return;
            }
            *known = term;
        }
        self.set_leader(shard, Some(leader));
    }

    /// Counts changes of anything in here.
    #[must_use]
    pub fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
