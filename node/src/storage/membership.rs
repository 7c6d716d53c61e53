//! How a membership is written inside a record.
//!
//! ```text
//! config count u32 | per config: voter count u32, voter ids u64...
//! node count u32   | per node: id u64, address length u32, address UTF-8
//! ```
//!
//! Invariant: what is decoded is a valid membership: no empty config, and every voter has a node.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Fields, Problem, put_log_id};
use crate::raft::types::{Membership, PeerAddress, StoredMembership};

/// Appends a membership.
pub(crate) fn put(out: &mut Vec<u8>, membership: &Membership) {
    let configs = membership.get_joint_config();
    put_count(out, configs.len());
    for voters in configs {
        put_count(out, voters.len());
        for voter in voters {
            out.extend_from_slice(&voter.to_be_bytes());
        }
    }
    put_count(out, membership.nodes().count());
    for (id, PeerAddress(address)) in membership.nodes() {
        out.extend_from_slice(&id.to_be_bytes());
        put_count(out, address.len());
        out.extend_from_slice(address.as_bytes());
    }
}

/// Reads a membership.
pub(crate) fn take(fields: &mut Fields<'_>) -> Result<Membership, Problem> {
    let mut configs = Vec::new();
    for _ in 0..fields.u32()? {
        let mut voters = BTreeSet::new();
        for _ in 0..fields.u32()? {
            voters.insert(fields.u64()?);
        }
        configs.push(voters);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..fields.u32()? {
        let id = fields.u64()?;
        let len = fields.u32()? as usize;
        let address = std::str::from_utf8(fields.bytes(len)?)
            .map_err(|_| Problem::Malformed("an address is not UTF-8"))?;
        nodes.insert(id, PeerAddress(address.to_owned()));
    }
    Membership::new(configs, nodes).map_err(|_| Problem::Malformed("the membership is not valid"))
}

/// Appends a membership with the place where it was decided, if any.
pub(crate) fn put_stored(out: &mut Vec<u8>, stored: &StoredMembership) {
    put_optional_log_id(out, stored.log_id().as_ref());
    put(out, stored.membership());
}

/// Reads a membership with its place.
pub(crate) fn take_stored(fields: &mut Fields<'_>) -> Result<StoredMembership, Problem> {
    let id = take_optional_log_id(fields)?;
    Ok(StoredMembership::new(id, take(fields)?))
}

/// Appends a flag, and a log id where there is one.
pub(crate) fn put_optional_log_id(out: &mut Vec<u8>, id: Option<&crate::raft::types::LogId>) {
    out.push(u8::from(id.is_some()));
    if let Some(id) = id {
        put_log_id(out, id);
    }
}

/// Reads a flag, and a log id where there is one.
pub(crate) fn take_optional_log_id(
    fields: &mut Fields<'_>,
) -> Result<Option<crate::raft::types::LogId>, Problem> {
    if fields.flag()? {
        fields.log_id().map(Some)
    } else {
        Ok(None)
    }
}

/// Counts and lengths are far below `u32::MAX`: a membership is a handful of nodes.
fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}
