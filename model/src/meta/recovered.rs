//! The tables of the cluster that is made of what is left of another.
//!
//! Invariants: nodes keep their ids, and no id of the earlier cluster is given again; the founding
//! settings stay; the revisions go on, so that the new tables are newer than the old ones.

use std::collections::{BTreeMap, BTreeSet};

use super::{Founded, Meta, Placement};
use crate::{
    codec::DecodeError,
    id::{ClusterId, NodeId, ShardId},
};

/// Why there are no tables for a cluster of the survivors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoverError {
    /// Nothing was founded.
    #[error("the meta shard has no tables: no cluster was founded in these directories")]
    NotFounded,
    /// A survivor is not in the registry.
    #[error("node {node} is not in the registry: it was removed from the cluster; leave it out")]
    NoSuchNode {
        /// Which.
        node: NodeId,
    },
    /// The new tables contradict themselves.
    #[error("the tables cannot be made: {0}")]
    Inconsistent(#[from] DecodeError),
}

impl Meta {
    /// The tables of a new cluster, of these nodes and no other, with these voters of each shard.
    ///
    /// # Errors
    /// If a node is not known, or a shard has no voters, too many, others, or is missing.
    pub fn recovered(
        &self,
        cluster: ClusterId,
        survivors: &BTreeSet<NodeId>,
        voters: BTreeMap<ShardId, Vec<NodeId>>,
    ) -> Result<Self, RecoverError> {
        let old = self.founded.as_ref().ok_or(RecoverError::NotFounded)?;
        if let Some(node) = survivors.iter().find(|node| !old.nodes.contains_key(node)) {
            return Err(RecoverError::NoSuchNode { node: *node });
        }
        let survives = |node: &NodeId| survivors.contains(node);
        let kept = old.nodes.iter().filter(|(node, _)| survives(node));
        let nonces = old.nonces.iter().filter(|(node, _)| survives(node));
        let founded = Founded {
            cluster,
            settings: old.settings,
            nodes: kept.map(|(node, record)| (*node, record.clone())).collect(),
            placement: Placement {
                // Never 1, which is a founding's: its founders begin the groups.
                revision: old.placement.revision.saturating_add(1),
                shards: voters,
                learners: BTreeMap::new(),
            },
            last_node: old.last_node,
            revision: old.revision.saturating_add(1),
            lifecycles: BTreeMap::new(),
            nonces: nonces.map(|(node, nonce)| (*node, *nonce)).collect(),
            // Of logs that are no more.
            as_of: BTreeMap::new(),
        };
        founded.check()?;
        Ok(Self {
            founded: Some(founded),
        })
    }
}
