//! How a cluster is founded: once, by all the named initial nodes together.
//!
//! Two phases, as in two-phase commit. The founder (the first of the sorted list) waits until every
//! initial node is reachable, empty, and has been given the same list; it makes a plan, stores it,
//! and has every other node store it. Only when all have, it declares the founding over, and the
//! others learn that by asking. Invariant: a node takes part in Raft only after all founders have
//! stored the plan, and after that the plan is never handed out again. So a founder that loses its
//! disk cannot come back under its old id, and an empty node can never found a second cluster
//! beside one that any reachable initial node belongs to.

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a command has its kinds of reply; every other one is a peer's mistake"
)]
pub mod joining;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use lockstep_model::{
    ClusterId, NodeId, ShardId,
    meta::{ClusterView, NodeRecord, Settings},
    placement,
    ring::RING_VERSION,
};
use lockstep_proto::raft::v1 as pb;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tonic::{Code, Status};

use crate::{
    config::Config,
    identity::{Founding, Identity, IdentityError, parse_plan, plan_bytes},
    peer,
    status::NotReady,
    storage::Storage,
};

/// Pause between two rounds of questions.
const ROUND: Duration = Duration::from_millis(300);
/// How long one question may take.
const ANSWER: Duration = Duration::from_millis(1_000);
/// Rounds between two lines in the log about what is still missing.
const ROUNDS_PER_LINE: u32 = 10;

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum FormationError {
    /// The identity could not be read or written.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The number by which a node joins could not be read.
    #[error("the data directory cannot be read: {0}")]
    Read(#[from] crate::storage::ReadError),
    /// The number by which a node joins could not be written.
    #[error("the data directory cannot be written: {0}")]
    Write(#[from] crate::storage::PutMetaError),
    /// What the node held before it was removed could not be deleted.
    #[error("the data directory cannot be emptied: {0}")]
    Drop(#[from] crate::storage::DropShardError),
    /// An address is malformed.
    #[error(transparent)]
    Dial(#[from] crate::transport::DialError),
    /// The settings do not allow a placement.
    #[error("the cluster cannot be founded: {0}")]
    Placement(String),
    /// The data directory is another cluster's.
    #[error(
        "the data directory belongs to cluster {own}, but {peer} is in cluster {other}: give this node its own directory, or correct initial_nodes"
    )]
    OtherCluster {
        /// By the data directory.
        own: ClusterId,
        /// By the peer.
        other: String,
        /// Which peer.
        peer: String,
    },
}

/// What a node shows before there is a cluster, and what it is told.
pub struct Lobby {
    config: Config,
    storage: Arc<Storage>,
    identity: watch::Sender<Option<Identity>>,
    /// What was left of which cluster this one was made of, if it was.
    recovered_from: Option<ClusterId>,
    storing: tokio::sync::Mutex<()>,
    waiting_for: Mutex<String>,
}

impl Lobby {
    /// What this node keeps on disk.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Starts from what the data directory says.
    ///
    /// # Errors
    /// If that cannot be read.
    pub fn open(config: Config, storage: Arc<Storage>) -> Result<Self, IdentityError> {
        let identity = Identity::load(&storage)?;
        Ok(Self {
            config,
            storage,
            identity: watch::Sender::new(identity),
            recovered_from: None,
            storing: tokio::sync::Mutex::new(()),
            waiting_for: Mutex::new("the other initial nodes".to_owned()),
        })
    }

    /// The same in a directory that was recovered: peers that still are of the cluster that it was
    /// recovered from are strangers, but no mistake.
    #[must_use]
    pub fn recovered_from(self, cluster: Option<ClusterId>) -> Self {
        Self {
            recovered_from: cluster,
            ..self
        }
    }

    /// Says in words what the node waits for.
    pub fn holds_back(&self, what: String) {
        *self.waiting_for.lock() = what;
    }

    /// What the founding waits for, in words.
    #[must_use]
    pub fn waiting_for(&self) -> String {
        self.waiting_for.lock().clone()
    }

    fn wait_for(&self, round: u32, what: String) {
        if round.is_multiple_of(ROUNDS_PER_LINE) {
            tracing::info!("not part of a cluster yet: waiting for {what}");
        }
        *self.waiting_for.lock() = what;
    }

    /// Answers a peer's question.
    #[must_use]
    pub fn probe(&self, not_ready: NotReady) -> pb::ProbeResponse {
        let identity = self.identity.borrow();
        pb::ProbeResponse {
            name: self.config.name.clone(),
            version: crate::VERSION.to_owned(),
            cluster_id: identity.as_ref().map_or_else(Bytes::new, |identity| {
                Bytes::copy_from_slice(&identity.cluster.0)
            }),
            node_id: identity.as_ref().map_or(0, |identity| identity.node.0),
            client_address: self.config.client_advertise.clone(),
            peer_address: self.config.peer_advertise.clone(),
            zone: self.config.zone.clone(),
            initial_nodes: self.config.initial_nodes.clone(),
            not_ready,
            active: identity
                .as_ref()
                .is_some_and(|identity| identity.state == Founding::Active),
            removed: false,
            disk_low: self.storage.space().problem().unwrap_or_default(),
        }
    }

    /// Stores the founder's plan.
    ///
    /// # Errors
    /// If this node belongs to another cluster, is active already under another id, or cannot store.
    pub async fn found(&self, request: pb::FoundRequest) -> Result<(), Status> {
        let plan = parse_plan(&request.plan)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let node = NodeId(request.node_id);
        let known = plan
            .nodes
            .iter()
            .any(|record| record.node == node && record.peer_address == self.config.peer_advertise);
        if !known {
            return Err(Status::invalid_argument(format!(
                "the plan has no node {node} at {}",
                self.config.peer_advertise
            )));
        }
        let identity = Identity {
            cluster: plan.cluster,
            node,
            state: Founding::Prepared,
            plan,
        };
        let _one_at_a_time = self.storing.lock().await;
        if let Some(known) = &*self.identity.borrow() {
            return if known.cluster == identity.cluster && known.node == identity.node {
                Ok(())
            } else {
                Err(Status::failed_precondition(format!(
                    "this node is node {} of cluster {} already",
                    known.node, known.cluster
                )))
            };
        }
        identity
            .save(&self.storage)
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        self.identity.send_replace(Some(identity));
        Ok(())
    }

    /// Returns the identity once it is active.
    ///
    /// # Errors
    /// If the storage fails, or the configuration contradicts the data.
    pub async fn join(&self) -> Result<Identity, FormationError> {
        let peers = self.peers()?;
        let known = self.identity.borrow().clone();
        if let Some(identity) = known.filter(|identity| identity.state == Founding::Active) {
            if self.check_same_cluster(&identity, &peers).await? {
                return Ok(identity);
            }
            self.forget(&identity).await?;
        }
        let founder = self.config.initial_nodes.first() == Some(&self.config.peer_advertise);
        if founder {
            self.lead_founding(&peers).await
        } else {
            self.follow_founding(&peers).await
        }
    }

    /// Clients of the other initial nodes.
    fn peers(&self) -> Result<BTreeMap<String, peer::PeerClient>, FormationError> {
        let others = self.config.initial_nodes.iter();
        others
            .filter(|address| **address != self.config.peer_advertise)
            .map(|address| Ok((address.clone(), peer::client(address, &self.config.dial)?)))
            .collect()
    }

    async fn ask(&self, client: &peer::PeerClient) -> Option<pb::ProbeResponse> {
        let node_id = self.identity.borrow().as_ref().map_or(0, |own| own.node.0);
        let question = pb::ProbeRequest { node_id };
        let answer = timeout(ANSWER, client.clone().probe(question)).await.ok()?;
        answer.ok().map(tonic::Response::into_inner)
    }

    /// False if this node was taken out of its cluster.
    async fn check_same_cluster(
        &self,
        identity: &Identity,
        peers: &BTreeMap<String, peer::PeerClient>,
    ) -> Result<bool, FormationError> {
        let answers = peers
            .iter()
            .map(|(address, client)| async move { (address, self.ask(client).await) });
        for (address, answer) in futures::future::join_all(answers).await {
            let Some(answer) = answer else { continue };
            if self
                .recovered_from
                .is_some_and(|old| answer.cluster_id.as_ref() == old.0)
            {
                tracing::warn!(
                    peer = address,
                    "it is of the cluster that this one was recovered from: empty its directory, and it joins"
                );
                continue;
            }
            if !answer.cluster_id.is_empty() && answer.cluster_id.as_ref() != identity.cluster.0 {
                return Err(FormationError::OtherCluster {
                    own: identity.cluster,
                    other: hex(&answer.cluster_id),
                    peer: address.clone(),
                });
            }
            if answer.removed {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Empties the directory of a node that was taken out of its cluster, which it left empty of all
    /// that counts: from now on it is a new node.
    async fn forget(&self, identity: &Identity) -> Result<(), FormationError> {
        tracing::warn!(
            node = %identity.node,
            "this node was removed from the cluster: its directory is emptied, and it joins as a new one"
        );
        for shard in 0..=identity.plan.settings.shards {
            self.storage.forget_shard(ShardId(shard)).await?;
        }
        self.forget_nonce().await?;
        Identity::forget(&self.storage).await?;
        self.identity.send_replace(None);
        Ok(())
    }

    async fn follow_founding(
        &self,
        peers: &BTreeMap<String, peer::PeerClient>,
    ) -> Result<Identity, FormationError> {
        let mut round = 0;
        loop {
            let known = self.identity.borrow().clone();
            for (address, client) in peers {
                let Some(answer) = self.ask(client).await else {
                    continue;
                };
                match &known {
                    Some(identity)
                        if answer.active && answer.cluster_id.as_ref() == identity.cluster.0 =>
                    {
                        return self.activate(identity.clone()).await;
                    }
                    None if answer.active => {
                        if let Some(identity) = self.ask_to_join(address, client).await? {
                            return Ok(identity);
                        }
                    }
                    None | Some(_) => self.wait_for(round, "the founding node".to_owned()),
                }
            }
            round += 1;
            sleep(ROUND).await;
        }
    }

    async fn activate(&self, identity: Identity) -> Result<Identity, FormationError> {
        let identity = Identity {
            state: Founding::Active,
            ..identity
        };
        identity.save(&self.storage).await?;
        self.identity.send_replace(Some(identity.clone()));
        Ok(identity)
    }

    async fn lead_founding(
        &self,
        peers: &BTreeMap<String, peer::PeerClient>,
    ) -> Result<Identity, FormationError> {
        let prepared = self.identity.borrow().clone();
        let identity = match prepared {
            // Died before all had stored the plan: nobody is active, so it may be handed out again.
            Some(identity) => identity,
            None => {
                let nodes = match self.gather(peers).await? {
                    Gathered::Empty(nodes) => nodes,
                    Gathered::Joined(identity) => return Ok(identity),
                };
                let identity = self.plan(nodes)?;
                identity.save(&self.storage).await?;
                self.identity.send_replace(Some(identity.clone()));
                identity
            }
        };
        tracing::info!(cluster = %identity.cluster, "founding a cluster");
        self.hand_out(&identity, peers).await;
        self.activate(identity).await
    }

    /// Waits until every initial node is reachable, empty, and was given the same list; or until one
    /// that belongs to a cluster lets this one join it.
    async fn gather(
        &self,
        peers: &BTreeMap<String, peer::PeerClient>,
    ) -> Result<Gathered, FormationError> {
        let mut round = 0;
        loop {
            let answers = peers
                .iter()
                .map(|(address, client)| async move { (address, client, self.ask(client).await) });
            let answers = futures::future::join_all(answers).await;
            for (address, client, answer) in &answers {
                if answer.as_ref().is_some_and(|answer| answer.active)
                    && let Some(identity) = self.ask_to_join(address, client).await?
                {
                    return Ok(Gathered::Joined(identity));
                }
            }
            let answers = answers
                .into_iter()
                .map(|(address, _, answer)| self.judge(address, answer));
            match answers.collect::<Result<Vec<_>, _>>() {
                Ok(mut nodes) => {
                    nodes.push(self.probe("the cluster is being founded".to_owned()));
                    nodes.sort_by(|a, b| a.peer_address.cmp(&b.peer_address));
                    return Ok(Gathered::Empty(nodes));
                }
                Err(missing) => self.wait_for(round, missing),
            }
            round += 1;
            sleep(ROUND).await;
        }
    }

    /// An initial node's answer, or what is wrong with it.
    fn judge(
        &self,
        address: &str,
        answer: Option<pb::ProbeResponse>,
    ) -> Result<pb::ProbeResponse, String> {
        let Some(answer) = answer else {
            return Err(format!("{address} to be reachable"));
        };
        if !answer.cluster_id.is_empty() {
            return Err(format!(
                "a place in cluster {}: {address} belongs to it, so no other can be founded",
                hex(&answer.cluster_id)
            ));
        }
        if answer.initial_nodes != self.config.initial_nodes {
            return Err(format!(
                "{address} to be given the same initial_nodes: it has {:?}, this node {:?}",
                answer.initial_nodes, self.config.initial_nodes
            ));
        }
        Ok(answer)
    }

    fn plan(&self, nodes: Vec<pb::ProbeResponse>) -> Result<Identity, FormationError> {
        let settings = Settings {
            shards: self.config.shards,
            replication_factor: self.config.replication_factor,
            ring_version: RING_VERSION,
        };
        let nodes: Vec<_> = (1..)
            .zip(nodes)
            .map(|(id, node)| NodeRecord {
                node: NodeId(id),
                name: node.name,
                client_address: node.client_address,
                peer_address: node.peer_address,
                zone: node.zone,
                version: node.version,
            })
            .collect();
        let own = nodes
            .iter()
            .find(|node| node.peer_address == self.config.peer_advertise);
        let node = own.map(|node| node.node).ok_or_else(|| {
            FormationError::Placement("the plan does not contain this node".to_owned())
        })?;
        let placement = placement::place(&settings, &nodes)
            .map_err(|error| FormationError::Placement(error.to_string()))?;
        let cluster = ClusterId(rand::random());
        let last_node = nodes.last().map(|node| node.node).unwrap_or_default();
        let plan = ClusterView {
            cluster,
            settings,
            nodes,
            placement,
            last_node,
            revision: 1,
            lifecycles: BTreeMap::new(),
        };
        Ok(Identity {
            cluster,
            node,
            state: Founding::Prepared,
            plan,
        })
    }

    /// Has every other node store the plan.
    async fn hand_out(&self, identity: &Identity, peers: &BTreeMap<String, peer::PeerClient>) {
        let plan = Bytes::from(plan_bytes(&identity.plan));
        let mut left: Vec<_> = identity
            .plan
            .nodes
            .iter()
            .filter(|node| node.node != identity.node)
            .collect();
        let mut round = 0;
        while !left.is_empty() {
            let mut missing = Vec::new();
            for node in left {
                let request = pb::FoundRequest {
                    node_id: node.node.0,
                    plan: plan.clone(),
                };
                let stored = match peers.get(&node.peer_address) {
                    Some(client) => timeout(ANSWER, client.clone().found(request)).await,
                    None => continue,
                };
                match stored {
                    Ok(Ok(_)) => continue,
                    Ok(Err(status)) if status.code() == Code::FailedPrecondition => {
                        tracing::error!(node = %node.peer_address, "{}", status.message());
                    }
                    Ok(Err(_)) | Err(_) => {}
                }
                missing.push(node);
            }
            left = missing;
            if let Some(node) = left.first() {
                self.wait_for(
                    round,
                    format!("{} to store the founding plan", node.peer_address),
                );
                round += 1;
                sleep(ROUND).await;
            }
        }
    }
}

/// What the founder found.
enum Gathered {
    /// All initial nodes, empty.
    Empty(Vec<pb::ProbeResponse>),
    /// A cluster, and a place in it.
    Joined(Identity),
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
