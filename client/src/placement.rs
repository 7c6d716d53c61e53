//! What a client knows of the cluster: nodes, shards, leaders.
//!
//! Invariant: placement decides only where a request goes first. Any node serves any request, so
//! stale or missing knowledge costs a hop, never a wrong answer.

pub(crate) mod follow;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use lockstep_model::{
    id::{LockName, SessionId, ShardId},
    ring::{RING_VERSION, Ring},
};
use lockstep_proto::cluster::v1::WatchPlacementResponse;

use crate::address::Address;

/// One view of the cluster; replaced whole when a newer one comes.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    /// None until a node has told, or when keys are mapped in a way that this client does not know.
    ring: Option<Arc<Ring>>,
    /// How many data shards the ring was made for.
    shards: u32,
    /// By shard; only where a leader and its address are known.
    leaders: HashMap<u32, Address>,
    /// Every node that can be asked: those of the cluster, then the configured endpoints.
    addresses: Vec<Address>,
}

/// What decides where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    /// The shard of a lock.
    Lock(LockName),
    /// The home of a session.
    Session(SessionId),
    /// Any node does.
    Any,
}

impl Placement {
    /// Before any node has told: the configured endpoints.
    pub(crate) fn unknown(endpoints: &[Address]) -> Self {
        Self {
            ring: None,
            shards: 0,
            leaders: HashMap::new(),
            addresses: endpoints.to_vec(),
        }
    }

    /// What a node has told, and the configured endpoints.
    pub(crate) fn learnt(&self, news: &WatchPlacementResponse, endpoints: &[Address]) -> Self {
        let nodes: HashMap<u64, Address> = news
            .nodes
            .iter()
            .filter_map(|node| {
                let address = Address::parse(&node.client_address).ok()?;
                Some((node.node_id, address))
            })
            .collect();
        let leaders = news
            .shards
            .iter()
            .filter_map(|shard| Some((shard.shard, nodes.get(&shard.leader)?.clone())))
            .collect();
        let shards = news.shards.iter().map(|s| s.shard).max().unwrap_or(0);
        let ring = match (&self.ring, news.ring_version == RING_VERSION && shards > 0) {
            (_, false) => None,
            (Some(ring), true) if shards == self.shards => Some(Arc::clone(ring)),
            (_, true) => Some(Arc::new(Ring::new(shards))),
        };
        let mut addresses: Vec<_> = nodes.into_values().collect();
        addresses.sort_unstable();
        addresses.dedup();
        for endpoint in endpoints {
            if !addresses.contains(endpoint) {
                addresses.push(endpoint.clone());
            }
        }
        Self {
            ring,
            shards,
            leaders,
            addresses,
        }
    }

    /// True if both route alike.
    pub(crate) fn routes_as(&self, other: &Self) -> bool {
        self.ring.is_some() == other.ring.is_some()
            && self.shards == other.shards
            && self.leaders == other.leaders
            && self.addresses == other.addresses
    }

    /// The shard of a key, where known.
    pub(crate) fn shard_of(&self, key: &Key) -> Option<ShardId> {
        let ring = self.ring.as_ref()?;
        match key {
            Key::Lock(name) => Some(ring.shard_of_lock(name)),
            Key::Session(session) => Some(ring.shard_of_session(*session)),
            Key::Any => None,
        }
    }

    /// The node that leads the shard of a key, where known.
    pub(crate) fn leader_of(&self, key: &Key) -> Option<&Address> {
        self.leaders.get(&self.shard_of(key)?.0)
    }

    /// Every node that can be asked.
    pub(crate) fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Every node that can be asked, the leader of the key first, the others in random order so
    /// that clients spread.
    pub(crate) fn candidates(&self, key: &Key) -> Vec<Address> {
        let leader = self.leader_of(key);
        let mut order: Vec<Address> = self.addresses.clone();
        if !order.is_empty() {
            let first = rand::random_range(0..order.len());
            order.rotate_left(first);
        }
        order.sort_by_key(|address| Some(address) != leader);
        order
    }

    /// The same as a set.
    pub(crate) fn address_set(&self) -> BTreeSet<Address> {
        self.addresses.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::cluster::v1::{NodeEndpoint, ShardPlacement};

    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn news(ring_version: u32) -> WatchPlacementResponse {
        WatchPlacementResponse {
            cluster_id: String::new(),
            nodes: (1..=3)
                .map(|node_id| NodeEndpoint {
                    node_id,
                    client_address: format!("node-{node_id}:7400"),
                })
                .collect(),
            shards: (0..=8)
                .map(|shard| ShardPlacement {
                    shard,
                    leader: u64::from(shard % 4),
                    replicas: vec![1, 2, 3],
                })
                .collect(),
            ring_version,
        }
    }

    #[test]
    fn a_lock_is_routed_to_the_leader_of_its_shard() {
        let endpoints = [address("lb:7400")];
        let placement = Placement::unknown(&endpoints).learnt(&news(RING_VERSION), &endpoints);
        let ring = Ring::new(8);
        for n in 0..100 {
            let name = LockName::new(&format!("lock-{n}")).unwrap();
            // Shards whose leader is 0 have none.
            let leader = ring.shard_of_lock(&name).0 % 4;
            let want = (leader > 0).then(|| address(&format!("node-{leader}:7400")));
            let key = Key::Lock(name);
            assert_eq!(placement.leader_of(&key), want.as_ref());
            let candidates = placement.candidates(&key);
            assert_eq!(candidates.len(), 4, "each node once, and the endpoint");
            if want.is_some() {
                assert_eq!(candidates.first(), want.as_ref());
            }
        }
    }

    #[test]
    fn an_unknown_ring_leaves_routing_to_the_nodes() {
        let placement = Placement::unknown(&[]).learnt(&news(RING_VERSION + 1), &[]);
        assert_eq!(placement.leader_of(&Key::Session(SessionId(7))), None);
        assert_eq!(placement.candidates(&Key::Any).len(), 3);
    }
}
