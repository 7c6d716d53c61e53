//! What the members say, and what they are asked to change.
//!
//! Invariants: nothing here waits longer than [`DEADLINE`]; nobody is believed, or asked for a change, who is
//! not of this very cluster; what the members say is taken from the one with the youngest tables that
//! reaches most others; and every change is asked for under the revision that it was decided by, so that
//! none is made by an old picture.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use lockstep_proto::cluster::v1::{
    ActivateNodeRequest, DrainNodeRequest, GetStatusRequest, GetStatusResponse, NodeLifecycle,
    NodeStatus, RemoveNodeRequest, ReplaceNodeRequest, ShardStatus, TransferLeadersRequest,
    cluster_service_client::ClusterServiceClient,
};
use tonic::transport::{Channel, Endpoint};

use crate::cluster::{
    build::CLIENT_PORT,
    identity::{self, ClusterId, Electorate, Identity, Stranger},
    observed::{Lifecycle, Member, Members, Ordinal, Replica, Shard},
};

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(1);
/// How long an answer may take: a node that asks its peers waits for them no longer than this either.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long leads may take to be handed over.
const TRANSFER_DEADLINE: Duration = Duration::from_secs(20);
/// Largest answer: a status of 99 nodes and 1,024 shards has less than a tenth of this.
const MAX_MESSAGE: usize = 16 << 20;
/// Members asked for the status of a known cluster, if one of them answers. More would not be known better.
const ASKED: usize = 5;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Nobody could be asked.
    #[error("no member of the cluster can be reached to {0}")]
    NobodyReached(&'static str),
    /// The members refuse, or do not know whether it was done.
    #[error("the members did not {what}: {}", status.message())]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Their answer.
        status: Box<tonic::Status>,
    },
    /// Leads were not taken over in time.
    #[error("shards {0:?} are still led by the node, because nobody took them over in time")]
    LeadsKept(Vec<u32>),
}

/// A change that members are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Have it emptied.
    Drain(u64),
    /// Have it hold its share again.
    Activate(u64),
    /// Declare it lost.
    Replace(u64),
    /// Take it out of the registry.
    Remove(u64),
}

impl Change {
    const fn what(self) -> &'static str {
        match self {
            Self::Drain(_) => "drain a node",
            Self::Activate(_) => "activate a node",
            Self::Replace(_) => "declare a node lost",
            Self::Remove(_) => "remove a node",
        }
    }
}

fn client(address: &str) -> Option<ClusterServiceClient<Channel>> {
    let host = if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    };
    let endpoint = Endpoint::from_shared(format!("http://{host}:{CLIENT_PORT}")).ok()?;
    let channel = endpoint
        .connect_timeout(CONNECT)
        .timeout(TRANSFER_DEADLINE)
        .connect_lazy();
    Some(ClusterServiceClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}

async fn status_of(address: &str) -> Option<GetStatusResponse> {
    let mut client = client(address)?;
    let asked = tokio::time::timeout(DEADLINE, client.get_status(GetStatusRequest {}));
    Some(asked.await.ok()?.ok()?.into_inner())
}

/// Where a pod may be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Whose node should answer there.
    pub ordinal: Ordinal,
    /// Its address.
    pub address: String,
}

/// What was heard at a pod's address.
#[derive(Clone, Debug)]
pub struct Answer {
    door: Door,
    cluster: ClusterId,
    status: GetStatusResponse,
}

/// What was heard of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Which cluster it is.
    pub identity: Identity,
    /// Who answered as another one.
    pub strangers: Vec<Stranger>,
    /// What its members say; none if none of them answers.
    pub members: Option<Members>,
    /// Where its members have answered: nobody else is asked for changes.
    pub addresses: Vec<String>,
}

/// Asks the nodes at these doors, of a known cluster only as many as it takes to hear of it.
pub async fn ask(doors: &[Door], pinned: Option<&ClusterId>) -> Vec<Answer> {
    let some = doors
        .len()
        .min(if pinned.is_some() { ASKED } else { doors.len() });
    let (first, rest) = doors.split_at(some);
    let mut answers = ask_all(first).await;
    if !answers.iter().any(|answer| Some(&answer.cluster) == pinned) {
        answers.extend(ask_all(rest).await);
    }
    answers
}

async fn ask_all(doors: &[Door]) -> Vec<Answer> {
    let answers = join_all(doors.iter().map(|door| async move {
        let status = status_of(&door.address).await?;
        // One that is part of no cluster yet knows nothing.
        let cluster = ClusterId::parse(&status.cluster_id)?;
        (!status.nodes.is_empty()).then(|| Answer {
            door: door.clone(),
            cluster,
            status,
        })
    }));
    answers.await.into_iter().flatten().collect()
}

/// What follows from answers for the cluster of this name, by its pinned id, or by what its pods agree on.
#[must_use]
pub fn hear(
    answers: Vec<Answer>,
    name: &str,
    pinned: Option<&ClusterId>,
    electorate: Electorate,
) -> Heard {
    let identity = match pinned {
        Some(id) => Identity::Pinned(id.clone()),
        None => {
            let named = answers.iter().filter(|answer| answer.is_of_its_pod(name));
            let named = named.map(|answer| (answer.door.ordinal, answer.cluster.clone()));
            identity::agreed(electorate, &named.collect())
                .map_or(Identity::Unknown, Identity::Agreed)
        }
    };
    let (ours, others): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|answer| Some(&answer.cluster) == identity.id());
    Heard {
        members: members_of(&ours, name),
        addresses: ours.into_iter().map(|answer| answer.door.address).collect(),
        strangers: others
            .into_iter()
            .map(|answer| Stranger {
                ordinal: answer.door.ordinal,
                cluster: answer.cluster,
            })
            .collect(),
        identity,
    }
}

impl Answer {
    /// Is it the pod's own node that has answered? Its address may have become another's.
    fn is_of_its_pod(&self, cluster: &str) -> bool {
        let mut nodes = self.status.nodes.iter();
        nodes.any(|node| {
            node.node_id == self.status.answered_by
                && ordinal(&node.name, cluster) == Some(self.door.ordinal)
        })
    }
}

/// What members of one cluster say.
fn members_of(answers: &[Answer], cluster: &str) -> Option<Members> {
    let statuses: Vec<&GetStatusResponse> = answers.iter().map(|answer| &answer.status).collect();
    let best = statuses.iter().max_by_key(|answer| {
        let reached = answer.nodes.iter().filter(|node| node.reachable).count();
        (answer.revision, reached, answer.settled)
    })?;
    Some(Members {
        unheard: unheard(&statuses, best),
        ..convert(best, cluster)
    })
}

/// A member that does not reach another one which the best answer has as reachable, and that one.
fn unheard(answers: &[&GetStatusResponse], best: &GetStatusResponse) -> Option<(String, String)> {
    let reachable = |answer: &GetStatusResponse, id: u64| {
        let mut nodes = answer.nodes.iter();
        nodes.any(|node| node.node_id == id && node.reachable)
    };
    answers.iter().find_map(|answer| {
        let mut reached = best.nodes.iter().filter(|node| node.reachable);
        let missed = reached.find(|node| !reachable(answer, node.node_id))?;
        let mut nodes = best.nodes.iter();
        let deaf = nodes.find(|node| node.node_id == answer.answered_by)?;
        Some((deaf.name.clone(), missed.name.clone()))
    })
}

/// Asks for a change at the members with these addresses, one after another until one could be asked.
///
/// # Errors
/// If nobody could be asked, or the members refuse.
pub async fn change(
    addresses: &[String],
    change: Change,
    revision: u64,
) -> Result<(), ChangeError> {
    let what = change.what();
    for address in addresses {
        let Some(mut client) = client(address) else {
            continue;
        };
        let expected_revision = Some(revision);
        let answer = tokio::time::timeout(DEADLINE, async {
            match change {
                Change::Drain(node_id) => client
                    .drain_node(DrainNodeRequest {
                        node_id,
                        expected_revision,
                    })
                    .await
                    .map(drop),
                Change::Activate(node_id) => client
                    .activate_node(ActivateNodeRequest {
                        node_id,
                        expected_revision,
                    })
                    .await
                    .map(drop),
                Change::Replace(node_id) => client
                    .replace_node(ReplaceNodeRequest {
                        node_id,
                        expected_revision,
                    })
                    .await
                    .map(drop),
                Change::Remove(node_id) => client
                    .remove_node(RemoveNodeRequest {
                        node_id,
                        expected_revision,
                    })
                    .await
                    .map(drop),
            }
        });
        match answer.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(status)) if status.code() == tonic::Code::Unavailable => {}
            Ok(Err(status)) => {
                return Err(ChangeError::Refused {
                    what,
                    status: Box::new(status),
                });
            }
            Err(_) => {}
        }
    }
    Err(ChangeError::NobodyReached(what))
}

/// Has a member hand all its leads over.
///
/// # Errors
/// If nobody could be asked, the members refuse, or leads stay where they are.
pub async fn transfer_leaders(addresses: &[String], node_id: u64) -> Result<(), ChangeError> {
    let what = "hand leads over";
    for address in addresses {
        let Some(mut client) = client(address) else {
            continue;
        };
        let request = TransferLeadersRequest {
            node_id,
            shard: None,
            to_node_id: None,
        };
        match tokio::time::timeout(TRANSFER_DEADLINE, client.transfer_leaders(request)).await {
            Ok(Ok(answer)) => {
                let kept = answer.into_inner().kept;
                return if kept.is_empty() {
                    Ok(())
                } else {
                    Err(ChangeError::LeadsKept(kept))
                };
            }
            Ok(Err(status)) if status.code() == tonic::Code::Unavailable => {}
            Ok(Err(status)) => {
                return Err(ChangeError::Refused {
                    what,
                    status: Box::new(status),
                });
            }
            Err(_) => {}
        }
    }
    Err(ChangeError::NobodyReached(what))
}

/// A pod's number: what follows the cluster's name and a dash.
#[must_use]
pub fn ordinal(pod: &str, cluster: &str) -> Option<Ordinal> {
    let number = pod.strip_prefix(cluster)?.strip_prefix('-')?;
    let ordinal: Ordinal = number.parse().ok()?;
    (ordinal.to_string() == number).then_some(ordinal)
}

fn convert(answer: &GetStatusResponse, cluster: &str) -> Members {
    let nodes: BTreeMap<u64, Member> = answer
        .nodes
        .iter()
        .map(|node| (node.node_id, member(node, cluster)))
        .collect();
    Members {
        revision: answer.revision,
        nodes,
        shards: answer.shards.iter().map(shard).collect(),
        is_settled: answer.settled,
        obstacles: answer.obstacles.clone(),
        unheard: None,
    }
}

fn member(node: &NodeStatus, cluster: &str) -> Member {
    let lifecycle = match node.lifecycle() {
        NodeLifecycle::Draining => Lifecycle::Draining,
        NodeLifecycle::Lost => Lifecycle::Lost,
        // Nodes of a version before lifecycles have only active ones.
        NodeLifecycle::Active | NodeLifecycle::Unspecified => Lifecycle::Active,
    };
    Member {
        name: node.name.clone(),
        ordinal: ordinal(&node.name, cluster),
        lifecycle,
        is_reachable: node.reachable,
        is_ready: node.ready,
        version: node.version.clone(),
        zone: node.zone.clone(),
        led: node.shards_led,
        held: node.shards_held,
        placed: node.shards_placed,
    }
}

fn shard(shard: &ShardStatus) -> Shard {
    Shard {
        id: shard.shard,
        leader: (shard.leader != 0).then_some(shard.leader),
        replicas: shard
            .replicas
            .iter()
            .map(|replica| Replica {
                node: replica.node_id,
                is_voter: replica.voter,
                lag: replica.lag,
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use lockstep_proto::cluster::v1::{GetStatusResponse, NodeStatus};

    use super::{ordinal, unheard};

    #[test]
    fn who_does_not_reach_whom_is_named() {
        let answer = |answered_by, reached: [bool; 3]| GetStatusResponse {
            answered_by,
            nodes: (0..)
                .zip(reached)
                .map(|(at, reachable)| NodeStatus {
                    node_id: at + 1,
                    name: format!("demo-{at}"),
                    reachable,
                    ..NodeStatus::default()
                })
                .collect(),
            ..GetStatusResponse::default()
        };
        let (one, two) = (answer(1, [true; 3]), answer(2, [true; 3]));
        assert_eq!(unheard(&[&one, &two], &one), None);
        // Whom nobody reaches is away, which is said elsewhere.
        let away = answer(1, [true, true, false]);
        let deaf = answer(2, [true, true, false]);
        assert_eq!(unheard(&[&away, &deaf], &away), None);
        let names = ("demo-1".to_owned(), "demo-2".to_owned());
        assert_eq!(unheard(&[&one, &deaf], &one), Some(names));
    }

    #[test]
    fn only_pods_of_the_cluster_have_a_number() {
        assert_eq!(ordinal("demo-12", "demo"), Some(12));
        for other in [
            "demo", "demo-", "demo-x", "demo-01", "demo-2-0", "other-1", "demo-+1",
        ] {
            assert_eq!(ordinal(other, "demo"), None, "{other}");
        }
    }
}
