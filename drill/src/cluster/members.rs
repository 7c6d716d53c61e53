//! Nodes that come and go while the cluster serves.
//!
//! Invariant: a node is asked for by its place in the harness; which id it has now is looked up each
//! time, because one that comes back empty is another node.

use std::time::Duration;

use anyhow::{Context, bail};
use lockstep_proto::cluster::v1::{
    DrainNodeRequest, GetStatusResponse, NodeLifecycle, NodeStatus, RemoveNodeRequest,
    ReplaceNodeRequest, TransferLeadersRequest, cluster_service_client::ClusterServiceClient,
};
use tonic::{Code, Status, transport::Channel};

use super::{Cluster, options::node_name};
use crate::poll::{TimedOut, until};

/// A call that changes the cluster needs a quorum of the meta shard, and may have to wait for its
/// election.
const CHANGE_LIMIT: Duration = Duration::from_secs(15);
/// How long the placement may take to be as it should be: every replica may have to move.
pub const SETTLE_LIMIT: Duration = Duration::from_secs(90);

impl Cluster {
    /// The plain cluster API of one node.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn cluster_service(&self, at: usize) -> anyhow::Result<ClusterServiceClient<Channel>> {
        Ok(ClusterServiceClient::new(self.channel(at, CHANGE_LIMIT)?))
    }

    /// What the first node that answers knows.
    async fn any_status(&self) -> Result<GetStatusResponse, String> {
        let mut last = "there are no nodes".to_owned();
        for at in 0..self.size() {
            match self.status(at).await {
                Ok(status) => return Ok(status),
                Err(error) => last = format!("{error:#}"),
            }
        }
        Err(last)
    }

    /// The present id of a node.
    ///
    /// # Errors
    /// If nobody knows it.
    pub async fn id_of(&self, at: usize) -> anyhow::Result<u64> {
        let status = self.any_status().await.map_err(anyhow::Error::msg)?;
        let name = node_name(at);
        let present = status.nodes.iter().filter(|node| node.name == name);
        let newest = present.map(|node| node.node_id).max();
        newest.with_context(|| format!("{name} is not in the registry"))
    }

    /// Makes a change at whichever node answers, again and again until it is made or refused.
    async fn change<F>(
        &self,
        what: &str,
        ask: impl Fn(ClusterServiceClient<Channel>) -> F,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = Result<(), Status>>,
    {
        let refused = until(what, SETTLE_LIMIT, || async {
            let mut last = "there are no nodes".to_owned();
            for at in 0..self.size() {
                let service = self.cluster_service(at);
                let service = service.map_err(|error| format!("{error:#}"))?;
                match ask(service).await {
                    Ok(()) => return Ok(None),
                    Err(status) if status.code() == Code::FailedPrecondition => {
                        return Ok(Some(status));
                    }
                    Err(status) => last = status.to_string(),
                }
            }
            Err(last)
        });
        match refused.await? {
            None => Ok(()),
            Some(status) => bail!("{what}: {}", status.message()),
        }
    }

    /// Asks for a node to be emptied.
    ///
    /// # Errors
    /// If that is refused, or nobody answers.
    pub async fn drain(&self, at: usize) -> anyhow::Result<()> {
        let request = DrainNodeRequest {
            node_id: self.id_of(at).await?,
            expected_revision: None,
        };
        let what = format!("node-{} is being drained", at + 1);
        self.change(&what, |mut service| async move {
            service.drain_node(request).await.map(|_| ())
        })
        .await
    }

    /// Takes a node out of the registry.
    ///
    /// # Errors
    /// If that is refused, or nobody answers.
    pub async fn remove(&self, at: usize) -> anyhow::Result<()> {
        let request = RemoveNodeRequest {
            node_id: self.id_of(at).await?,
            expected_revision: None,
        };
        let what = format!("node-{} is removed", at + 1);
        self.change(&what, |mut service| async move {
            service.remove_node(request).await.map(|_| ())
        })
        .await
    }

    /// Declares a node lost.
    ///
    /// # Errors
    /// If that is refused, or nobody answers.
    pub async fn replace(&self, at: usize) -> anyhow::Result<()> {
        let request = ReplaceNodeRequest {
            node_id: self.id_of(at).await?,
            expected_revision: None,
        };
        let what = format!("node-{} is declared lost", at + 1);
        self.change(&what, |mut service| async move {
            service.replace_node(request).await.map(|_| ())
        })
        .await
    }

    /// Has a node lead the meta shard, and with it the placement.
    ///
    /// # Errors
    /// If it does not come to that.
    pub async fn make_driver(&self, at: usize) -> anyhow::Result<()> {
        let to = self.id_of(at).await?;
        let what = format!("node-{} leads the meta shard", at + 1);
        until(what, SETTLE_LIMIT, || async {
            let status = self.any_status().await?;
            let meta = status.shards.iter().find(|shard| shard.shard == 0);
            let leader = meta.map_or(0, |meta| meta.leader);
            if leader == to {
                return Ok(());
            }
            let request = TransferLeadersRequest {
                node_id: leader,
                shard: Some(0),
                to_node_id: Some(to),
            };
            let service = self.cluster_service(at);
            let mut service = service.map_err(|error| format!("{error:#}"))?;
            let asked = service.transfer_leaders(request).await;
            Err(format!("node {leader} leads it: {asked:?}"))
        })
        .await?;
        Ok(())
    }

    /// Waits until so many nodes serve, and every replica is where it should be.
    ///
    /// # Errors
    /// If that is not so in [`SETTLE_LIMIT`].
    pub async fn wait_settled(&self, what: &str, nodes: usize) -> Result<(), TimedOut> {
        until(what, SETTLE_LIMIT, || async {
            settled(&self.any_status().await?, nodes)
        })
        .await
    }

    /// Waits until the placement gives a node nothing.
    ///
    /// # Errors
    /// If that is not so in [`SETTLE_LIMIT`].
    pub async fn wait_empty(&self, at: usize) -> Result<(), TimedOut> {
        let name = node_name(at);
        until(format!("{name} is empty"), SETTLE_LIMIT, || async {
            let status = self.any_status().await?;
            let known = status.nodes.iter().filter(|node| node.name == name);
            match known.map(|node| node.shards_placed).sum::<u32>() {
                0 => Ok(()),
                left => Err(format!("{left} replicas left; {:?}", status.obstacles)),
            }
        })
        .await
    }
}

fn settled(status: &GetStatusResponse, nodes: usize) -> Result<(), String> {
    let lives = |node: &&NodeStatus| node.lifecycle() == NodeLifecycle::Active && node.ready;
    let living: Vec<&NodeStatus> = status.nodes.iter().filter(lives).collect();
    if living.len() != nodes || status.nodes.len() != nodes {
        return Err(format!("of {:?} only these live: {living:?}", status.nodes));
    }
    let placed = living.iter().map(|node| node.shards_placed);
    let (least, most) = (placed.clone().min(), placed.max());
    if most.unwrap_or(0) > least.unwrap_or(0) + 1 {
        return Err(format!("uneven: {living:?}"));
    }
    for shard in &status.shards {
        let living = |id| living.iter().any(|node| node.node_id == id);
        let voters = shard.replicas.iter().filter(|replica| replica.voter);
        let whole = voters.count() >= status.replication_factor as usize;
        let members = &shard.replicas;
        if !whole
            || !members
                .iter()
                .all(|member| member.voter && living(member.node_id))
        {
            return Err(format!("shard {}: {members:?}", shard.shard));
        }
    }
    if status.settled {
        Ok(())
    } else {
        Err(format!("still to do: {:?}", status.obstacles))
    }
}
