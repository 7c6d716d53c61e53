//! How a node with an empty directory becomes part of a cluster that exists.
//!
//! Invariant: whoever asks is given one id, however often it asks: the number by which it is known
//! is stored before the first question. A name that another living node goes by is refused.

use lockstep_model::{
    Answer, Command, MetaAnswer, MetaCommand, MetaReply, NodeId, Reply, ShardId,
    meta::{ClusterView, NodeRecord},
};
use lockstep_proto::raft::v1 as pb;
use tokio::time::timeout;
use tonic::Status;

use super::{ANSWER, FormationError, Lobby};
use crate::{
    api::error::Fault,
    identity::{Founding, Identity},
    peer::PeerClient,
    router::{Router, unexpected},
};

/// Under which key the number is kept among the storage's own records.
const NONCE: &str = "join-nonce";

impl Lobby {
    /// Asks a member for an id. None if it gave none; then the next one is asked, or the same again.
    pub(super) async fn ask_to_join(
        &self,
        address: &str,
        client: &PeerClient,
    ) -> Result<Option<Identity>, FormationError> {
        let request = pb::JoinRequest {
            nonce: self.nonce().await?,
            name: self.config.name.clone(),
            client_address: self.config.client_advertise.clone(),
            peer_address: self.config.peer_advertise.clone(),
            zone: self.config.zone.clone(),
            version: crate::VERSION.to_owned(),
        };
        // Longer than the member looks for the meta shard's leader.
        let patience = ANSWER * 10;
        let given = match timeout(patience, client.clone().join(request)).await {
            Ok(Ok(given)) => given.into_inner(),
            Ok(Err(status)) => {
                self.wait_for(0, format!("{address} to let it join: {}", status.message()));
                return Ok(None);
            }
            Err(_) => return Ok(None),
        };
        let Ok(Answer::Meta(MetaAnswer::Cluster(Some(plan)))) = Answer::decode(&given.tables)
        else {
            self.wait_for(0, format!("{address} to send tables that it can read"));
            return Ok(None);
        };
        let identity = Identity {
            cluster: plan.cluster,
            node: NodeId(given.node_id),
            state: Founding::Active,
            plan,
        };
        identity.save(&self.storage).await?;
        self.identity.send_replace(Some(identity.clone()));
        tracing::info!(node = %identity.node, cluster = %identity.cluster, "joined");
        Ok(Some(identity))
    }

    /// The next question is a new node's.
    pub(super) async fn forget_nonce(&self) -> Result<(), FormationError> {
        Ok(self.storage.put_meta(NONCE, &[]).await?)
    }

    async fn nonce(&self) -> Result<u64, FormationError> {
        let stored = self.storage.get_meta(NONCE)?;
        if let Some(stored) = stored.and_then(|bytes| bytes.as_slice().try_into().ok()) {
            return Ok(u64::from_be_bytes(stored));
        }
        let nonce = rand::random();
        self.storage
            .put_meta(NONCE, &u64::to_be_bytes(nonce))
            .await?;
        Ok(nonce)
    }
}

/// Answers a node that asks to join.
///
/// # Errors
/// If another living node goes by its name, the meta shard refuses, or has no leader.
pub async fn admit(router: &Router, request: pb::JoinRequest) -> Result<pb::JoinResponse, Status> {
    let view = tables(router).await?;
    let namesakes = view.nodes.iter().filter(|old| old.name == request.name);
    for old in namesakes {
        if lives(router, old).await {
            return Err(Status::already_exists(format!(
                "node {} at {} is alive and is called {:?}: give each node its own name",
                old.node, old.peer_address, old.name
            )));
        }
    }
    let node = NodeRecord {
        node: NodeId(0),
        name: request.name,
        client_address: request.client_address,
        peer_address: request.peer_address,
        zone: request.zone,
        version: request.version,
    };
    node.check_description()
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let join = Command::Meta(MetaCommand::JoinNode {
        node,
        nonce: request.nonce,
    });
    let reply = router.command(ShardId::META, join).await;
    let node = match reply.map_err(Fault::from)? {
        Reply::Meta(MetaReply::Joined { node }) => node,
        Reply::Refused(refusal) => return Err(Fault::from(refusal).into()),
        other => return Err(Fault::from(unexpected(&other)).into()),
    };
    let view = tables(router).await?;
    router.directory().update(view.clone());
    Ok(pb::JoinResponse {
        node_id: node.0,
        tables: Answer::Meta(MetaAnswer::Cluster(Some(view)))
            .encode()
            .into(),
    })
}

/// The meta shard's present tables.
///
/// # Errors
/// If it has no leader, or no cluster was founded.
pub async fn tables(router: &Router) -> Result<ClusterView, Fault> {
    match router
        .query(
            ShardId::META,
            lockstep_model::Query::Meta(lockstep_model::MetaQuery::Cluster),
        )
        .await?
    {
        Answer::Meta(MetaAnswer::Cluster(Some(view))) => Ok(view),
        _ => Err(Fault::unavailable(
            "NOT_IN_CLUSTER",
            "the cluster's tables are being written",
        )),
    }
}

/// True if the node itself, not another at its old address, answers.
async fn lives(router: &Router, node: &NodeRecord) -> bool {
    let Ok(peer) = router.peers().get(node.node, &node.peer_address) else {
        return false;
    };
    let asked = timeout(ANSWER, peer.client().probe(pb::ProbeRequest::default())).await;
    asked.is_ok_and(|answer| {
        answer.is_ok_and(|answer| {
            let answer = answer.into_inner();
            answer.node_id == node.node.0
                && answer.cluster_id.as_ref() == router.directory().cluster.0
        })
    })
}
