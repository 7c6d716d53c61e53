//! A replica's whole state as bytes, for replicas that are new or far behind.
//!
//! Invariants: equal states have equal bytes; a restored machine and the one it was taken from
//! answer every further batch alike; damaged bytes are refused.
//!
//! Layout: the format version, the kind of machine, its state, and the CRC-32 (IEEE 802.3) of all
//! before, four bytes, little-endian. The checksum finds damage, not forgery.

use crate::{
    codec::{Decode, DecodeError, Encode, FORMAT_VERSION, Reader},
    id::ShardId,
    machine::Machine,
    meta::Meta,
    shard::Shard,
};

const META: u8 = 1;
const DATA: u8 = 2;

impl Machine {
    /// The meta shard's machine, empty.
    #[must_use]
    pub fn new_meta() -> Self {
        Self::Meta(Meta::new())
    }

    /// A data shard's machine, empty.
    #[must_use]
    pub const fn new_data(shard: ShardId) -> Self {
        Self::Data(Shard::new(shard))
    }

    /// The whole state. Equal for all replicas that applied the same batches.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = vec![FORMAT_VERSION];
        match self {
            Self::Meta(meta) => {
                out.push(META);
                meta.encode_into(&mut out);
            }
            Self::Data(shard) => {
                out.push(DATA);
                shard.encode_into(&mut out);
            }
        }
        let checksum = crc32fast::hash(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// The machine of which this is the [`Machine::snapshot`].
    ///
    /// # Errors
    /// If the version is unknown, the bytes are damaged, or they are not exactly one state.
    pub fn restore(bytes: &[u8]) -> Result<Self, DecodeError> {
        // The version comes first: another one may place its checksum elsewhere.
        match bytes.first() {
            None => return Err(DecodeError::Truncated { missing: 1 }),
            Some(&FORMAT_VERSION) => {}
            Some(&version) => return Err(DecodeError::UnknownVersion { version }),
        }
        let Some((state, checksum)) = bytes.split_last_chunk() else {
            return Err(DecodeError::Truncated {
                missing: size_of::<u32>(),
            });
        };
        let (expected, found) = (crc32fast::hash(state), u32::from_le_bytes(*checksum));
        if expected != found {
            return Err(DecodeError::Checksum { expected, found });
        }
        let mut input = Reader::new(state);
        input.byte()?;
        let machine = match input.byte()? {
            META => Self::Meta(Decode::decode_from(&mut input)?),
            DATA => Self::Data(Decode::decode_from(&mut input)?),
            tag => {
                return Err(DecodeError::UnknownTag {
                    what: "machine",
                    tag,
                });
            }
        };
        input.finish()?;
        Ok(machine)
    }
}
