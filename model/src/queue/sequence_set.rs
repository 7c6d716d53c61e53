//! A set of numbers, small however it is shaped: chunks of 64 Ki, each runs or a bitmap.
//!
//! Invariants: no chunk is empty; runs are ascending and do not touch each other; a copy shares the
//! chunks, and a change copies at most one, 8 KiB; the encoding depends on the numbers alone.
//!
//! A backlog of ten million messages is one run a chunk. Acknowledged alternately it would be five
//! million runs, which are bitmaps of 1.3 MB here. After Roaring bitmaps (Lemire et al., "Consistently
//! faster and smaller compressed bitmaps with Roaring", 2016), without their arrays: for what is as
//! sparse, runs take twice as much, and never more than a bitmap.

use std::{collections::BTreeMap, sync::Arc};

use crate::codec::{Decode, DecodeError, Encode, Reader, check_bounds, put_count, put_varint};

/// Numbers in a chunk.
const CHUNK: u64 = 1 << 16;
/// Words of a bitmap.
const WORDS: usize = 1_024;
/// Most runs of a chunk: more take as much as a bitmap when encoded.
const MAX_RUNS: usize = 2_048;
/// A bitmap of so few numbers becomes runs again; far fewer than [`MAX_RUNS`], so that it does not go
/// back and forth.
const FEW: u32 = 512;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct SequenceSet {
    chunks: BTreeMap<u64, Arc<Chunk>>,
    len: u64,
}

#[derive(Clone, Debug)]
enum Chunk {
    Runs(Vec<Run>),
    Bits(Box<Bits>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    first: u16,
    last: u16,
}

#[derive(Clone, Debug)]
struct Bits {
    words: [u64; WORDS],
    len: u32,
}

const fn split(number: u64) -> (u64, u16) {
    // The cast keeps the low sixteen bits.
    (number / CHUNK, (number % CHUNK) as u16)
}

const fn join(chunk: u64, low: u16) -> u64 {
    chunk * CHUNK + low as u64
}

impl SequenceSet {
    /// An empty set.
    pub(crate) const fn new() -> Self {
        Self {
            chunks: BTreeMap::new(),
            len: 0,
        }
    }

    /// How many numbers are in it.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// True if it is in it.
    pub(crate) fn contains(&self, number: u64) -> bool {
        let (chunk, low) = split(number);
        let chunk = self.chunks.get(&chunk);
        chunk.is_some_and(|chunk| chunk.at_or_after(low) == Some(low))
    }

    /// Puts one in. False if it was there.
    pub(crate) fn insert(&mut self, number: u64) -> bool {
        let (chunk, low) = split(number);
        let chunk = self
            .chunks
            .entry(chunk)
            .or_insert_with(|| Arc::new(Chunk::Runs(Vec::new())));
        let is_new = Arc::make_mut(chunk).insert(low);
        self.len += u64::from(is_new);
        is_new
    }

    /// Takes one out. False if it was not there.
    pub(crate) fn remove(&mut self, number: u64) -> bool {
        let (at, low) = split(number);
        let Some(chunk) = self.chunks.get_mut(&at) else {
            return false;
        };
        if chunk.at_or_after(low) != Some(low) {
            return false;
        }
        let chunk = Arc::make_mut(chunk);
        chunk.remove(low);
        if chunk.at_or_after(0).is_none() {
            self.chunks.remove(&at);
        }
        self.len -= 1;
        true
    }

    /// The least.
    pub(crate) fn first(&self) -> Option<u64> {
        self.at_or_after(0)
    }

    /// The least that is not less than `number`.
    pub(crate) fn at_or_after(&self, number: u64) -> Option<u64> {
        let (at, low) = split(number);
        let mut chunks = self.chunks.range(at..);
        let (first, chunk) = chunks.next()?;
        let low = if *first == at { low } else { 0 };
        if let Some(found) = chunk.at_or_after(low) {
            return Some(join(*first, found));
        }
        let (next, chunk) = chunks.next()?;
        chunk.at_or_after(0).map(|found| join(*next, found))
    }

    /// Takes out all that are less than `number`.
    pub(crate) fn remove_below(&mut self, number: u64) {
        while let Some(first) = self.first()
            && first < number
        {
            let (at, _) = split(first);
            if at < split(number).0 {
                let gone = self.chunks.remove(&at);
                self.len -= gone.map_or(0, |chunk| chunk.len());
            } else {
                self.remove(first);
            }
        }
    }

    /// All, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.chunks.iter().flat_map(|(at, chunk)| {
            let runs = chunk.runs();
            runs.flat_map(|run| (run.first..=run.last).map(|low| join(*at, low)))
        })
    }
}

impl Chunk {
    fn len(&self) -> u64 {
        match self {
            Self::Runs(runs) => runs.iter().map(|run| run.len()).sum(),
            Self::Bits(bits) => bits.len.into(),
        }
    }

    fn at_or_after(&self, low: u16) -> Option<u16> {
        match self {
            Self::Runs(runs) => {
                let next = runs.partition_point(|run| run.last < low);
                runs.get(next).map(|run| run.first.max(low))
            }
            Self::Bits(bits) => bits.at_or_after(low, |word| word),
        }
    }

    /// The least number from `low` on that is not in it; none if there is none.
    fn gap_at_or_after(&self, low: u16) -> Option<u16> {
        match self {
            Self::Runs(runs) => {
                let next = runs.partition_point(|run| run.last < low);
                match runs.get(next) {
                    Some(run) if run.first <= low => run.last.checked_add(1),
                    Some(_) | None => Some(low),
                }
            }
            Self::Bits(bits) => bits.at_or_after(low, |word| !word),
        }
    }

    /// The runs, ascending.
    fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let mut from = Some(0);
        std::iter::from_fn(move || {
            let first = self.at_or_after(from?)?;
            let end = self.gap_at_or_after(first);
            from = end;
            let last = end.map_or(u16::MAX, |end| end.saturating_sub(1));
            Some(Run { first, last })
        })
    }

    fn insert(&mut self, low: u16) -> bool {
        let is_new = match self {
            Self::Runs(runs) => insert_run(runs, low),
            Self::Bits(bits) => bits.set(low, true),
        };
        if let Self::Runs(runs) = self
            && runs.len() > MAX_RUNS
        {
            *self = Self::bits(runs);
        }
        is_new
    }

    fn remove(&mut self, low: u16) {
        match self {
            Self::Runs(runs) => remove_from_run(runs, low),
            Self::Bits(bits) => {
                bits.set(low, false);
            }
        }
        match self {
            Self::Runs(runs) if runs.len() > MAX_RUNS => *self = Self::bits(runs),
            Self::Bits(bits) if bits.len <= FEW => *self = Self::Runs(self.runs().collect()),
            Self::Runs(_) | Self::Bits(_) => {}
        }
    }

    fn bits(runs: &[Run]) -> Self {
        let mut bits = Box::new(Bits {
            words: [0; WORDS],
            len: 0,
        });
        for run in runs {
            for low in run.first..=run.last {
                bits.set(low, true);
            }
        }
        Self::Bits(bits)
    }
}

impl Run {
    fn len(self) -> u64 {
        u64::from(self.last - self.first) + 1
    }
}

fn insert_run(runs: &mut Vec<Run>, low: u16) -> bool {
    let next = runs.partition_point(|run| run.last < low);
    if runs.get(next).is_some_and(|run| run.first <= low) {
        return false;
    }
    let joins_next = runs.get(next).is_some_and(|run| run.first - 1 == low);
    let before = next.checked_sub(1).and_then(|at| runs.get_mut(at));
    if let Some(before) = before
        && before.last + 1 == low
    {
        before.last = low;
        if joins_next {
            let end = runs.remove(next).last;
            if let Some(before) = next.checked_sub(1).and_then(|at| runs.get_mut(at)) {
                before.last = end;
            }
        }
    } else if let Some(run) = runs.get_mut(next).filter(|_| joins_next) {
        run.first = low;
    } else {
        let (first, last) = (low, low);
        runs.insert(next, Run { first, last });
    }
    true
}

fn remove_from_run(runs: &mut Vec<Run>, low: u16) {
    let at = runs.partition_point(|run| run.last < low);
    let Some(run) = runs.get_mut(at).filter(|run| run.first <= low) else {
        return;
    };
    let Run { first, last } = *run;
    match (first == low, last == low) {
        (true, true) => {
            runs.remove(at);
        }
        (true, false) => run.first += 1,
        (false, true) => run.last -= 1,
        (false, false) => {
            run.last = low - 1;
            let first = low + 1;
            runs.insert(at + 1, Run { first, last });
        }
    }
}

impl Bits {
    /// False if it was so already.
    fn set(&mut self, low: u16, is_in: bool) -> bool {
        let Some(word) = self.words.get_mut(usize::from(low / 64)) else {
            return false;
        };
        let bit = 1_u64 << (low % 64);
        if (*word & bit != 0) == is_in {
            return false;
        }
        *word ^= bit;
        if is_in {
            self.len += 1;
        } else {
            self.len -= 1;
        }
        true
    }

    /// The first bit from `low` on that is set in what `seen` makes of the words.
    fn at_or_after(&self, low: u16, seen: impl Fn(u64) -> u64) -> Option<u16> {
        let first = usize::from(low / 64);
        let words = self.words.iter().enumerate().skip(first);
        for (at, word) in words {
            let mut word = seen(*word);
            if at == first {
                word &= u64::MAX << (low % 64);
            }
            if word != 0 {
                // A chunk has 1,024 words of 64 bits.
                return u16::try_from(at * 64 + word.trailing_zeros() as usize).ok();
            }
        }
        None
    }
}

const RUNS: u8 = 1;
const BITS: u8 = 2;

impl Encode for SequenceSet {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_count(out, self.chunks.len());
        for (at, chunk) in &self.chunks {
            put_varint(out, *at);
            let count = chunk.runs().take(MAX_RUNS + 1).count();
            if count <= MAX_RUNS {
                out.push(RUNS);
                put_count(out, count);
                for run in chunk.runs() {
                    run.first.encode_into(out);
                    (run.last - run.first).encode_into(out);
                }
            } else {
                out.push(BITS);
                let mut words = [0_u64; WORDS];
                for run in chunk.runs() {
                    for low in run.first..=run.last {
                        if let Some(word) = words.get_mut(usize::from(low / 64)) {
                            *word |= 1 << (low % 64);
                        }
                    }
                }
                let bytes = words.iter().flat_map(|word| word.to_le_bytes());
                out.extend(bytes);
            }
        }
    }
}

impl Decode for SequenceSet {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.count()?;
        let mut set = Self::new();
        for _ in 0..count {
            let at = input.varint()?;
            check_bounds("number of a chunk", at, 0, u64::MAX / CHUNK)?;
            if set
                .chunks
                .last_key_value()
                .is_some_and(|(last, _)| *last >= at)
            {
                return Err(DecodeError::NotAscending);
            }
            let chunk = match input.byte()? {
                RUNS => decode_runs(input)?,
                BITS => decode_bits(input)?,
                tag => {
                    let what = "chunk of a set";
                    return Err(DecodeError::UnknownTag { what, tag });
                }
            };
            set.len += chunk.len();
            set.chunks.insert(at, Arc::new(chunk));
        }
        Ok(set)
    }
}

fn decode_runs(input: &mut Reader<'_>) -> Result<Chunk, DecodeError> {
    let count = input.count()?;
    check_bounds("number of runs", count as u64, 1, MAX_RUNS as u64)?;
    let mut runs: Vec<Run> = Vec::with_capacity(count);
    for _ in 0..count {
        let first = u16::decode_from(input)?;
        let more = u16::decode_from(input)?;
        let last = first.checked_add(more).ok_or(DecodeError::BadInteger)?;
        // Those that touch would be one.
        let is_apart = |before: &Run| u32::from(before.last) + 1 < u32::from(first);
        if !runs.last().is_none_or(is_apart) {
            return Err(DecodeError::NotAscending);
        }
        runs.push(Run { first, last });
    }
    Ok(Chunk::Runs(runs))
}

fn decode_bits(input: &mut Reader<'_>) -> Result<Chunk, DecodeError> {
    let mut bits = Box::new(Bits {
        words: [0; WORDS],
        len: 0,
    });
    for word in &mut bits.words {
        *word = u64::from_le_bytes(input.array()?);
        bits.len += word.count_ones();
    }
    let chunk = Chunk::Bits(bits);
    if chunk.runs().take(MAX_RUNS + 1).count() <= MAX_RUNS {
        return Err(DecodeError::Inconsistent {
            what: "a bitmap that would be shorter as runs",
        });
    }
    Ok(chunk)
}

#[cfg(test)]
mod tests;
