//! What this node knows of the cluster: who is where, which shards live where, who leads them.
//!
//! Invariant: the directory only ever tells where to ask. A wrong entry costs a hop, never a wrong
//! answer, because the node that is asked knows itself whether it leads.

use std::collections::BTreeMap;

use lockstep_model::{
    ClusterId, LockName, NodeId, SessionId, ShardId,
    meta::{NodeRecord, Placement, Settings},
    placement::preferred_leaders,
    query::ClusterView,
    ring::Ring,
};
use parking_lot::RwLock;
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
    changed: watch::Sender<u64>,
}

struct Tables {
    nodes: BTreeMap<NodeId, NodeRecord>,
    preferred: BTreeMap<ShardId, NodeId>,
    placement: Placement,
}

impl Tables {
    fn new(nodes: Vec<NodeRecord>, placement: Placement) -> Self {
        Self {
            nodes: nodes.into_iter().map(|node| (node.node, node)).collect(),
            preferred: preferred_leaders(&placement),
            placement,
        }
    }
}

impl Directory {
    /// Starts from what the founders agreed on.
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
            tables: RwLock::new(Tables::new(view.nodes, view.placement)),
            leaders,
            changed: watch::Sender::new(0),
        }
    }

    /// Takes the meta shard's newer tables.
    pub fn update(&self, view: ClusterView) {
        let newer = Tables::new(view.nodes, view.placement);
        let mut tables = self.tables.write();
        if tables.nodes == newer.nodes && tables.placement == newer.placement {
            return;
        }
        *tables = newer;
        drop(tables);
        self.changed.send_modify(|version| *version += 1);
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

    /// The nodes that hold a shard.
    #[must_use]
    pub fn replicas(&self, shard: ShardId) -> Vec<NodeId> {
        let tables = self.tables.read();
        tables
            .placement
            .shards
            .get(&shard)
            .cloned()
            .unwrap_or_default()
    }

    /// Who should lead a shard, so that leaders are spread evenly.
    #[must_use]
    pub fn preferred_leader(&self, shard: ShardId) -> Option<NodeId> {
        self.tables.read().preferred.get(&shard).copied()
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

    /// Notes who leads a shard.
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

    /// Counts changes of anything in here.
    #[must_use]
    pub fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
