//! Which numbers of a producer were stored.
//!
//! Invariant: a number is below the floor (what became of it is forgotten, since its producer has the
//! answer), or among those that were stored, or new. A maximum would not do: numbers come out of order,
//! by several ways, and the one that comes late is not a repetition.
//!
//! A partition that messages move from is a producer too, of its moves; its floor is the lowest move that
//! it has not heard to be done.

use super::{
    id::{PartitionId, ProducerEpoch, ProducerId},
    sequence_set::SequenceSet,
};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, check_bounds, fields, tagged},
    id::{Millis, ShardTime},
};

/// Most numbers that are remembered of a producer in a partition: so many messages without an answer are
/// more than any connection needs.
pub const MAX_WINDOW: u64 = 65_536;
/// How long a producer is remembered that publishes nothing.
pub const PRODUCER_LIFE: Millis = Millis(3_600_000);
/// Most producers and sources that a partition remembers.
pub const MAX_PRODUCERS: u64 = 4_096;
/// Most message ids that a shard remembers: up to 300 bytes each.
pub const MAX_IDS: usize = 1 << 20;

/// Whose numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Numberer {
    Producer(ProducerEpoch),
    /// Of moves.
    Source(PartitionId),
}

/// What is remembered of a producer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// How it calls itself; none for a source.
    pub(crate) id: Option<ProducerId>,
    /// It is forgotten then.
    pub(crate) until: ShardTime,
    floor: u64,
    /// None is below the floor.
    stored: SequenceSet,
}

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    New,
    Stored,
    Forgotten,
    /// It is new, but there is no room to remember it.
    NoRoom,
}

impl Window {
    /// Nothing is stored yet.
    pub(crate) fn new(id: Option<ProducerId>) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    /// All lower numbers are answered.
    pub(crate) fn raise(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.stored.remove_below(floor);
        }
    }

    pub(crate) fn look_up(&self, number: u64) -> Known {
        if number < self.floor {
            Known::Forgotten
        } else if self.stored.contains(number) {
            Known::Stored
        } else if self.stored.len() < MAX_WINDOW {
            Known::New
        } else {
            Known::NoRoom
        }
    }

    pub(crate) fn store(&mut self, number: u64) {
        self.stored.insert(number);
    }
}

impl Encode for Window {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.id.encode_into(out);
        self.until.encode_into(out);
        self.floor.encode_into(out);
        self.stored.encode_into(out);
    }
}

impl Decode for Window {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let window = Self {
            id: Decode::decode_from(input)?,
            until: Decode::decode_from(input)?,
            floor: Decode::decode_from(input)?,
            stored: Decode::decode_from(input)?,
        };
        check_bounds("numbers of a producer", window.stored.len(), 0, MAX_WINDOW)?;
        if window
            .stored
            .first()
            .is_some_and(|first| first < window.floor)
        {
            return Err(DecodeError::Inconsistent {
                what: "a producer's number that is remembered and forgotten",
            });
        }
        Ok(window)
    }
}

tagged!(Numberer, "numberer", {
    1 => Producer(producer),
    2 => Source(source),
});

/// A message id that is remembered until then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RememberedId {
    pub(crate) until: ShardTime,
}

fields!(RememberedId { until });
