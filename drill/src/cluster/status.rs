//! Who leads what, as the nodes that can be asked say.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use lockstep_proto::{
    cluster::v1::{
        GetStatusRequest, GetStatusResponse, cluster_service_client::ClusterServiceClient,
    },
    lock::v1::lock_service_client::LockServiceClient,
};
use tonic::transport::{Channel, Endpoint};

use super::{Cluster, LEADER_LIMIT};
use crate::poll::{TimedOut, until};

/// A node answers from what it knows: one that takes longer is paused or worse.
const STATUS_LIMIT: Duration = Duration::from_secs(1);
/// For a call that needs a quorum: an election and a little.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// For each shard, meta included, the node that leads it, by the newest term that any node knows.
/// Shards without a leader are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    leaders: BTreeMap<u32, (u64, usize)>,
}

impl Leadership {
    /// Who leads a shard.
    #[must_use]
    pub fn leader_of(&self, shard: u32) -> Option<usize> {
        self.leaders.get(&shard).map(|(_term, node)| *node)
    }

    /// The data shards that a node leads.
    #[must_use]
    pub fn led_by(&self, node: usize) -> Vec<u32> {
        let led = self.leaders.iter();
        led.filter(|(shard, (_, leader))| **shard != 0 && *leader == node)
            .map(|(shard, _)| *shard)
            .collect()
    }

    fn add(&mut self, status: &GetStatusResponse) {
        let named = status.nodes.iter().filter_map(|node| {
            let number: usize = node.name.strip_prefix("node-")?.parse().ok()?;
            Some((node.node_id, number.checked_sub(1)?))
        });
        let nodes: BTreeMap<u64, usize> = named.collect();
        for shard in &status.shards {
            let Some(node) = nodes.get(&shard.leader) else {
                continue;
            };
            let known = self
                .leaders
                .entry(shard.shard)
                .or_insert((shard.term, *node));
            if shard.term > known.0 {
                *known = (shard.term, *node);
            }
        }
    }
}

impl Cluster {
    pub(super) fn channel(&self, at: usize, limit: Duration) -> anyhow::Result<Channel> {
        let address = self.node(at)?.addresses().client;
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(STATUS_LIMIT)
            .timeout(limit);
        Ok(endpoint.connect_lazy())
    }

    /// The plain lock API of one node, without the SDK's retries. Calls end after ten seconds.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn locks(&self, at: usize) -> anyhow::Result<LockServiceClient<Channel>> {
        Ok(LockServiceClient::new(self.channel(at, CALL_LIMIT)?))
    }

    /// Like [`Self::locks`], with calls that end after `limit`.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn locks_within(
        &self,
        at: usize,
        limit: Duration,
    ) -> anyhow::Result<LockServiceClient<Channel>> {
        Ok(LockServiceClient::new(self.channel(at, limit)?))
    }

    /// What one node knows of the cluster.
    ///
    /// # Errors
    /// If it does not answer within a second.
    pub async fn status(&self, at: usize) -> anyhow::Result<GetStatusResponse> {
        let mut client = ClusterServiceClient::new(self.channel(at, STATUS_LIMIT)?);
        let answer = client.get_status(GetStatusRequest {}).await;
        let status = answer.with_context(|| format!("the status of node-{}", at + 1))?;
        Ok(status.into_inner())
    }

    /// Who leads what, as the nodes that answer say.
    pub async fn leadership(&self) -> Leadership {
        let asked = (0..self.size()).map(|at| self.status(at));
        let mut leadership = Leadership::default();
        for status in futures::future::join_all(asked).await.into_iter().flatten() {
            leadership.add(&status);
        }
        leadership
    }

    /// Waits until every replica of every shard has all of its leader's log. Only an idle cluster
    /// comes to that.
    ///
    /// # Errors
    /// If that is not so in [`LEADER_LIMIT`].
    pub async fn wait_converged(&self) -> Result<(), TimedOut> {
        until("all replicas have all entries", LEADER_LIMIT, || async {
            let leadership = self.leadership().await;
            for shard in 0..=self.options().shards {
                let no_leader = || format!("shard {shard} has no leader");
                let leader = leadership.leader_of(shard).ok_or_else(no_leader)?;
                let status = self.status(leader).await;
                let status = status.map_err(|error| format!("{error:#}"))?;
                let shards = status.shards.iter();
                for replica in shards
                    .filter(|status| status.shard == shard)
                    .flat_map(|status| &status.replicas)
                {
                    if replica.lag > 0 {
                        return Err(format!("shard {shard}: {replica:?}"));
                    }
                }
            }
            Ok(())
        })
        .await
    }

    /// Who leads a shard, as the nodes that answer say.
    pub async fn leader_of(&self, shard: u32) -> Option<usize> {
        self.leadership().await.leader_of(shard)
    }

    /// Waits until every shard has a leader that `accept` likes, and says who leads what.
    ///
    /// # Errors
    /// If that is not so in [`LEADER_LIMIT`].
    pub async fn wait_leaders(
        &self,
        what: &str,
        accept: impl Fn(usize) -> bool,
    ) -> Result<Leadership, TimedOut> {
        until(what, LEADER_LIMIT, || async {
            let leadership = self.leadership().await;
            let good = |shard| leadership.leader_of(shard).is_some_and(&accept);
            if (0..=self.options().shards).all(good) {
                Ok(leadership)
            } else {
                Err(format!("{leadership:?}"))
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::cluster::v1::{NodeStatus, ShardStatus};

    use super::*;

    fn status(leader: u64, term: u64) -> GetStatusResponse {
        let node = |node_id, name: &str| NodeStatus {
            node_id,
            name: name.to_owned(),
            ..NodeStatus::default()
        };
        GetStatusResponse {
            nodes: vec![node(11, "node-1"), node(12, "node-2")],
            shards: vec![ShardStatus {
                shard: 3,
                leader,
                term,
                ..ShardStatus::default()
            }],
            ..GetStatusResponse::default()
        }
    }

    #[test]
    fn the_newest_term_tells_who_leads() {
        let mut leadership = Leadership::default();
        leadership.add(&status(12, 5));
        leadership.add(&status(11, 4));
        leadership.add(&status(0, 9));
        assert_eq!(leadership.leader_of(3), Some(1));
        assert_eq!(leadership.led_by(1), [3]);
        assert_eq!(leadership.leader_of(4), None);
    }
}
