//! Changes of the meta shard's tables after the founding.
//!
//! Invariants: a node id is given once and never again; a node is in the registry as long as it may
//! hold anything; what is repeated changes nothing; and what is refused changes nothing.

use super::{Founded, Lifecycle, MAX_NODES, NodeRecord};
use crate::{
    codec::DecodeError,
    id::{NodeId, ShardId},
    meta::reply::{MetaRefusal, MetaReply},
    reply::{Refusal, Reply},
};

impl Founded {
    /// A node says what it is like now. One that is back although it was declared lost is active
    /// again, for it has kept its votes.
    pub(super) fn describe(&mut self, record: NodeRecord) -> Result<Reply, Refusal> {
        record.check().map_err(malformed)?;
        let node = record.node;
        if self.lifecycle(node)? == Lifecycle::Lost {
            self.not_replaced(node)?;
            self.lifecycles.remove(&node);
            self.revision += 1;
        }
        if self.nodes.insert(node, record.clone()) != Some(record) {
            self.revision += 1;
        }
        Ok(Reply::Done)
    }

    pub(super) fn join(&mut self, record: NodeRecord, nonce: u64) -> Result<Reply, Refusal> {
        record.check_description().map_err(malformed)?;
        if let Some((node, _)) = self.nonces.iter().find(|(_, known)| **known == nonce) {
            return Ok(Reply::Meta(MetaReply::Joined { node: *node }));
        }
        if self.nodes.len() >= MAX_NODES {
            return Err(Refusal::Meta(MetaRefusal::TooManyNodes {
                limit: MAX_NODES,
            }));
        }
        let node = NodeId(self.last_node.0.saturating_add(1));
        let same_name = self.nodes.values().filter(|old| old.name == record.name);
        let replaced: Vec<_> = same_name.map(|old| old.node).collect();
        for old in replaced {
            self.lifecycles.insert(old, Lifecycle::Lost);
        }
        self.last_node = node;
        self.nodes.insert(node, NodeRecord { node, ..record });
        self.nonces.insert(node, nonce);
        self.revision += 1;
        Ok(Reply::Meta(MetaReply::Joined { node }))
    }

    pub(super) fn set_lifecycle(
        &mut self,
        node: NodeId,
        lifecycle: Lifecycle,
        expected: Option<u64>,
    ) -> Result<Reply, Refusal> {
        let present = self.lifecycle(node)?;
        if present == lifecycle {
            return Ok(self.changed());
        }
        self.expect(expected)?;
        match lifecycle {
            Lifecycle::Active => {
                if present == Lifecycle::Lost {
                    self.not_replaced(node)?;
                }
                self.lifecycles.remove(&node);
            }
            Lifecycle::Draining => {
                self.enough_without(node)?;
                self.lifecycles.insert(node, lifecycle);
            }
            Lifecycle::Lost => {
                self.majorities_without(node)?;
                self.lifecycles.insert(node, lifecycle);
            }
        }
        self.revision += 1;
        Ok(self.changed())
    }

    /// Removing a node that is gone already is done.
    pub(super) fn remove(&mut self, node: NodeId, expected: Option<u64>) -> Result<Reply, Refusal> {
        let Ok(lifecycle) = self.lifecycle(node) else {
            return if node.0 >= 1 && node <= self.last_node {
                Ok(self.changed())
            } else {
                Err(Refusal::Meta(MetaRefusal::NoSuchNode { node }))
            };
        };
        self.expect(expected)?;
        if lifecycle == Lifecycle::Active {
            return Err(Refusal::Meta(MetaRefusal::NodeActive { node }));
        }
        let replicas = self.placement.replicas_on(node);
        if replicas > 0 {
            return Err(Refusal::Meta(MetaRefusal::NodeNotEmpty { node, replicas }));
        }
        self.nodes.remove(&node);
        self.lifecycles.remove(&node);
        self.nonces.remove(&node);
        self.revision += 1;
        Ok(self.changed())
    }

    pub(super) fn set_replicas(
        &mut self,
        shard: ShardId,
        voters: Vec<NodeId>,
        learners: Vec<NodeId>,
        as_of: u64,
    ) -> Result<Reply, Refusal> {
        let known = self.as_of.get(&shard).copied().unwrap_or_default();
        if as_of < known {
            return Err(Refusal::Meta(MetaRefusal::OtherRevision {
                expected: as_of,
                actual: known,
            }));
        }
        let mut placement = self.placement.clone();
        let Some(present) = placement.shards.get_mut(&shard) else {
            return Err(Refusal::Malformed {
                what: format!("there is no shard {shard}"),
            });
        };
        *present = voters;
        if learners.is_empty() {
            placement.learners.remove(&shard);
        } else {
            placement.learners.insert(shard, learners);
        }
        placement.check().map_err(malformed)?;
        if let Some(node) = placement
            .holders(shard)
            .find(|node| !self.nodes.contains_key(node))
        {
            return Err(Refusal::Meta(MetaRefusal::NoSuchNode { node }));
        }
        if placement != self.placement {
            self.as_of.insert(shard, as_of);
            placement.revision += 1;
            self.placement = placement;
            self.revision += 1;
        }
        Ok(self.changed())
    }

    fn changed(&self) -> Reply {
        Reply::Meta(MetaReply::Changed {
            revision: self.revision,
        })
    }

    fn lifecycle(&self, node: NodeId) -> Result<Lifecycle, Refusal> {
        if self.nodes.contains_key(&node) {
            Ok(self.lifecycles.get(&node).copied().unwrap_or_default())
        } else {
            Err(Refusal::Meta(MetaRefusal::NoSuchNode { node }))
        }
    }

    fn expect(&self, expected: Option<u64>) -> Result<(), Refusal> {
        match expected {
            Some(expected) if expected != self.revision => {
                Err(Refusal::Meta(MetaRefusal::OtherRevision {
                    expected,
                    actual: self.revision,
                }))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A node whose name a later one has joined under has lost its directory.
    fn not_replaced(&self, node: NodeId) -> Result<(), Refusal> {
        let name = self.nodes.get(&node).map(|record| &record.name);
        let mut later = self.nodes.range(node..).skip(1);
        match later.find(|(_, record)| Some(&record.name) == name) {
            Some((by, _)) => Err(Refusal::Meta(MetaRefusal::NodeReplaced { node, by: *by })),
            None => Ok(()),
        }
    }

    fn enough_without(&self, node: NodeId) -> Result<(), Refusal> {
        let active = self
            .nodes
            .keys()
            .filter(|other| **other != node && self.lifecycle(**other) == Ok(Lifecycle::Active));
        let (left, needed) = (active.count(), self.settings.replication_factor as usize);
        if left < needed {
            return Err(Refusal::Meta(MetaRefusal::TooFewNodes {
                node,
                left,
                needed,
            }));
        }
        Ok(())
    }

    fn majorities_without(&self, node: NodeId) -> Result<(), Refusal> {
        let stays =
            |other: &&NodeId| **other != node && self.lifecycle(**other) != Ok(Lifecycle::Lost);
        for (shard, voters) in &self.placement.shards {
            let left = voters.iter().filter(stays).count();
            if voters.contains(&node) && left <= voters.len() / 2 {
                return Err(Refusal::Meta(MetaRefusal::NoMajorityWithout {
                    node,
                    shard: *shard,
                }));
            }
        }
        Ok(())
    }
}

fn malformed(error: DecodeError) -> Refusal {
    Refusal::Malformed {
        what: error.to_string(),
    }
}
