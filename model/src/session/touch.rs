//! A touch: what lets a session into a shard.

use crate::{
    codec::{Decode, DecodeError, Encode, Reader, fields},
    id::{ShardId, TouchNumber},
};

/// A touch, as the shard that is touched knows it: whose it is, and which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Touch {
    /// The home that recorded it.
    pub home: ShardId,
    /// Its number there.
    pub number: TouchNumber,
}

fields!(Touch { home, number });
