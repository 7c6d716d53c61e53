//! One group of changes in a segment.
//!
//! ```text
//! CRC-32 of all that follows u32 | payload length u32 | salt u64 | group u64 | durable u64 | payload
//! payload: changes, each: kind u8 | family u8 | length u32 | length u32 | bytes | bytes
//! ```
//! All numbers are big endian.
//!
//! Invariant: bytes that were not written as a frame of a segment's present use are never taken for
//! one. The salt of 64 random bits is of that use alone ([`Generation`]): neither what an earlier use left
//! there has it, nor what a client wrote, who cannot know it.

use std::{io, num::TryFromIntError};

use super::segment::Generation;
use crate::storage::{family::Family, high_water::Group, op::Op};

/// Checksum, length, salt, group and durable group.
pub(super) const HEAD_BYTES: usize = 32;
/// Where the salt is.
pub(super) const SALT_AT: usize = 8;
const CHECKSUM_BYTES: usize = 4;
/// Kind, family and two lengths.
const CHANGE_HEAD_BYTES: usize = 10;

const PUT: u8 = 1;
const DELETE_RANGE: u8 = 2;

/// What a frame says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Of its segment.
    pub(super) generation: Generation,
    /// Which one it is. In the first frame of a segment, which has no changes, the one before.
    pub(super) group: Group,
    /// All groups up to this one were durable when it was written.
    pub(super) durable: Group,
}

/// A frame that was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame<'b> {
    pub(super) head: Head,
    payload: &'b [u8],
}

/// Appends a frame to a buffer.
///
/// # Errors
/// If a change is larger than 4 GiB, which no request is.
pub(super) fn write<'o>(
    out: &mut Vec<u8>,
    head: Head,
    ops: impl Iterator<Item = &'o Op>,
) -> io::Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    for op in ops {
        let (kind, family, first, second) = match op {
            Op::Put(family, key, value) => (PUT, family, key, value),
            Op::DeleteRange(family, from, to) => (DELETE_RANGE, family, from, to),
        };
        out.extend_from_slice(&[kind, family.code()]);
        for part in [first, second] {
            out.extend_from_slice(&length(part.len())?.to_be_bytes());
        }
        out.extend_from_slice(first);
        out.extend_from_slice(second);
    }
    let payload = length(out.len() - start - HEAD_BYTES)?;
    let mut fields = Vec::with_capacity(HEAD_BYTES - CHECKSUM_BYTES);
    fields.extend_from_slice(&payload.to_be_bytes());
    for number in [head.generation.salt, head.group.0, head.durable.0] {
        fields.extend_from_slice(&number.to_be_bytes());
    }
    let Some(frame) = out.get_mut(start..) else {
        return Ok(());
    };
    let (checksum, rest) = frame.split_at_mut(CHECKSUM_BYTES);
    if let Some(place) = rest.get_mut(..fields.len()) {
        place.copy_from_slice(&fields);
    }
    checksum.copy_from_slice(&crc32fast::hash(rest).to_be_bytes());
    Ok(())
}

fn length(length: usize) -> io::Result<u32> {
    let too_large = |error: TryFromIntError| io::Error::new(io::ErrorKind::InvalidInput, error);
    u32::try_from(length).map_err(too_large)
}

/// The frame of a generation that begins these bytes, if one does.
pub(super) fn read(bytes: &[u8], generation: Generation) -> Option<Frame<'_>> {
    let (checksum, rest) = bytes.split_first_chunk::<CHECKSUM_BYTES>()?;
    let (payload, fields) = rest.split_first_chunk()?;
    let (found, fields) = fields.split_first_chunk()?;
    if u64::from_be_bytes(*found) != generation.salt {
        return None;
    }
    let (group, fields) = fields.split_first_chunk()?;
    let (durable, _) = fields.split_first_chunk()?;
    let payload = usize::try_from(u32::from_be_bytes(*payload)).ok()?;
    let body = rest.get(..HEAD_BYTES - CHECKSUM_BYTES + payload)?;
    if crc32fast::hash(body) != u32::from_be_bytes(*checksum) {
        return None;
    }
    let head = Head {
        generation,
        group: Group(u64::from_be_bytes(*group)),
        durable: Group(u64::from_be_bytes(*durable)),
    };
    let payload = body.get(HEAD_BYTES - CHECKSUM_BYTES..)?;
    Some(Frame { head, payload })
}

impl Frame<'_> {
    /// Bytes that it takes.
    pub(super) const fn length(&self) -> usize {
        HEAD_BYTES + self.payload.len()
    }

    /// Its changes; none if they are not of kinds that this version knows.
    pub(super) fn ops(&self) -> Option<Vec<Op>> {
        let mut ops = Vec::new();
        let mut rest = self.payload;
        while !rest.is_empty() {
            let (head, parts) = rest.split_first_chunk::<CHANGE_HEAD_BYTES>()?;
            let [kind, family, a, b, c, d, e, f, g, h] = *head;
            let first = usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()?;
            let second = usize::try_from(u32::from_be_bytes([e, f, g, h])).ok()?;
            let family = Family::of_code(family)?;
            let (first, parts) = parts.split_at_checked(first)?;
            let (second, parts) = parts.split_at_checked(second)?;
            let (first, second) = (first.to_vec(), second.to_vec());
            ops.push(match kind {
                PUT => Op::Put(family, first, second),
                DELETE_RANGE => Op::DeleteRange(family, first, second),
                _ => return None,
            });
            rest = parts;
        }
        Some(ops)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USE: Generation = Generation {
        number: 7,
        salt: 0x5a17,
    };

    #[test]
    fn frames_survive_the_round_trip_and_every_changed_byte_is_noticed() {
        let head = Head {
            generation: USE,
            group: Group(1 << 40),
            durable: Group((1 << 40) - 1),
        };
        let ops = [
            Op::Put(Family::Log, b"key".into(), vec![b'v'; 100]),
            Op::DeleteRange(Family::Vote, b"".into(), b"to".into()),
        ];
        let mut bytes = b"before".to_vec();
        write(&mut bytes, head, ops.iter()).unwrap();
        let bytes = bytes.split_off(6);
        let with_more = [&bytes[..], b"more"].concat();
        let frame = read(&with_more, USE).unwrap();
        assert_eq!(frame.head, head);
        assert_eq!(frame.length(), bytes.len());
        assert_eq!(frame.ops().unwrap(), ops);

        let other = Generation {
            salt: USE.salt + 1,
            ..USE
        };
        assert!(read(&bytes, other).is_none());
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(read(&changed, USE).is_none(), "byte {at}");
            assert!(read(&bytes[..at], USE).is_none(), "cut at {at}");
        }
    }
}
