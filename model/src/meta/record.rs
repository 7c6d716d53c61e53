//! What the meta shard's tables are made of, and their encodings.
//!
//! Invariant: a decoded value is within its bounds, for `check` is run on it.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    codec::{Decode, DecodeError, Encode, Reader, check_bounds},
    id::{NodeId, ShardId},
};

/// Fewest data shards of a cluster.
pub const MIN_SHARDS: u32 = 1;
/// Most data shards of a cluster: bounds the tables that every node and every client keeps.
pub const MAX_SHARDS: u32 = 1_024;
/// Data shards of a cluster whose founders named no number.
pub const DEFAULT_SHARDS: u32 = 8;
/// Most voters of a shard. Five survive two losses; each further one slows every commit.
pub const MAX_VOTERS: u32 = 5;
/// Most nodes of a cluster: bounds the registry, which every node and every client keeps.
pub const MAX_NODES: usize = 512;
/// Longest node name in bytes: that of a DNS name, because names are host names.
pub const MAX_NODE_NAME_BYTES: usize = 253;
/// Longest address in bytes: a DNS name and a port fit with room to spare.
pub const MAX_ADDRESS_BYTES: usize = 512;
/// Longest zone name in bytes: that of a Kubernetes label value (63), rounded up.
pub const MAX_ZONE_BYTES: usize = 64;
/// Longest version in bytes: a semantic version with a build's name fits.
pub const MAX_VERSION_BYTES: usize = 64;

/// What is fixed when a cluster is founded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Data shards, [`MIN_SHARDS`]..=[`MAX_SHARDS`]; their ids are 1..=`shards`.
    pub shards: u32,
    /// Replicas of each data shard: 1, 3 or 5.
    pub replication_factor: u32,
    /// How keys are mapped to shards: [`crate::ring::RING_VERSION`] when the cluster was founded.
    pub ring_version: u32,
}

/// A node as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRecord {
    /// Its id, never 0.
    pub node: NodeId,
    /// Its name, 1..=[`MAX_NODE_NAME_BYTES`] bytes. No identity: another node may take it over.
    pub name: String,
    /// Where clients reach it: `host:port`, 1..=[`MAX_ADDRESS_BYTES`] bytes.
    pub client_address: String,
    /// Where peers reach it: `host:port`, 1..=[`MAX_ADDRESS_BYTES`] bytes.
    pub peer_address: String,
    /// What it fails together with, at most [`MAX_ZONE_BYTES`] bytes. Empty: it fails alone.
    pub zone: String,
    /// The version that it runs, at most [`MAX_VERSION_BYTES`] bytes.
    pub version: String,
}

/// What is to become of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lifecycle {
    /// It is not expected back; its replicas are replaced first.
    Lost,
    /// It still serves, but is to be emptied.
    Draining,
    /// It holds its share.
    #[default]
    Active,
}

/// Which nodes hold which shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Grows with every change; 1 when founded.
    pub revision: u64,
    /// Every shard, the meta shard included, with its 1..=[`MAX_VOTERS`] voters, all distinct.
    pub shards: BTreeMap<ShardId, Vec<NodeId>>,
    /// The nodes that have, or are about to get, a replica without a vote; only shards with any.
    pub learners: BTreeMap<ShardId, Vec<NodeId>>,
}

impl Settings {
    /// Checks the bounds.
    ///
    /// # Errors
    /// As decoding it would.
    pub fn check(&self) -> Result<(), DecodeError> {
        check_bounds(
            "the number of shards",
            u64::from(self.shards),
            u64::from(MIN_SHARDS),
            u64::from(MAX_SHARDS),
        )?;
        match self.replication_factor {
            1 | 3 | 5 => Ok(()),
            _ => Err(DecodeError::Inconsistent {
                what: "the replication factor is not 1, 3 or 5",
            }),
        }
    }
}

impl NodeRecord {
    /// Checks the bounds.
    ///
    /// # Errors
    /// As decoding it would.
    pub fn check(&self) -> Result<(), DecodeError> {
        check_bounds("a node id", self.node.0, 1, u64::MAX)?;
        self.check_description()
    }

    /// Checks all but the id.
    ///
    /// # Errors
    /// As decoding it would.
    pub fn check_description(&self) -> Result<(), DecodeError> {
        check_length("a node's name", &self.name, 1, MAX_NODE_NAME_BYTES)?;
        check_length(
            "a client address",
            &self.client_address,
            1,
            MAX_ADDRESS_BYTES,
        )?;
        check_length("a peer address", &self.peer_address, 1, MAX_ADDRESS_BYTES)?;
        check_length("a zone", &self.zone, 0, MAX_ZONE_BYTES)?;
        check_length("a version", &self.version, 0, MAX_VERSION_BYTES)
    }
}

impl Placement {
    /// The nodes that hold a shard, voters first.
    pub fn holders(&self, shard: ShardId) -> impl Iterator<Item = NodeId> + '_ {
        let voters = self.shards.get(&shard).into_iter().flatten();
        let learners = self.learners.get(&shard).into_iter().flatten();
        voters.chain(learners).copied()
    }

    /// How many replicas a node has, or is about to get.
    #[must_use]
    pub fn replicas_on(&self, node: NodeId) -> usize {
        let all = self.shards.values().chain(self.learners.values());
        all.flatten().filter(|holder| **holder == node).count()
    }

    /// Checks the bounds.
    ///
    /// # Errors
    /// As decoding it would.
    pub fn check(&self) -> Result<(), DecodeError> {
        for (shard, learners) in &self.learners {
            check_bounds(
                "the number of a shard's learners",
                learners.len() as u64,
                1,
                u64::from(MAX_VOTERS),
            )?;
            if !self.shards.contains_key(shard) {
                return Err(DecodeError::Inconsistent {
                    what: "a shard has learners and no voters",
                });
            }
            let mut holders: Vec<_> = self.holders(*shard).collect();
            holders.sort_unstable();
            if !holders.is_sorted_by(|before, after| before < after) {
                return Err(DecodeError::Inconsistent {
                    what: "a node holds a shard twice",
                });
            }
        }
        for (shard, voters) in &self.shards {
            check_bounds("a shard id", u64::from(shard.0), 0, u64::from(MAX_SHARDS))?;
            check_bounds(
                "the number of a shard's voters",
                voters.len() as u64,
                1,
                u64::from(MAX_VOTERS),
            )?;
            if voters.contains(&NodeId(0)) {
                return Err(DecodeError::Inconsistent {
                    what: "node 0 is a voter",
                });
            }
            if voters.iter().collect::<BTreeSet<_>>().len() < voters.len() {
                return Err(DecodeError::Inconsistent {
                    what: "a node is twice a voter of one shard",
                });
            }
        }
        Ok(())
    }
}

fn check_length(what: &'static str, text: &str, min: usize, max: usize) -> Result<(), DecodeError> {
    check_bounds(what, text.len() as u64, min as u64, max as u64)
}

impl Encode for Settings {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.shards.encode_into(out);
        self.replication_factor.encode_into(out);
        self.ring_version.encode_into(out);
    }
}

impl Decode for Settings {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let settings = Self {
            shards: Decode::decode_from(input)?,
            replication_factor: Decode::decode_from(input)?,
            ring_version: Decode::decode_from(input)?,
        };
        settings.check()?;
        Ok(settings)
    }
}

impl NodeRecord {
    /// The encoding of all but the id.
    pub(crate) fn encode_description_into(&self, out: &mut Vec<u8>) {
        self.name.encode_into(out);
        self.client_address.encode_into(out);
        self.peer_address.encode_into(out);
        self.zone.encode_into(out);
        self.version.encode_into(out);
    }

    /// Reads what [`Self::encode_description_into`] wrote.
    pub(crate) fn decode_description_from(
        node: NodeId,
        input: &mut Reader<'_>,
    ) -> Result<Self, DecodeError> {
        let record = Self {
            node,
            name: Decode::decode_from(input)?,
            client_address: Decode::decode_from(input)?,
            peer_address: Decode::decode_from(input)?,
            zone: Decode::decode_from(input)?,
            version: Decode::decode_from(input)?,
        };
        record.check_description()?;
        Ok(record)
    }
}

impl Encode for NodeRecord {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.node.encode_into(out);
        self.encode_description_into(out);
    }
}

impl Decode for NodeRecord {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let node = Decode::decode_from(input)?;
        let record = Self::decode_description_from(node, input)?;
        record.check()?;
        Ok(record)
    }
}

impl Encode for Lifecycle {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Self::Active => 1,
            Self::Draining => 2,
            Self::Lost => 3,
        });
    }
}

impl Decode for Lifecycle {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            1 => Ok(Self::Active),
            2 => Ok(Self::Draining),
            3 => Ok(Self::Lost),
            tag => Err(DecodeError::UnknownTag {
                what: "lifecycle",
                tag,
            }),
        }
    }
}

impl Encode for Placement {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.revision.encode_into(out);
        self.shards.encode_into(out);
        self.learners.encode_into(out);
    }
}

impl Decode for Placement {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let placement = Self {
            revision: Decode::decode_from(input)?,
            shards: Decode::decode_from(input)?,
            learners: Decode::decode_from(input)?,
        };
        placement.check()?;
        Ok(placement)
    }
}
