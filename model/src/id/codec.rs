//! The encodings of ids and units.
//!
//! Invariant: what is decoded went through the validating constructor of its type.

use super::{
    ClusterId, FencingToken, LockName, Millis, NodeId, Owner, Party, Priority, Revision, Serial,
    SessionEpoch, SessionId, ShardId, ShardTime, Timestamp, TouchNumber, WaitEpoch,
};
use crate::codec::{Decode, DecodeError, Encode, Reader, put_text};

macro_rules! as_inner {
    ($($name:ident),*) => {$(
        impl Encode for $name {
            fn encode_into(&self, out: &mut Vec<u8>) {
                self.0.encode_into(out);
            }
        }

        impl Decode for $name {
            fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Decode::decode_from(input).map(Self)
            }
        }
    )*};
}
as_inner!(
    NodeId,
    ShardId,
    Millis,
    ShardTime,
    Timestamp,
    TouchNumber,
    FencingToken,
    SessionEpoch,
    Priority,
    Serial,
    WaitEpoch,
    Revision
);

impl Encode for Party {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.session.encode_into(out);
        self.owner.encode_into(out);
    }
}

impl Decode for Party {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            session: Decode::decode_from(input)?,
            owner: Decode::decode_from(input)?,
        })
    }
}

impl Encode for SessionId {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0.to_le_bytes());
    }
}

impl Decode for SessionId {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.array().map(|bytes| Self(u64::from_le_bytes(bytes)))
    }
}

impl Encode for ClusterId {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl Decode for ClusterId {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.array().map(Self)
    }
}

impl Encode for LockName {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_text(out, self.as_str());
    }
}

impl Decode for LockName {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(input.text()?)?)
    }
}

impl Encode for Owner {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_text(out, self.as_str());
    }
}

impl Decode for Owner {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(input.text()?)?)
    }
}
