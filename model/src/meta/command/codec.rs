//! The encoding of the meta shard's commands.
//!
//! Invariant: a tag keeps its meaning for ever, and what is decoded is within its bounds.

use super::MetaCommand;
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, bounded_list},
    id::NodeId,
    meta::record::{MAX_VOTERS, NodeRecord},
};

mod tag {
    pub(super) const FOUND: u8 = 1;
    pub(super) const DESCRIBE_NODE: u8 = 2;
    pub(super) const JOIN_NODE: u8 = 3;
    pub(super) const SET_LIFECYCLE: u8 = 4;
    pub(super) const REMOVE_NODE: u8 = 5;
    pub(super) const SET_REPLICAS: u8 = 6;
}

impl Encode for MetaCommand {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Found {
                cluster,
                settings,
                nodes,
                placement,
            } => {
                out.push(tag::FOUND);
                cluster.encode_into(out);
                settings.encode_into(out);
                nodes.encode_into(out);
                placement.encode_into(out);
            }
            Self::DescribeNode { node } => {
                out.push(tag::DESCRIBE_NODE);
                node.encode_into(out);
            }
            Self::JoinNode { node, nonce } => {
                out.push(tag::JOIN_NODE);
                node.encode_description_into(out);
                nonce.encode_into(out);
            }
            Self::SetLifecycle {
                node,
                lifecycle,
                expected,
            } => {
                out.push(tag::SET_LIFECYCLE);
                node.encode_into(out);
                lifecycle.encode_into(out);
                expected.encode_into(out);
            }
            Self::RemoveNode { node, expected } => {
                out.push(tag::REMOVE_NODE);
                node.encode_into(out);
                expected.encode_into(out);
            }
            Self::SetReplicas {
                shard,
                voters,
                learners,
                as_of,
            } => {
                out.push(tag::SET_REPLICAS);
                shard.encode_into(out);
                voters.encode_into(out);
                learners.encode_into(out);
                as_of.encode_into(out);
            }
        }
    }
}

impl Decode for MetaCommand {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            tag::FOUND => Self::Found {
                cluster: Decode::decode_from(input)?,
                settings: Decode::decode_from(input)?,
                nodes: Decode::decode_from(input)?,
                placement: Decode::decode_from(input)?,
            },
            tag::DESCRIBE_NODE => Self::DescribeNode {
                node: Decode::decode_from(input)?,
            },
            tag::JOIN_NODE => Self::JoinNode {
                node: NodeRecord::decode_description_from(NodeId(0), input)?,
                nonce: Decode::decode_from(input)?,
            },
            tag::SET_LIFECYCLE => Self::SetLifecycle {
                node: Decode::decode_from(input)?,
                lifecycle: Decode::decode_from(input)?,
                expected: Decode::decode_from(input)?,
            },
            tag::REMOVE_NODE => Self::RemoveNode {
                node: Decode::decode_from(input)?,
                expected: Decode::decode_from(input)?,
            },
            tag::SET_REPLICAS => Self::SetReplicas {
                shard: Decode::decode_from(input)?,
                voters: bounded_list(input, "number of voters", 1, MAX_VOTERS as usize)?,
                learners: bounded_list(input, "number of learners", 0, MAX_VOTERS as usize)?,
                as_of: Decode::decode_from(input)?,
            },
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "meta command",
                    tag,
                });
            }
        })
    }
}
