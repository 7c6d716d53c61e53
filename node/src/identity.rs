//! Who this node is: its id, its cluster, and the cluster's tables as it knew them last. Kept in the
//! data directory.
//!
//! Invariant: once active, id and cluster never change; a directory without one belongs to nobody. A
//! node takes part in Raft only under an active identity, because until then its id may be given
//! again to a node that has lost its disk.

use std::collections::BTreeMap;

use lockstep_model::{
    Answer, ClusterId, Command, MetaAnswer, MetaCommand, NodeId, ShardId, meta::ClusterView,
};

use crate::storage::{PutMetaError, ReadError, Storage};

/// Where it is kept among the storage's own records.
const KEY: &str = "identity";
/// Version of the encoding below.
const VERSION: u8 = 1;
/// Bytes before the plan: version, state, cluster, node.
const HEAD_BYTES: usize = 1 + 1 + 16 + 8;

/// A node's identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Whether the founding is over.
    pub state: Founding,
    /// What the founders agreed on, and later the newest tables that were acted by.
    pub plan: ClusterView,
}

/// How far the founding has come, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Founding {
    /// The plan is stored here; perhaps not everywhere yet.
    Prepared,
    /// Every founder has stored the plan.
    Active,
}

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// It cannot be read.
    #[error("the node's identity cannot be read: {0}")]
    Read(#[from] ReadError),
    /// It cannot be written.
    #[error("the node's identity cannot be written: {0}")]
    Write(#[from] PutMetaError),
    /// The bytes are no identity of this version.
    #[error(
        "the node's identity in the data directory is not readable ({0}): restore the directory, or wipe it to start as a new node"
    )]
    Malformed(String),
}

impl Identity {
    /// Reads it; none in an empty directory.
    ///
    /// # Errors
    /// If it cannot be read or understood.
    pub fn load(storage: &Storage) -> Result<Option<Self>, IdentityError> {
        let stored = storage.get_meta(KEY)?.filter(|bytes| !bytes.is_empty());
        stored.map(|bytes| Self::decode(&bytes)).transpose()
    }

    /// Leaves the directory without one, durably.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn forget(storage: &Storage) -> Result<(), IdentityError> {
        Ok(storage.put_meta(KEY, &[]).await?)
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// If it cannot be written.
    pub async fn save(&self, storage: &Storage) -> Result<(), IdentityError> {
        Ok(storage.put_meta(KEY, &self.encode()).await?)
    }

    /// True if, by the tables that are acted by, this node has, or is to have, a replica of a shard.
    #[must_use]
    pub fn holds(&self, shard: ShardId) -> bool {
        let mut holders = self.plan.placement.holders(shard);
        holders.any(|node| node == self.node)
    }

    /// The record that [`Self::save`] writes.
    #[must_use]
    pub fn record(&self) -> (&'static str, Vec<u8>) {
        (KEY, self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.state == Founding::Active)];
        bytes.extend_from_slice(&self.cluster.0);
        bytes.extend_from_slice(&self.node.0.to_be_bytes());
        bytes.extend(Answer::Meta(MetaAnswer::Cluster(Some(self.plan.clone()))).encode());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, IdentityError> {
        let malformed = |what: &str| IdentityError::Malformed(what.to_owned());
        let (head, plan) = bytes
            .split_at_checked(HEAD_BYTES)
            .ok_or_else(|| malformed("too short"))?;
        let (flags, rest) = head.split_at(2);
        let (cluster, node) = rest.split_at(16);
        let state = match flags {
            [VERSION, 0] => Founding::Prepared,
            [VERSION, 1] => Founding::Active,
            _ => return Err(malformed("unknown version or state")),
        };
        Ok(Self {
            cluster: ClusterId(cluster.try_into().map_err(|_| malformed("cluster"))?),
            node: NodeId(u64::from_be_bytes(
                node.try_into().map_err(|_| malformed("node"))?,
            )),
            state,
            plan: match Answer::decode(plan) {
                Ok(Answer::Meta(MetaAnswer::Cluster(Some(plan)))) => plan,
                Ok(_) => return Err(malformed("no tables")),
                Err(error) => return Err(IdentityError::Malformed(error.to_string())),
            },
        })
    }
}

/// The plan as the meta shard's first command.
#[must_use]
pub fn founding_command(plan: &ClusterView) -> Command {
    Command::Meta(MetaCommand::Found {
        cluster: plan.cluster,
        settings: plan.settings,
        nodes: plan.nodes.clone(),
        placement: plan.placement.clone(),
    })
}

/// The plan for the wire and the disk.
#[must_use]
pub fn plan_bytes(plan: &ClusterView) -> Vec<u8> {
    founding_command(plan).encode()
}

/// Reads a plan.
///
/// # Errors
/// If the bytes are no founding command.
pub fn parse_plan(bytes: &[u8]) -> Result<ClusterView, IdentityError> {
    match Command::decode(bytes) {
        Ok(Command::Meta(MetaCommand::Found {
            cluster,
            settings,
            nodes,
            placement,
        })) => {
            let last_node = nodes.iter().map(|node| node.node).max().unwrap_or_default();
            Ok(ClusterView {
                cluster,
                settings,
                nodes,
                placement,
                last_node,
                revision: 1,
                lifecycles: BTreeMap::new(),
            })
        }
        Ok(_) => Err(IdentityError::Malformed("not a founding plan".to_owned())),
        Err(error) => Err(IdentityError::Malformed(error.to_string())),
    }
}
