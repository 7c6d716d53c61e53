//! The encodings of what a shard knows of a session.
//!
//! Invariants: a tag keeps its meaning for ever, and fields come in the order of their declaration.

use std::collections::BTreeSet;

use super::{Home, Member, Presence, Role};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, fields, tagged},
    id::ShardId,
    session::Labels,
};

fields!(Member { role, requests });

tagged!(Presence, "session state", {
    1 => Open(member),
    2 => Ending { home, reason, ended, touch },
    3 => Ended { reason, until, touch },
});

tagged!(Role, "session role", {
    1 => Home(home),
    2 => Attached { priority, opened },
});

impl Encode for Home {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let Self {
            ttl,
            epoch,
            priority,
            labels,
            opened,
            checkpoint,
            revoked,
            touched,
        } = self;
        ttl.encode_into(out);
        epoch.encode_into(out);
        priority.encode_into(out);
        labels.encode_into(out);
        opened.encode_into(out);
        checkpoint.encode_into(out);
        revoked.encode_into(out);
        touched
            .iter()
            .copied()
            .collect::<Vec<ShardId>>()
            .encode_into(out);
    }
}

impl Decode for Home {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            ttl: Decode::decode_from(input)?,
            epoch: Decode::decode_from(input)?,
            priority: Decode::decode_from(input)?,
            labels: Labels::decode_from(input)?,
            opened: Decode::decode_from(input)?,
            checkpoint: Decode::decode_from(input)?,
            revoked: Decode::decode_from(input)?,
            touched: touched(input)?,
        })
    }
}

fn touched(input: &mut Reader<'_>) -> Result<BTreeSet<ShardId>, DecodeError> {
    let shards: Vec<ShardId> = Decode::decode_from(input)?;
    if !shards.is_sorted_by(|before, after| before < after) {
        return Err(DecodeError::NotAscending);
    }
    Ok(shards.into_iter().collect())
}
