//! The other nodes: one HTTP/2 connection to each, shared by all shards and all kinds of message.
//!
//! Invariant: every message names its addressee (cluster, node, shard), so a reused address can
//! never deliver it to a stranger.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use lockstep_model::{ClusterId, NodeId, ShardId};
use lockstep_proto::raft::v1::{self as pb, peer_service_client::PeerServiceClient};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{raft::snapshot_pace::Pace, transport};

pub mod execute;
pub mod heartbeat;
pub mod liveness;

/// Snapshots on their way to a peer at once: of the connection's window, one takes a quarter, so that
/// there is always room for Raft's messages.
const SNAPSHOTS_AT_ONCE: usize = 1;

/// A client of a peer.
pub type PeerClient = PeerServiceClient<Channel>;

/// All peers.
pub struct Peers {
    cluster: ClusterId,
    dial: BTreeMap<String, String>,
    links: Mutex<HashMap<NodeId, Arc<Peer>>>,
    snapshot_pace: Arc<Pace>,
    stop: CancellationToken,
}

/// One peer.
pub struct Peer {
    /// Which.
    pub node: NodeId,
    address: String,
    client: PeerClient,
    /// When it was last heard.
    pub hearing: Arc<liveness::Hearing>,
    /// Heartbeats of all shards, together.
    pub heartbeats: heartbeat::Lane,
    /// Requests for shards that it leads.
    pub execute: execute::Lane,
    /// One for each snapshot that may be sent to it.
    pub snapshot_turns: Semaphore,
    stop: CancellationToken,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Makes a client without a [`Peers`], for the time before there is a cluster.
///
/// # Errors
/// If the address is malformed.
pub fn client(
    address: &str,
    dial: &BTreeMap<String, String>,
) -> Result<PeerClient, transport::DialError> {
    let actual = dial.get(address).map_or(address, String::as_str);
    Ok(PeerServiceClient::new(transport::channel(actual)?)
        .max_decoding_message_size(transport::MAX_PEER_MESSAGE_BYTES)
        .max_encoding_message_size(transport::MAX_PEER_MESSAGE_BYTES))
}

impl Peers {
    /// No links yet; they are made when first used. `dial` maps advertised addresses to those to
    /// be dialled instead; `snapshot_pace` is how fast snapshots go to all of them together.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        dial: BTreeMap<String, String>,
        snapshot_pace: Pace,
        stop: CancellationToken,
    ) -> Self {
        Self {
            cluster,
            dial,
            links: Mutex::new(HashMap::new()),
            snapshot_pace: Arc::new(snapshot_pace),
            stop,
        }
    }

    /// The link to a node at this address; a new one if its address has changed.
    ///
    /// # Errors
    /// If the address is malformed.
    pub fn get(&self, node: NodeId, address: &str) -> Result<Arc<Peer>, transport::DialError> {
        let mut links = self.links.lock();
        if let Some(peer) = links.get(&node)
            && peer.address == address
        {
            return Ok(Arc::clone(peer));
        }
        let client = client(address, &self.dial)?;
        let stop = self.stop.child_token();
        let hearing = Arc::<liveness::Hearing>::default();
        let peer = Arc::new(Peer {
            node,
            address: address.to_owned(),
            heartbeats: heartbeat::Lane::open(client.clone(), Arc::clone(&hearing), stop.clone()),
            hearing,
            execute: execute::Lane::open(
                node,
                addressee(self.cluster, node, ShardId::META),
                client.clone(),
                stop.clone(),
            ),
            client,
            snapshot_turns: Semaphore::new(SNAPSHOTS_AT_ONCE),
            stop,
        });
        links.insert(node, Arc::clone(&peer));
        Ok(peer)
    }

    /// How fast snapshots go to all peers together.
    #[must_use]
    pub fn snapshot_pace(&self) -> Arc<Pace> {
        Arc::clone(&self.snapshot_pace)
    }

    /// The addressee of a message to a shard's replica on a node.
    #[must_use]
    pub fn addressee(&self, node: NodeId, shard: ShardId) -> pb::Addressee {
        addressee(self.cluster, node, shard)
    }
}

impl Peer {
    /// A client on the shared connection.
    #[must_use]
    pub fn client(&self) -> PeerClient {
        self.client.clone()
    }
}

fn addressee(cluster: ClusterId, node: NodeId, shard: ShardId) -> pb::Addressee {
    pb::Addressee {
        cluster_id: Bytes::copy_from_slice(&cluster.0),
        node_id: node.0,
        shard: shard.0,
    }
}
