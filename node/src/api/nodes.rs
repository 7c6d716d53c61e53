//! The calls that change who is in the cluster and who leads.
//!
//! Invariant: what a call decides is decided by the meta shard, against the revision that the caller
//! names; this node only carries it there.

use lockstep_model::{
    Command, MetaCommand, MetaRefusal, MetaReply, NodeId, Refusal, Reply, ShardId, meta::Lifecycle,
};
use lockstep_proto::{cluster::v1 as pb, raft::v1 as raft_pb};
use tonic::Status;

use super::error::Fault;
use crate::{
    node::handover::{HandedOver, hand_over},
    router::{Router, unexpected},
};

/// Says what is to become of a node. The tables' revision afterwards.
///
/// # Errors
/// If the meta shard refuses, or has no leader.
pub async fn set_lifecycle(
    router: &Router,
    node: u64,
    lifecycle: Lifecycle,
    expected: Option<u64>,
) -> Result<u64, Fault> {
    let command = MetaCommand::SetLifecycle {
        node: node_id(node)?,
        lifecycle,
        expected,
    };
    change(router, command).await
}

/// Takes a node out of the registry. The tables' revision afterwards.
///
/// # Errors
/// If the meta shard refuses, or has no leader.
pub async fn remove(router: &Router, node: u64, expected: Option<u64>) -> Result<u64, Fault> {
    let command = MetaCommand::RemoveNode {
        node: node_id(node)?,
        expected,
    };
    change(router, command).await
}

async fn change(router: &Router, command: MetaCommand) -> Result<u64, Fault> {
    let command = Command::Meta(command);
    match router.command(ShardId::META, command).await? {
        Reply::Meta(MetaReply::Changed { revision }) => Ok(revision),
        Reply::Refused(refusal) => Err(refusal.into()),
        other => Err(unexpected(&other).into()),
    }
}

fn node_id(node: u64) -> Result<NodeId, Fault> {
    match node {
        0 => Err(Fault::invalid(
            "node_id",
            "must be the id of a node, as GetStatus lists them",
        )),
        node => Ok(NodeId(node)),
    }
}

/// Has a node hand its leads over.
///
/// # Errors
/// If the node is not known or does not answer.
pub async fn transfer(
    router: &Router,
    request: pb::TransferLeadersRequest,
) -> Result<pb::TransferLeadersResponse, Status> {
    let node = node_id(request.node_id)?;
    let unknown = |node: NodeId| Fault::from(Refusal::Meta(MetaRefusal::NoSuchNode { node }));
    if let Some(to) = request.to_node_id {
        let to = node_id(to)?;
        router.directory().node(to).ok_or_else(|| unknown(to))?;
    }
    if node == router.directory().me {
        let done = here(router, request.shard, request.to_node_id).await;
        return Ok(pb::TransferLeadersResponse {
            transferred: numbers(&done.transferred),
            kept: numbers(&done.kept),
        });
    }
    let record = router.directory().node(node).ok_or_else(|| unknown(node))?;
    let silent = |words: String| {
        Fault::unavailable(
            "NODE_UNREACHABLE",
            format!(
                "node {node} at {} does not answer: {words}",
                record.peer_address
            ),
        )
    };
    let peer = router
        .peers()
        .get(node, &record.peer_address)
        .map_err(|error| silent(error.to_string()))?;
    let asked = raft_pb::HandOverRequest {
        shard: request.shard,
        to_node_id: request.to_node_id,
    };
    let done = peer.client().hand_over(asked).await;
    let done = done
        .map_err(|status| silent(status.message().to_owned()))?
        .into_inner();
    Ok(pb::TransferLeadersResponse {
        transferred: done.transferred,
        kept: done.kept,
    })
}

/// Hands over what this node leads: of one shard, or of all.
pub async fn here(router: &Router, shard: Option<u32>, to: Option<u64>) -> HandedOver {
    let replicas = match shard {
        Some(shard) => router.replica(ShardId(shard)).into_iter().collect(),
        None => router.replicas(),
    };
    hand_over(&replicas, to.map(NodeId)).await
}

/// Shards as the wire has them.
#[must_use]
pub fn numbers(shards: &[ShardId]) -> Vec<u32> {
    shards.iter().map(|shard| shard.0).collect()
}
