//! etcd as a peer: three members, and its lock service `v3lock` with one lease a client.
//!
//! Its members run with their defaults, which sync every entry of the log to disk. Its lock service
//! has no shared mode, so readers take locks exclusively like everybody else.
//!
//! Invariant: clients ask the member that leads, which spares etcd the way from a follower to it;
//! Lockstep's clients go to leaders, too.

mod members;
mod rpc;

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

pub use self::members::{program, version};
use self::{
    members::Members,
    rpc::{LeaseGrant, LeaseId, LockAsked, LockGranted, Unlocked},
};
use super::{Access, CLIENTS_PER_CONNECTION, Lock, OWN_LOCKS, Peer, PeerClient};
use crate::{counters::Counters, usage::ProcessId};

/// The lock that all clients want.
const HOT: &str = "bench/hot";
/// How long a lease outlives the loss of its client: what a session of Lockstep has by default.
const TTL: Duration = Duration::from_secs(10);

/// Members for a benchmark.
pub struct Etcd {
    members: Members,
    servers: Vec<ProcessId>,
    /// Connections to the member that leads.
    connections: Vec<Channel>,
}

impl Etcd {
    /// Starts three members in a temporary directory and waits until they agree on who leads. They
    /// will have so many clients at most.
    ///
    /// # Errors
    /// If they do not come up.
    pub async fn start(program: &Path, most_clients: usize) -> anyhow::Result<Self> {
        let members = Members::start(program).await?;
        let leader = members.leader()?;
        let count = most_clients.div_ceil(CLIENTS_PER_CONNECTION);
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            connections.push(leader.connect().await?);
        }
        Ok(Self {
            servers: members.processes()?,
            members,
            connections,
        })
    }
}

impl Peer for Etcd {
    type Client = EtcdClient;

    fn name(&self) -> &'static str {
        "etcd"
    }

    async fn connect(&self, number: usize) -> anyhow::Result<EtcdClient> {
        let channel = self.connections.get(number / CLIENTS_PER_CONNECTION);
        let channel = channel.with_context(|| format!("client {number} was not announced"))?;
        let asked = LeaseGrant {
            ttl_s: TTL.as_secs() as i64,
            id: 0,
        };
        let lease = rpc::grant_lease(channel, asked).await?;
        ensure!(lease.error.is_empty(), "no lease: {}", lease.error);
        let kept_alive = tokio::spawn(keep_alive(channel.clone(), lease.id));
        Ok(EtcdClient {
            channel: channel.clone(),
            lease: lease.id,
            own: (0..OWN_LOCKS)
                .map(|at| format!("bench/{number}/{at}"))
                .collect(),
            _kept_alive: AbortOnDropHandle::new(kept_alive),
        })
    }

    fn servers(&self) -> &[ProcessId] {
        &self.servers
    }

    async fn counters(&self) -> anyhow::Result<Counters> {
        let mut sum = Counters::default();
        for text in self.members.metrics().await? {
            sum = sum.plus(Counters::of_etcd(&text)?);
        }
        Ok(sum)
    }

    fn explain(&mut self, error: anyhow::Error) -> anyhow::Error {
        self.members.explain(error)
    }
}

/// A lease.
pub struct EtcdClient {
    channel: Channel,
    lease: i64,
    own: Vec<String>,
    _kept_alive: AbortOnDropHandle<()>,
}

impl PeerClient for EtcdClient {
    /// The key that stands for the hold.
    type Held = Vec<u8>;

    async fn lock(&mut self, lock: Lock, access: Access) -> anyhow::Result<Vec<u8>> {
        let name = match (lock, access) {
            (Lock::Own(turn), Access::Shared | Access::Exclusive) => {
                let at = turn % u64::from(OWN_LOCKS);
                self.own.get(at as usize).context("no lock of its own")?
            }
            (Lock::Hot, Access::Shared | Access::Exclusive) => HOT,
        };
        let asked = LockAsked {
            name: name.as_bytes().to_vec(),
            lease: self.lease,
        };
        let LockGranted { key } = rpc::lock(&self.channel, asked).await?;
        ensure!(!key.is_empty(), "a grant of {name} without a key");
        Ok(key)
    }

    async fn unlock(&mut self, held: Vec<u8>) -> anyhow::Result<()> {
        let Unlocked {} = rpc::unlock(&self.channel, held).await?;
        Ok(())
    }

    async fn close(self) -> anyhow::Result<()> {
        Ok(rpc::revoke_lease(&self.channel, self.lease).await?)
    }
}

/// Three times in a TTL, as Lockstep's client does. A lease that is lost all the same is noticed by
/// whoever locks with it.
async fn keep_alive(channel: Channel, lease: i64) {
    let (asks, asked) = mpsc::channel(1);
    let Ok(mut answers) = rpc::keep_lease(&channel, ReceiverStream::new(asked)).await else {
        return;
    };
    while asks.send(LeaseId { id: lease }).await.is_ok() {
        let Ok(Some(_kept)) = answers.message().await else {
            return;
        };
        sleep(TTL / 3).await;
    }
}
