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

/// Bytes of the checksum at the end.
pub const CHECKSUM_BYTES: usize = size_of::<u32>();

const META: u8 = 1;
const DATA: u8 = 2;

/// The state of a machine at one moment: to be encoded while the machine goes on.
#[derive(Debug)]
pub struct Point(Machine);

impl Point {
    /// What [`Machine::snapshot`] would have been at that moment.
    #[must_use]
    pub fn snapshot(&self) -> Vec<u8> {
        self.0.snapshot()
    }
}

/// Checks that bytes are a whole snapshot, of whatever machine, as far as its checksum tells.
///
/// # Errors
/// If they are too few or damaged.
pub fn check(bytes: &[u8]) -> Result<(), DecodeError> {
    whole(bytes).map(|_| ())
}

/// What comes before the checksum, if that is right.
fn whole(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let Some((state, checksum)) = bytes.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(DecodeError::Truncated {
            missing: CHECKSUM_BYTES.saturating_sub(bytes.len()),
        });
    };
    let (expected, found) = (crc32fast::hash(state), u32::from_le_bytes(*checksum));
    if expected == found {
        Ok(state)
    } else {
        Err(DecodeError::Checksum { expected, found })
    }
}

impl Machine {
    /// Sets the present state aside. Takes the same time however large a data shard is.
    pub fn point(&mut self) -> Point {
        Point(match self {
            Self::Meta(meta) => Self::Meta(meta.clone()),
            Self::Data(shard) => Self::Data(shard.point()),
        })
    }

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
        let mut input = Reader::new(whole(bytes)?);
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
