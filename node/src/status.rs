//! What this node knows about its own health and, with its peers' help, about the cluster.
//!
//! Invariant: nothing here waits for a quorum; peers that do not answer in time are reported as
//! not reachable.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use lockstep_model::{
    NodeId,
    meta::{Lifecycle, NodeRecord},
};
use lockstep_proto::{cluster::v1 as pb, raft::v1 as raft_pb};
use openraft::async_runtime::WatchReceiver as _;
use tokio::time::timeout;

use crate::{
    replica::{Replica, members::newest_voters},
    router::Router,
};

/// How long a peer may take to describe its replicas.
const ANSWER: Duration = Duration::from_millis(700);

/// Why a node is not ready, in words.
pub type NotReady = String;

/// Ready: part of a cluster, and every local replica has caught up with what it knows to be
/// committed. A shard that has lost its quorum does not make the node unready once it was caught up.
///
/// # Errors
/// With what is missing.
pub fn ready(router: &Router) -> Result<(), NotReady> {
    if let Some(why) = router.storage.not_writing() {
        return Err(why);
    }
    if !router.is_opened() {
        return Err("this node's replicas are being opened".to_owned());
    }
    let replicas = router.replicas();
    if router.directory().node(router.directory().me).is_none() {
        return Err(
            "this node was removed from the cluster: stop it, or give it an empty directory"
                .to_owned(),
        );
    }
    if let Some(closed) = router.closed.first() {
        return Err(closed);
    }
    let mut stopped = replicas.iter().filter_map(|replica| {
        let why = replica.stopped()?;
        Some(format!(
            "the replica of shard {} has stopped and is about to be opened anew: {why}",
            replica.shard
        ))
    });
    if let Some(stopped) = stopped.next() {
        return Err(stopped);
    }
    match replicas.iter().find(|replica| !replica.caught_up()) {
        Some(replica) => Err(format!("shard {} is catching up", replica.shard)),
        None => Ok(()),
    }
}

/// Describes the local replicas.
#[must_use]
pub fn local(router: &Router) -> Vec<raft_pb::Replica> {
    router.replicas().iter().map(describe).collect()
}

fn describe(replica: &Arc<Replica>) -> raft_pb::Replica {
    let leads = replica.leads();
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    let index = |id: &Option<crate::raft::types::LogId>| id.as_ref().map_or(0, |id| id.index);
    let progress = metrics
        .replication
        .iter()
        .flatten()
        .map(|(node, matched)| raft_pb::Progress {
            node_id: *node,
            matched_index: index(matched),
        })
        .collect();
    let members = metrics.membership_config.membership();
    let members_index = index(metrics.membership_config.log_id());
    let committed_index = index(&metrics.cluster_committed);
    raft_pb::Replica {
        shard: replica.shard.0,
        term: metrics.current_term,
        leader: metrics.current_leader.unwrap_or(0),
        last_index: metrics.last_log_index.unwrap_or(0),
        committed_index,
        applied_index: index(&metrics.last_applied),
        voters: newest_voters(members).into_iter().collect(),
        learners: members.learner_ids().collect(),
        progress,
        joint: members.get_joint_config().len() > 1,
        members_index,
        authoritative: leads && members_index <= committed_index,
    }
}

fn lifecycle(lifecycle: Lifecycle) -> pb::NodeLifecycle {
    match lifecycle {
        Lifecycle::Active => pb::NodeLifecycle::Active,
        Lifecycle::Draining => pb::NodeLifecycle::Draining,
        Lifecycle::Lost => pb::NodeLifecycle::Lost,
    }
}

/// One node's answer.
struct NodeAnswer {
    record: NodeRecord,
    ready: Result<(), NotReady>,
    /// That its disk is nearly full, in words; else empty.
    disk_low: String,
    /// None if it did not answer.
    replicas: Option<Vec<raft_pb::Replica>>,
    /// From the meta shard's leader.
    placement: Option<raft_pb::PlacementProgress>,
}

/// Describes the cluster, with what the peers say.
/// `own` is whether this node is ready, which the router alone does not know.
pub async fn cluster(router: &Router, own: Result<(), NotReady>) -> pb::GetStatusResponse {
    let directory = router.directory();
    let nodes = join_all(
        directory
            .nodes()
            .into_iter()
            .map(|record| ask(router, record, &own)),
    )
    .await;
    let mut led: BTreeMap<u64, u32> = BTreeMap::new();
    let shards: Vec<_> = directory
        .shards()
        .map(|shard| shard_status(shard.0, &nodes))
        .collect();
    for shard in &shards {
        *led.entry(shard.leader).or_default() += 1;
    }
    let view = directory.view();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let progress = nodes.iter().find_map(|node| node.placement.clone());
    let nodes = nodes
        .into_iter()
        .map(|node| pb::NodeStatus {
            node_id: node.record.node.0,
            name: node.record.name,
            client_address: node.record.client_address,
            peer_address: node.record.peer_address,
            version: node.record.version,
            reachable: node.replicas.is_some(),
            ready: node.ready.is_ok(),
            not_ready: node.ready.err().unwrap_or_default(),
            disk_low: node.disk_low,
            shards_led: led.get(&node.record.node.0).copied().unwrap_or(0),
            shards_held: node.replicas.map_or(0, |replicas| count(replicas.len())),
            zone: node.record.zone,
            lifecycle: lifecycle(view.lifecycle(node.record.node)).into(),
            shards_placed: count(view.placement.replicas_on(node.record.node)),
        })
        .collect();
    pb::GetStatusResponse {
        cluster_id: directory.cluster.to_string(),
        nodes,
        shards,
        answered_by: directory.me.0,
        revision: view.revision,
        settled: progress.as_ref().is_some_and(|progress| progress.settled),
        obstacles: progress.unwrap_or_default().obstacles,
        replication_factor: directory.settings.replication_factor,
    }
}

async fn ask(router: &Router, record: NodeRecord, own: &Result<(), NotReady>) -> NodeAnswer {
    if record.node == router.directory().me {
        return NodeAnswer {
            record,
            ready: own.clone(),
            disk_low: router.storage.space().problem().unwrap_or_default(),
            replicas: Some(local(router)),
            placement: router.placement.present(),
        };
    }
    let Ok(peer) = router.peers().get(record.node, &record.peer_address) else {
        return NodeAnswer {
            record,
            ready: Err(NotReady::new()),
            disk_low: String::new(),
            replicas: None,
            placement: None,
        };
    };
    let (mut for_replicas, mut for_probe) = (peer.client(), peer.client());
    let asked = async {
        tokio::try_join!(
            for_replicas.replica_status(raft_pb::ReplicaStatusRequest {}),
            for_probe.probe(raft_pb::ProbeRequest::default()),
        )
    };
    match timeout(ANSWER, asked).await {
        Ok(Ok((replicas, probe))) if replicas.get_ref().node_id == record.node.0 => {
            let (answer, probe) = (replicas.into_inner(), probe.into_inner());
            NodeAnswer {
                record,
                disk_low: probe.disk_low,
                ready: match probe.not_ready {
                    why if why.is_empty() => Ok(()),
                    why => Err(why),
                },
                replicas: Some(answer.replicas),
                placement: answer.placement,
            }
        }
        Ok(Ok(_) | Err(_)) | Err(_) => NodeAnswer {
            record,
            ready: Err(NotReady::new()),
            disk_low: String::new(),
            replicas: None,
            placement: None,
        },
    }
}

/// Puts together what the nodes say about one shard. The leader of the highest term is believed.
fn shard_status(shard: u32, nodes: &[NodeAnswer]) -> pb::ShardStatus {
    let views: Vec<(NodeId, &raft_pb::Replica)> = nodes
        .iter()
        .flat_map(|node| {
            let replicas = node.replicas.iter().flatten();
            replicas.map(move |replica| (node.record.node, replica))
        })
        .filter(|(_, replica)| replica.shard == shard)
        .collect();
    let leading = views
        .iter()
        .filter(|(node, replica)| replica.leader == node.0)
        .max_by_key(|(_, replica)| replica.term);
    let newest = leading.or_else(|| views.iter().max_by_key(|(_, replica)| replica.term));
    let Some((_, newest)) = newest else {
        return pb::ShardStatus {
            shard,
            ..pb::ShardStatus::default()
        };
    };
    let member = |node: u64, voter: bool| {
        let by_leader = newest
            .progress
            .iter()
            .find(|progress| progress.node_id == node);
        let by_itself = views
            .iter()
            .find(|(id, _)| id.0 == node)
            .map(|(_, own)| own.last_index);
        let matched = by_leader
            .map(|progress| progress.matched_index)
            .or(by_itself)
            .unwrap_or(0);
        pb::ReplicaStatus {
            node_id: node,
            voter,
            matched_index: matched,
            lag: newest.last_index.saturating_sub(matched),
        }
    };
    let voters = newest.voters.iter().map(|node| member(*node, true));
    let learners = newest.learners.iter().map(|node| member(*node, false));
    pb::ShardStatus {
        shard,
        leader: leading.map_or(0, |(node, _)| node.0),
        term: newest.term,
        replicas: voters.chain(learners).collect(),
        last_index: newest.last_index,
        committed_index: newest.committed_index,
    }
}
