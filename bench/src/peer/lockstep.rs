//! Lockstep as a peer: three nodes, eight shards, three replicas of each, and its Rust SDK. Every
//! entry of the log is synced to disk.
//!
//! Invariant: the nodes run with their defaults, and each client has one lock on every shard, so
//! that a client's turns go round all leaders.

use anyhow::Context;
use lockstep_client::{Client, ClientConfig, LockGuard, Mode, Session, SessionOptions};
use lockstep_drill::cluster::{Cluster, ClusterOptions, Leadership};
use lockstep_model::{LockName, ShardId, ring::Ring};

use super::{Access, CLIENTS_PER_CONNECTION, Lock, OWN_LOCKS, Peer, PeerClient};
use crate::{
    counters::Counters,
    usage::{ProcessId, children},
};

/// The lock that all clients want.
const HOT: &str = "bench/hot";
/// Names tried for the lock of one shard before giving up: the ring gives a shard at least a third
/// of its fair share, so a few dozen are enough.
const TRIES_PER_LOCK: u32 = 10_000;

/// A cluster for a benchmark.
pub struct Lockstep {
    cluster: Cluster,
    ring: Ring,
    clients: Vec<Client>,
    servers: Vec<ProcessId>,
}

impl Lockstep {
    /// Starts the nodes in a temporary directory and waits until every shard has a leader. It will
    /// have so many clients at most.
    ///
    /// # Errors
    /// If the cluster does not come up.
    pub async fn start(most_clients: usize) -> anyhow::Result<Self> {
        let options = ClusterOptions {
            own_group: true,
            shards: OWN_LOCKS,
            ..ClusterOptions::new("bench")
        };
        let before = children()?;
        let cluster = Cluster::start(options).await?;
        cluster
            .wait_leaders("every shard has a leader", |_| true)
            .await?;
        let mut servers = children()?;
        servers.retain(|process| !before.contains(process));
        anyhow::ensure!(
            servers.len() == cluster.size(),
            "{} processes of {} nodes are found",
            servers.len(),
            cluster.size()
        );
        let mut clients = Vec::new();
        for _ in 0..most_clients.div_ceil(CLIENTS_PER_CONNECTION) {
            let config = ClientConfig::new(cluster.endpoints());
            clients.push(Client::connect(config).await?);
        }
        Ok(Self {
            ring: Ring::new(cluster.options().shards),
            cluster,
            clients,
            servers,
        })
    }

    /// Who leads what.
    pub async fn leadership(&self) -> Leadership {
        self.cluster.leadership().await
    }

    /// How many data shards each node leads, in the order of the nodes.
    pub async fn leaders_per_node(&self) -> Vec<usize> {
        let leadership = self.leadership().await;
        let nodes = 0..self.cluster.size();
        nodes.map(|node| leadership.led_by(node).len()).collect()
    }

    /// Where clients reach the node that leads the shard of a lock: `host:port`.
    ///
    /// # Errors
    /// If that shard has no leader at present, or the name is none.
    pub async fn leader_of(&self, name: &str) -> anyhow::Result<String> {
        let shard = self.ring.shard_of_lock(&LockName::new(name)?);
        let leader = self.leadership().await.leader_of(shard.0);
        let endpoint = leader.and_then(|leader| self.cluster.endpoints().into_iter().nth(leader));
        endpoint.with_context(|| format!("shard {} of lock {name} has no leader", shard.0))
    }

    /// A client with connections of its own.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(ClientConfig::new(self.cluster.endpoints())).await?)
    }

    /// Names for the locks of a client, one on each shard. Where the turns begin differs from
    /// client to client, so that they do not all use one shard at a time.
    fn own_locks(&self, number: usize) -> anyhow::Result<Vec<String>> {
        let shards = 1..=self.cluster.options().shards;
        let mut names = shards
            .map(|shard| {
                let mut tried = (0..TRIES_PER_LOCK).map(|at| format!("bench/{number}/{at}"));
                let here = |name: &String| {
                    let name = LockName::new(name);
                    name.is_ok_and(|name| self.ring.shard_of_lock(&name) == ShardId(shard))
                };
                let found = tried.find(here);
                found.with_context(|| format!("no lock of client {number} is on shard {shard}"))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let first = number % names.len().max(1);
        names.rotate_left(first);
        Ok(names)
    }
}

impl Peer for Lockstep {
    type Client = LockstepClient;

    fn name(&self) -> &'static str {
        "lockstep"
    }

    async fn connect(&self, number: usize) -> anyhow::Result<LockstepClient> {
        let client = self.clients.get(number / CLIENTS_PER_CONNECTION);
        let client = client.with_context(|| format!("client {number} was not announced"))?;
        let session = client.open_session(SessionOptions::default()).await?;
        let own = self.own_locks(number)?;
        Ok(LockstepClient { session, own })
    }

    fn servers(&self) -> &[ProcessId] {
        &self.servers
    }

    async fn counters(&self) -> anyhow::Result<Counters> {
        let mut sum = Counters::default();
        for at in 0..self.cluster.size() {
            let answer = self.cluster.http(at, "/metrics").await?;
            sum = sum.plus(Counters::of_node(&answer.body)?);
        }
        Ok(sum)
    }

    fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        self.cluster.explain(error)
    }
}

/// A session.
pub struct LockstepClient {
    session: Session,
    own: Vec<String>,
}

impl PeerClient for LockstepClient {
    type Held = LockGuard;

    async fn lock(&mut self, lock: Lock, access: Access) -> anyhow::Result<LockGuard> {
        let name = match lock {
            Lock::Own(turn) => {
                let locks = self.own.len() as u64;
                let at = turn.checked_rem(locks).unwrap_or_default();
                self.own.get(at as usize).context("no lock of its own")?
            }
            Lock::Hot => HOT,
        };
        let mode = match access {
            Access::Shared => Mode::Shared,
            Access::Exclusive => Mode::Exclusive,
        };
        Ok(self.session.lock(name).mode(mode).acquire().await?)
    }

    async fn unlock(&mut self, held: LockGuard) -> anyhow::Result<()> {
        held.release().await?;
        Ok(())
    }

    async fn close(self) -> anyhow::Result<()> {
        Ok(self.session.close().await?)
    }
}
