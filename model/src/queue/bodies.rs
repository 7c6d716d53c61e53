//! Where the bodies of a partition's plain messages are: a few bytes a message.
//!
//! Invariants: a message has at most one place here, given when it is published; a block of
//! [`BLOCK`] messages is kept while one of them is alive, and no longer.
//!
//! The machine never sees a body. Its place is the log entry that brought it and how many bodies came
//! before it in that entry; under these a checkpoint keeps it too, with its checksum beside it.

use std::{collections::BTreeMap, sync::Arc};

use super::id::{LogIndex, Sequence};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, check_bounds, fields, put_count, put_varint},
    id::ShardTime,
};

/// Messages of a block: looking one up reads half of it, 50 ns; what a block takes beside its bytes, 80
/// bytes, is then less than one a message.
const BLOCK: u64 = 128;
/// Blocks of a group, which a change copies once after the state was set aside: 4 KiB of pointers.
const GROUP: u64 = 512;

/// Where a body is, and how long it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BodyRef {
    /// The log entry that brought it.
    pub index: LogIndex,
    /// How many bodies come before it in that entry.
    pub ordinal: u32,
    /// In bytes.
    pub length: u32,
}

fields!(BodyRef {
    index,
    ordinal,
    length
});

/// What is kept of a plain message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) body: BodyRef,
    pub(crate) since: ShardTime,
}

/// Plain messages that one command brought, one after another.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) first: Sequence,
    pub(crate) index: LogIndex,
    /// Of the first.
    pub(crate) ordinal: u32,
    pub(crate) since: ShardTime,
    /// Of each.
    pub(crate) lengths: Vec<u32>,
}

impl Arrival {
    /// True if such a message is the next of these.
    pub(crate) fn follows(&self, sequence: Sequence, ordinal: u32) -> bool {
        let count = self.lengths.len() as u64;
        self.first.0 + count == sequence.0 && u64::from(self.ordinal) + count == ordinal.into()
    }
}

/// The plain messages of a partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bodies {
    groups: BTreeMap<u64, Arc<Group>>,
}

type Group = BTreeMap<u64, Arc<Block>>;

/// Up to [`BLOCK`] messages of successive sequences, as spans.
#[derive(Clone, Debug, Default)]
struct Block {
    /// How many of its messages are alive; not encoded.
    alive: u16,
    bytes: Vec<u8>,
}

/// Messages of one entry whose sequences and ordinals follow on each other.
#[derive(Clone, Debug, Default)]
struct Span {
    /// Of the first message, within the block.
    offset: u64,
    index: u64,
    /// Of the first message.
    ordinal: u64,
    since: u64,
    count: u64,
    lengths: Lengths,
}

#[derive(Clone, Debug)]
enum Lengths {
    /// All are as long.
    Same(u32),
    /// One after another.
    Each(Vec<u32>),
}

impl Default for Lengths {
    fn default() -> Self {
        Self::Same(0)
    }
}

impl Bodies {
    /// Keeps the places of messages. Their sequences are the greatest so far; they are alive.
    pub(crate) fn append(&mut self, arrival: &Arrival) {
        let mut sequence = arrival.first.0;
        let mut ordinal = u64::from(arrival.ordinal);
        let mut rest = arrival.lengths.as_slice();
        while !rest.is_empty() {
            let (at, offset) = (sequence / BLOCK, sequence % BLOCK);
            // A block has few messages.
            let room = (BLOCK - offset) as usize;
            let (lengths, more) = rest.split_at(room.min(rest.len()));
            rest = more;
            let count = lengths.len() as u64;
            let group = Arc::make_mut(self.groups.entry(at / GROUP).or_default());
            let block = Arc::make_mut(group.entry(at).or_default());
            block.alive += count as u16;
            block.append(&Span {
                offset,
                index: arrival.index.0,
                ordinal,
                since: arrival.since.0,
                count,
                lengths: Lengths::of(lengths),
            });
            sequence += count;
            ordinal += count;
        }
    }

    /// The place of a message that is alive.
    pub(crate) fn get(&self, sequence: Sequence) -> Option<Plain> {
        let (at, offset) = (sequence.0 / BLOCK, sequence.0 % BLOCK);
        let block = self.groups.get(&(at / GROUP))?.get(&at)?;
        let mut spans = block.spans();
        let span = spans.find(|span| offset < span.offset + span.count)?;
        span.get(offset.checked_sub(span.offset)?)
    }

    /// A message is not alive any more.
    pub(crate) fn forget(&mut self, sequence: Sequence) {
        let at = sequence.0 / BLOCK;
        let Some(group) = self.groups.get_mut(&(at / GROUP)) else {
            return;
        };
        let group = Arc::make_mut(group);
        match group.get_mut(&at) {
            Some(block) if block.alive > 1 => Arc::make_mut(block).alive -= 1,
            Some(_) | None => {
                group.remove(&at);
            }
        }
        if group.is_empty() {
            self.groups.remove(&(at / GROUP));
        }
    }

    /// While it is restored: a message is alive. Gives its place.
    pub(crate) fn revive(&mut self, sequence: Sequence) -> Option<Plain> {
        let plain = self.get(sequence)?;
        let at = sequence.0 / BLOCK;
        let group = Arc::make_mut(self.groups.get_mut(&(at / GROUP))?);
        let block = Arc::make_mut(group.get_mut(&at)?);
        block.alive = block.alive.saturating_add(1);
        Some(plain)
    }

    /// True if each block has a message that is alive.
    pub(crate) fn are_used(&self) -> bool {
        self.blocks().all(|(_, block)| block.alive > 0)
    }

    /// All that is in blocks that are still here, of entries after `after`. Not all are alive.
    pub(crate) fn after(&self, after: LogIndex) -> impl Iterator<Item = (Sequence, BodyRef)> + '_ {
        self.blocks().flat_map(move |(at, block)| {
            let spans = block.spans().filter(move |span| span.index > after.0);
            spans.flat_map(move |span| {
                let messages = (0..span.count).filter_map(move |nth| {
                    let sequence = Sequence(at * BLOCK + span.offset + nth);
                    Some((sequence, span.get(nth)?.body))
                });
                messages.collect::<Vec<_>>()
            })
        })
    }

    /// The first entry of which a body is in a block that is still here.
    pub(crate) fn oldest(&self) -> Option<LogIndex> {
        let (_, block) = self.blocks().next()?;
        let first = block.spans().next()?;
        Some(LogIndex(first.index))
    }

    fn blocks(&self) -> impl Iterator<Item = (u64, &Block)> {
        let blocks = self.groups.values().flat_map(|group| group.iter());
        blocks.map(|(at, block)| (*at, &**block))
    }
}

impl Block {
    fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        let mut input = Reader::new(&self.bytes);
        let mut before = Span::default();
        std::iter::from_fn(move || {
            if input.remaining() == 0 {
                return None;
            }
            before = Span::read(&mut input, &before).ok()?;
            Some(before.clone())
        })
    }

    fn append(&mut self, span: &Span) {
        let before = self.spans().last().unwrap_or_default();
        span.put(&before, &mut self.bytes);
        if span.offset + span.count == BLOCK {
            self.bytes.shrink_to_fit();
        }
    }
}

/// The span does not begin where the last one ended: how many sequences lie between.
const GAP: u64 = 1;
/// It is of another entry than the last one, whose difference follows.
const ENTRY: u64 = 2;
/// Its first ordinal is not 0 in another entry, nor the next one in the same.
const ORDINAL: u64 = 4;
/// Its messages are not as long as the last one before: how long they are.
const LENGTH: u64 = 8;
/// They are not all as long.
const EACH: u64 = 16;
/// How many bits these take.
const FLAGS: u32 = 5;

impl Span {
    fn get(&self, nth: u64) -> Option<Plain> {
        let length = match &self.lengths {
            Lengths::Same(length) => *length,
            Lengths::Each(lengths) => *lengths.get(usize::try_from(nth).ok()?)?,
        };
        Some(Plain {
            body: BodyRef {
                index: LogIndex(self.index),
                ordinal: u32::try_from(self.ordinal + nth).ok()?,
                length,
            },
            since: ShardTime(self.since),
        })
    }

    /// The ordinal that follows in the same entry.
    const fn next_ordinal(&self) -> u64 {
        self.ordinal + self.count
    }

    /// Appends it, as the one after `before`.
    fn put(&self, before: &Self, out: &mut Vec<u8>) {
        let gap = self.offset - (before.offset + before.count);
        let is_other = self.index != before.index || self.since != before.since;
        let ordinal = if is_other { 0 } else { before.next_ordinal() };
        let mut header = self.count << FLAGS;
        header |= if gap > 0 { GAP } else { 0 };
        header |= if is_other { ENTRY } else { 0 };
        header |= if self.ordinal == ordinal { 0 } else { ORDINAL };
        header |= match &self.lengths {
            Lengths::Same(length) if *length == before.lengths.last() => 0,
            Lengths::Same(_) => LENGTH,
            Lengths::Each(_) => EACH,
        };
        put_varint(out, header);
        if header & GAP > 0 {
            put_varint(out, gap);
        }
        if is_other {
            put_varint(out, self.index - before.index);
            put_varint(out, self.since - before.since);
        }
        if header & ORDINAL > 0 {
            put_varint(out, self.ordinal);
        }
        match &self.lengths {
            Lengths::Same(length) if header & LENGTH > 0 => length.encode_into(out),
            Lengths::Same(_) => {}
            Lengths::Each(lengths) => lengths.iter().for_each(|length| length.encode_into(out)),
        }
    }

    fn read(input: &mut Reader<'_>, before: &Self) -> Result<Self, DecodeError> {
        const BEYOND: DecodeError = DecodeError::Inconsistent {
            what: "a span of messages beyond its block",
        };
        let header = input.varint()?;
        let count = header >> FLAGS;
        let mut offset = before.offset + before.count;
        if header & GAP > 0 {
            offset = offset.checked_add(input.varint()?).ok_or(BEYOND)?;
        }
        let end = offset.checked_add(count).ok_or(BEYOND)?;
        if count == 0 || end > BLOCK {
            return Err(BEYOND);
        }
        let (mut index, mut since, mut ordinal) = (before.index, before.since, 0);
        if header & ENTRY > 0 {
            index = index.checked_add(input.varint()?).ok_or(BEYOND)?;
            since = since.checked_add(input.varint()?).ok_or(BEYOND)?;
        } else {
            ordinal = before.next_ordinal();
        }
        if header & ORDINAL > 0 {
            ordinal = input.varint()?;
        }
        check_bounds("ordinal of a body", ordinal, 0, u32::MAX.into())?;
        check_bounds("ordinal of a body", ordinal + count, 0, u32::MAX.into())?;
        let lengths = if header & EACH > 0 {
            let lengths = (0..count).map(|_| u32::decode_from(input));
            Lengths::Each(lengths.collect::<Result<_, _>>()?)
        } else if header & LENGTH > 0 {
            Lengths::Same(Decode::decode_from(input)?)
        } else {
            Lengths::Same(before.lengths.last())
        };
        Ok(Self {
            offset,
            index,
            ordinal,
            since,
            count,
            lengths,
        })
    }
}

impl Lengths {
    fn of(lengths: &[u32]) -> Self {
        let first = lengths.first().copied().unwrap_or_default();
        if lengths.iter().all(|length| *length == first) {
            Self::Same(first)
        } else {
            Self::Each(lengths.to_vec())
        }
    }

    fn last(&self) -> u32 {
        match self {
            Self::Same(length) => *length,
            Self::Each(lengths) => lengths.last().copied().unwrap_or_default(),
        }
    }
}

impl Encode for Bodies {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_count(out, self.blocks().count());
        for (at, block) in self.blocks() {
            put_varint(out, at);
            put_count(out, block.bytes.len());
            out.extend_from_slice(&block.bytes);
        }
    }
}

/// Nothing is alive yet.
impl Decode for Bodies {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.count()?;
        let mut bodies = Self::default();
        let mut last = None;
        for _ in 0..count {
            let at = input.varint()?;
            check_bounds("number of a block", at, 0, u64::MAX / BLOCK)?;
            if last.is_some_and(|last| last >= at) {
                return Err(DecodeError::NotAscending);
            }
            last = Some(at);
            let length = input.count()?;
            let bytes = input.take(length)?.to_vec();
            check_block(&bytes)?;
            let group = bodies.groups.entry(at / GROUP).or_default();
            let block = Block { alive: 0, bytes };
            Arc::make_mut(group).insert(at, Arc::new(block));
        }
        Ok(bodies)
    }
}

/// Checks that a block's bytes are what its spans are written as.
fn check_block(bytes: &[u8]) -> Result<(), DecodeError> {
    let mut input = Reader::new(bytes);
    let mut before = Span::default();
    let mut again = Vec::with_capacity(bytes.len());
    while input.remaining() > 0 {
        let span = Span::read(&mut input, &before)?;
        span.put(&before, &mut again);
        before = span;
    }
    if again == bytes {
        Ok(())
    } else {
        Err(DecodeError::Inconsistent {
            what: "places of bodies in another form than they are written in",
        })
    }
}

#[cfg(test)]
mod tests;
