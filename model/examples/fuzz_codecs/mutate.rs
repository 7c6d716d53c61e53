//! Damage: what bad disks, bad networks and bad programs do to bytes, and what confuses decoders.
//!
//! Invariant: no input grows beyond [`MAX_BYTES`].

use std::ops::Range;

use lockstep_model::codec::put_varint;
use proptest::{prelude::*, test_runner::TestRng};

/// Longest input: longer ones repeat what shorter ones show, more slowly.
pub(crate) const MAX_BYTES: usize = 64 * 1024;
/// Most damages to one input.
const MAX_DAMAGES: usize = 6;
/// Longest stretch that is inserted anew.
const MAX_INSERTED: usize = 9;
/// Bytes at which something changes: tags, signs, continuation bits.
const BYTES: [u8; 10] = [0, 1, 2, 3, 0x10, 0x7f, 0x80, 0x81, 0xfe, 0xff];
/// Numbers around the bounds of counts, lengths and integers.
const NUMBERS: [u64; 20] = [
    0,
    1,
    63,
    64,
    65,
    127,
    128,
    256,
    257,
    511,
    512,
    513,
    4_096,
    4_097,
    65_536,
    u32::MAX as u64,
    u32::MAX as u64 + 1,
    1 << 63,
    u64::MAX - 1,
    u64::MAX,
];

/// Damages an input, once or several times. `other` is another valid one, for pieces.
pub(crate) fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut TestRng) {
    for _ in 0..rng.random_range(1..=MAX_DAMAGES) {
        damage(bytes, other, rng);
    }
    bytes.truncate(MAX_BYTES);
}

fn damage(bytes: &mut Vec<u8>, other: &[u8], rng: &mut TestRng) {
    let at = place(bytes, rng);
    match rng.random_range(0..10_u8) {
        0 => change(bytes, at, |byte| byte ^ (1 << rng.random_range(0..8_u8))),
        1 => {
            let new = BYTES.get(rng.random_range(0..BYTES.len())).copied();
            change(bytes, at, |_| new.unwrap_or_default());
        }
        2 => {
            let step = if rng.random() { 1 } else { u8::MAX };
            change(bytes, at, |byte| byte.wrapping_add(step));
        }
        3 => bytes.truncate(at),
        4 => {
            let length = rng.random_range(1..MAX_INSERTED);
            let new: Vec<u8> = (0..length).map(|_| rng.random()).collect();
            bytes.splice(at..at, new);
        }
        5 => drop(bytes.drain(stretch(bytes, rng))),
        6 => {
            let copy = bytes.get(stretch(bytes, rng)).unwrap_or_default().to_vec();
            bytes.splice(at..at, copy);
        }
        7 => {
            let tail = other.get(place(other, rng)..).unwrap_or_default();
            bytes.truncate(at);
            bytes.extend_from_slice(tail);
        }
        8 => {
            let piece = other.get(stretch(other, rng)).unwrap_or_default();
            let end = bytes.len().min(at.saturating_add(piece.len()));
            bytes.splice(at..end, piece.iter().copied());
        }
        _ => {
            let mut number = Vec::new();
            put_varint(&mut number, length_field(bytes.len() - at, rng));
            let end = bytes.len().min(at + 1);
            bytes.splice(at..end, number);
        }
    }
}

/// A number for where a length or count may be: around what is left, or around a bound.
fn length_field(left: usize, rng: &mut TestRng) -> u64 {
    let left = left as u64;
    match rng.random_range(0..3_u8) {
        0 => left
            .saturating_add(rng.random_range(0..3))
            .saturating_sub(1),
        1 => rng.random_range(0..=left),
        _ => {
            let chosen = NUMBERS.get(rng.random_range(0..NUMBERS.len()));
            chosen.copied().unwrap_or_default()
        }
    }
}

fn change(bytes: &mut [u8], at: usize, to: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = to(*byte);
    }
}

/// A position, the end included.
fn place(bytes: &[u8], rng: &mut TestRng) -> usize {
    rng.random_range(0..=bytes.len())
}

fn stretch(bytes: &[u8], rng: &mut TestRng) -> Range<usize> {
    let (one, two) = (place(bytes, rng), place(bytes, rng));
    one.min(two)..one.max(two)
}
