//! The meta shard's state machine: which nodes there are, and where each shard lives.
//!
//! Invariants: before the founding there is nothing, and afterwards one cluster for ever, whose
//! settings never change. Every shard has its voters, and every voter is a node of the registry.

mod change;
pub mod command;
pub(crate) mod query;
pub(crate) mod record;
mod recovered;
pub(crate) mod reply;

use std::collections::BTreeMap;

pub use command::MetaCommand;
pub use query::{ClusterView, MetaAnswer, MetaQuery};
pub use record::{
    DEFAULT_SHARDS, Lifecycle, MAX_ADDRESS_BYTES, MAX_NODE_NAME_BYTES, MAX_NODES, MAX_SHARDS,
    MAX_VERSION_BYTES, MAX_VOTERS, MAX_ZONE_BYTES, MIN_SHARDS, NodeRecord, Placement, Settings,
};
pub use recovered::RecoverError;
pub use reply::{MetaRefusal, MetaReply};

use crate::{
    applied::Applied,
    codec::{Decode, DecodeError, Encode, Reader, check_bounds},
    command::{Batch, Command},
    id::{ClusterId, NodeId, ShardId},
    outcome::Outcome,
    query::{Answer, Query},
    reply::{Refusal, Reply},
};

/// The meta shard's state. Its encoding is its snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    founded: Option<Founded>,
}

/// What there is once a cluster was founded.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Founded {
    cluster: ClusterId,
    settings: Settings,
    nodes: BTreeMap<NodeId, NodeRecord>,
    placement: Placement,
    last_node: NodeId,
    revision: u64,
    /// The nodes that are not active.
    lifecycles: BTreeMap<NodeId, Lifecycle>,
    /// By what the nodes that joined know that their id is theirs.
    nonces: BTreeMap<NodeId, u64>,
    /// From where in each shard's log its members are as recorded; only shards that have changed.
    as_of: BTreeMap<ShardId, u64>,
}

impl Meta {
    /// The state before the founding.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one committed batch: one outcome per command, in order, and never an effect. The
    /// batch's time decides nothing here.
    pub fn apply(&mut self, batch: Batch) -> Applied {
        let outcomes = batch
            .commands
            .into_iter()
            .map(|command| match command {
                Command::Meta(command) => Outcome::Done(self.apply_one(command)),
                Command::Session(_) | Command::Lock(_) | Command::Expire => {
                    Outcome::Done(Reply::Refused(Refusal::WrongShard))
                }
            })
            .collect();
        Applied {
            outcomes,
            ..Applied::default()
        }
    }

    /// Answers a question from the present state.
    #[must_use]
    pub fn query(&self, query: &Query) -> Answer {
        match query {
            Query::Meta(MetaQuery::Cluster) => Answer::Meta(MetaAnswer::Cluster(self.cluster())),
            Query::Session(_) | Query::Lock(_) => Answer::WrongShard,
        }
    }

    /// A copy of the tables; none before the founding.
    #[must_use]
    pub fn cluster(&self) -> Option<ClusterView> {
        self.founded.as_ref().map(|founded| ClusterView {
            cluster: founded.cluster,
            settings: founded.settings,
            nodes: founded.nodes.values().cloned().collect(),
            placement: founded.placement.clone(),
            last_node: founded.last_node,
            revision: founded.revision,
            lifecycles: founded.lifecycles.clone(),
        })
    }

    fn apply_one(&mut self, command: MetaCommand) -> Reply {
        match command {
            MetaCommand::Found {
                cluster,
                settings,
                nodes,
                placement,
            } => self.found(cluster, settings, nodes, placement),
            MetaCommand::DescribeNode { node } => self.change(|founded| founded.describe(node)),
            MetaCommand::JoinNode { node, nonce } => {
                self.change(|founded| founded.join(node, nonce))
            }
            MetaCommand::SetLifecycle {
                node,
                lifecycle,
                expected,
            } => self.change(|founded| founded.set_lifecycle(node, lifecycle, expected)),
            MetaCommand::RemoveNode { node, expected } => {
                self.change(|founded| founded.remove(node, expected))
            }
            MetaCommand::SetReplicas {
                shard,
                voters,
                learners,
                as_of,
            } => self.change(|founded| founded.set_replicas(shard, voters, learners, as_of)),
        }
    }

    fn change(&mut self, change: impl FnOnce(&mut Founded) -> Result<Reply, Refusal>) -> Reply {
        match &mut self.founded {
            Some(founded) => change(founded).unwrap_or_else(Reply::Refused),
            None => malformed("there is no cluster yet".to_owned()),
        }
    }

    /// Only the first founding counts. A founder may repeat it, for it cannot know whether its
    /// first attempt was heard; by then the nodes may have described themselves anew, so the
    /// cluster's id alone tells a repetition from another cluster.
    fn found(
        &mut self,
        cluster: ClusterId,
        settings: Settings,
        nodes: Vec<NodeRecord>,
        placement: Placement,
    ) -> Reply {
        if let Some(founded) = &self.founded {
            return if founded.cluster == cluster {
                Reply::Done
            } else {
                malformed(format!(
                    "this is cluster {}, not {cluster}",
                    founded.cluster
                ))
            };
        }
        match Founded::new(cluster, settings, nodes, placement) {
            Ok(founded) => {
                self.founded = Some(founded);
                Reply::Done
            }
            Err(error) => malformed(error.to_string()),
        }
    }
}

fn malformed(what: String) -> Reply {
    Reply::Refused(Refusal::Malformed { what })
}

impl Founded {
    fn new(
        cluster: ClusterId,
        settings: Settings,
        nodes: Vec<NodeRecord>,
        placement: Placement,
    ) -> Result<Self, DecodeError> {
        let count = nodes.len();
        let nodes: BTreeMap<_, _> = nodes.into_iter().map(|node| (node.node, node)).collect();
        if nodes.len() < count {
            return Err(DecodeError::Inconsistent {
                what: "two nodes have the same id",
            });
        }
        let founded = Self {
            cluster,
            settings,
            last_node: nodes.keys().next_back().copied().unwrap_or_default(),
            nodes,
            placement,
            revision: 1,
            lifecycles: BTreeMap::new(),
            nonces: BTreeMap::new(),
            as_of: BTreeMap::new(),
        };
        founded.check()?;
        Ok(founded)
    }

    /// Checks each part, and that the parts agree.
    fn check(&self) -> Result<(), DecodeError> {
        self.settings.check()?;
        self.placement.check()?;
        check_bounds(
            "the number of nodes",
            self.nodes.len() as u64,
            1,
            MAX_NODES as u64,
        )?;
        for (id, node) in &self.nodes {
            node.check()?;
            if *id != node.node || *id > self.last_node {
                return Err(DecodeError::Inconsistent {
                    what: "a node's id is not the one it is registered under",
                });
            }
        }
        let placed = self.placement.shards.keys().copied();
        if !placed.eq((0..=self.settings.shards).map(ShardId)) {
            return Err(DecodeError::Inconsistent {
                what: "the shards that are placed are not those of the settings",
            });
        }
        let placement = &self.placement;
        let named = placement.shards.values().chain(placement.learners.values());
        let named = named.flatten().chain(self.lifecycles.keys());
        let mut named = named.chain(self.nonces.keys());
        if !named.all(|node| self.nodes.contains_key(node)) {
            return Err(DecodeError::Inconsistent {
                what: "a node that is named is not in the registry",
            });
        }
        Ok(())
    }
}

impl Encode for Meta {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.founded.encode_into(out);
    }
}

impl Decode for Meta {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let founded = Decode::decode_from(input)?;
        Ok(Self { founded })
    }
}

impl Encode for Founded {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.cluster.encode_into(out);
        self.settings.encode_into(out);
        self.nodes.encode_into(out);
        self.placement.encode_into(out);
        self.last_node.encode_into(out);
        self.revision.encode_into(out);
        self.lifecycles.encode_into(out);
        self.nonces.encode_into(out);
        self.as_of.encode_into(out);
    }
}

impl Decode for Founded {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let founded = Self {
            cluster: Decode::decode_from(input)?,
            settings: Decode::decode_from(input)?,
            nodes: Decode::decode_from(input)?,
            placement: Decode::decode_from(input)?,
            last_node: Decode::decode_from(input)?,
            revision: Decode::decode_from(input)?,
            lifecycles: Decode::decode_from(input)?,
            nonces: Decode::decode_from(input)?,
            as_of: Decode::decode_from(input)?,
        };
        founded.check()?;
        Ok(founded)
    }
}

#[cfg(test)]
mod tests;
