//! The envelope of every record on disk.
//!
//! ```text
//! version u8 | kind u8 | payload | CRC-32 over key, version, kind and payload, u32 big endian
//! ```
//!
//! Invariant: a value that was changed, cut short, or stored under another key is never decoded.
//! CRC-32 (IEEE 802.3) detects every change within any 32 adjacent bits, so every flipped byte.

use crate::raft::types::{LeaderId, LogId};

/// Version of the envelope and of all payload layouts. A reader knows every version up to this.
pub(crate) const VERSION: u8 = 1;
/// Version, kind and checksum.
const OVERHEAD: usize = 6;
/// The checksum at the end.
const CHECKSUM_BYTES: usize = 4;

/// What a record is. The number is a disk format: never reused, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A log entry without content: the first of each leader.
    BlankEntry = 1,
    /// A log entry with a batch of commands.
    BatchEntry = 2,
    /// A log entry with a membership.
    MembershipEntry = 3,
    /// The vote of a shard's replica.
    Vote = 4,
    /// Up to where a shard's log has been purged.
    Purged = 5,
    /// Up to where a shard's log was known to be committed.
    Committed = 6,
    /// Which snapshot of a shard is the current one, and what it covers.
    SnapshotHead = 7,
    /// A piece of a snapshot.
    SnapshotChunk = 8,
    /// A record of the node.
    Meta = 9,
    /// How far a replica's log reached that was removed.
    Reach = 10,
}

impl Kind {
    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::BlankEntry,
            2 => Self::BatchEntry,
            3 => Self::MembershipEntry,
            4 => Self::Vote,
            5 => Self::Purged,
            6 => Self::Committed,
            7 => Self::SnapshotHead,
            8 => Self::SnapshotChunk,
            9 => Self::Meta,
            10 => Self::Reach,
            _ => return None,
        })
    }
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It should be there and is not.
    #[error("it is missing")]
    Missing,
    /// It is shorter than any record.
    #[error("it has only {len} bytes")]
    Short {
        /// Its length.
        len: usize,
    },
    /// Its bytes are not those that were written.
    #[error("its checksum is {computed:08x}, not {stored:08x}: its bytes have changed")]
    Checksum {
        /// The checksum in the record.
        stored: u32,
        /// The checksum of its key and bytes.
        computed: u32,
    },
    /// A later version of the software wrote it.
    #[error(
        "its format version {found} is newer than {VERSION}, the latest that this software knows"
    )]
    Version {
        /// The record's version.
        found: u8,
    },
    /// It is a record of another kind.
    #[error("it is of kind {found}, which does not belong there")]
    Kind {
        /// The record's kind.
        found: u8,
    },
    /// The checksum is right and the content is not: written wrongly.
    #[error("it is malformed: {0}")]
    Malformed(&'static str),
    /// The records are right and the state machine cannot read what they hold.
    #[error("its content cannot be read: {0}")]
    Content(String),
    /// The storage engine found its own files damaged.
    #[error("the storage engine cannot read it: {0}")]
    Engine(String),
}

/// Makes a record's value.
pub(crate) fn seal(kind: Kind, key: &[u8], payload: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut value = vec![VERSION, kind as u8];
    payload(&mut value);
    let checksum = checksum(key, &value);
    value.extend_from_slice(&checksum.to_be_bytes());
    value
}

/// Checks a record's value and gives its kind and payload.
pub(crate) fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<(Kind, Fields<'a>), Problem> {
    let short = Problem::Short { len: value.len() };
    if value.len() < OVERHEAD {
        return Err(short);
    }
    let Some((body, stored)) = value.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(short);
    };
    let stored = u32::from_be_bytes(*stored);
    let computed = checksum(key, body);
    if stored != computed {
        return Err(Problem::Checksum { stored, computed });
    }
    let [version, kind, payload @ ..] = body else {
        return Err(short);
    };
    if *version != VERSION {
        return Err(Problem::Version { found: *version });
    }
    let kind = Kind::from_byte(*kind).ok_or(Problem::Kind { found: *kind })?;
    Ok((kind, Fields(payload)))
}

/// Like [`open`], for a place where only one kind belongs.
pub(crate) fn open_as<'a>(
    expected: Kind,
    key: &[u8],
    value: &'a [u8],
) -> Result<Fields<'a>, Problem> {
    let (kind, fields) = open(key, value)?;
    if kind == expected {
        Ok(fields)
    } else {
        Err(Problem::Kind { found: kind as u8 })
    }
}

fn checksum(key: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(body);
    hasher.finalize()
}

/// Appends a log id: term, node, index.
pub(crate) fn put_log_id(out: &mut Vec<u8>, id: &LogId) {
    put_leader(out, &id.leader_id);
    out.extend_from_slice(&id.index.to_be_bytes());
}

/// Appends a leader id: term, node.
pub(crate) fn put_leader(out: &mut Vec<u8>, leader: &LeaderId) {
    out.extend_from_slice(&leader.term.to_be_bytes());
    out.extend_from_slice(&leader.node_id.to_be_bytes());
}

/// The part of a payload that has not been read yet. Numbers are big endian.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Problem> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(Problem::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// All that is left.
    pub(crate) fn rest(self) -> &'a [u8] {
        self.0
    }

    /// Checks that nothing is left.
    pub(crate) fn end(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Problem::Malformed("bytes are left over at its end"))
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        let (taken, rest) = self
            .0
            .split_first_chunk()
            .ok_or(Problem::Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    /// A yes or no.
    pub(crate) fn flag(&mut self) -> Result<bool, Problem> {
        match self.array::<1>()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Problem::Malformed("a flag is neither 0 nor 1")),
        }
    }

    /// A number of four bytes.
    pub(crate) fn u32(&mut self) -> Result<u32, Problem> {
        self.array().map(u32::from_be_bytes)
    }

    /// A number of eight bytes.
    pub(crate) fn u64(&mut self) -> Result<u64, Problem> {
        self.array().map(u64::from_be_bytes)
    }

    /// A leader id.
    pub(crate) fn leader(&mut self) -> Result<LeaderId, Problem> {
        Ok(LeaderId {
            term: self.u64()?,
            node_id: self.u64()?,
        })
    }

    /// A log id.
    pub(crate) fn log_id(&mut self) -> Result<LogId, Problem> {
        Ok(LogId {
            leader_id: self.leader()?,
            index: self.u64()?,
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Every flipped byte, every cut and a changed key must be refused by `decode`.
    pub(crate) fn assert_damage_is_detected<T: std::fmt::Debug>(
        key: &[u8],
        value: &[u8],
        decode: impl Fn(&[u8], &[u8]) -> Result<T, Problem>,
    ) {
        assert!(
            decode(key, value).is_ok(),
            "the undamaged record must decode"
        );
        for at in 0..value.len() {
            for mask in [0x01, 0x80, 0xff] {
                let mut damaged = value.to_vec();
                damaged[at] ^= mask;
                assert!(
                    decode(key, &damaged).is_err(),
                    "byte {at} flipped by {mask:02x}"
                );
            }
            assert!(decode(key, &value[..at]).is_err(), "cut to {at} bytes");
        }
        for at in 0..key.len() {
            let mut moved = key.to_vec();
            moved[at] ^= 1;
            assert!(decode(&moved, value).is_err(), "stored under another key");
        }
        let longer = [value, &[0]].concat();
        assert!(decode(key, &longer).is_err(), "a byte was added");
    }

    #[test]
    fn newer_versions_and_unknown_kinds_are_told_apart_from_damage() {
        let reseal = |version: u8, kind: u8| {
            let body = [version, kind];
            [&body[..], &checksum(b"key", &body).to_be_bytes()].concat()
        };
        assert_eq!(
            open(b"key", &reseal(2, 4)).err(),
            Some(Problem::Version { found: 2 })
        );
        assert_eq!(
            open(b"key", &reseal(1, 99)).err(),
            Some(Problem::Kind { found: 99 })
        );
        assert_eq!(
            open_as(Kind::Purged, b"key", &reseal(1, 4)).err(),
            Some(Problem::Kind { found: 4 })
        );
    }
}
