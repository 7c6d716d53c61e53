//! The core of a partition: what is small, and decides.
//!
//! Invariant: no number is given twice; what was published is what is there, and what was dropped for
//! one of the reasons that are counted.

use std::collections::BTreeMap;

use super::{
    bodies::Bodies,
    id::{ConsumerEpoch, MoveNumber, OrderingKey, ProducerEpoch, Rank, Sequence},
    row::State,
    sequence_set::SequenceSet,
};
use crate::codec::{Decode, DecodeError, Encode, Reader, check_bounds, fields};

/// No counter gets as far: see the snapshot of a shard's locks.
const LAST_COUNT: u64 = u64::MAX >> 2;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Partition {
    pub(crate) last_sequence: Sequence,
    pub(crate) last_consumer: ConsumerEpoch,
    pub(crate) last_producer: ProducerEpoch,
    pub(crate) last_move: MoveNumber,
    /// Plain messages that are ready.
    pub(crate) ready: SequenceSet,
    /// Where plain messages are, ready or leased.
    pub(crate) bodies: Bodies,
    /// Whose turn it is, of each priority that had messages with keys.
    pub(crate) rounds: BTreeMap<Rank, Round>,
    /// Which consumer got the last message.
    pub(crate) served: ConsumerEpoch,
    pub(crate) totals: Totals,
    /// Not encoded.
    pub(crate) counts: Counts,
}

/// Whose turn it is among the messages of one priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// The key that was served last: the next one after it is next.
    pub(crate) last: OrderingKey,
    /// True if messages with keys are next, false if those without.
    pub(crate) keyed: bool,
}

fields!(Round { last, keyed });

/// What became of a partition's messages, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// They were stored, those that moved here among them.
    pub published: u64,
    /// Consumers were done with them.
    pub acked: u64,
    /// They were too old.
    pub expired: u64,
    /// They were purged.
    pub purged: u64,
    /// They made room for others.
    pub dropped: u64,
    /// They are in another queue.
    pub moved: u64,
    /// Deliveries, first ones and others.
    pub delivered: u64,
    /// Tries that failed, or whose lease ran out.
    pub failed: u64,
}

fields!(Totals {
    published,
    acked,
    expired,
    purged,
    dropped,
    moved,
    delivered,
    failed
});

/// How many messages there are, by where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// To be delivered.
    pub ready: u64,
    /// To be delivered later.
    pub delayed: u64,
    /// With consumers.
    pub leased: u64,
    /// Given up, and kept.
    pub dead: u64,
    /// On their way to another queue.
    pub moving: u64,
    /// Of their bodies, in all.
    pub bytes: u64,
    /// Consumers that are remembered.
    pub consumers: u64,
    /// Producers that are remembered, and partitions that messages moved from.
    pub producers: u64,
}

fields!(Counts {
    ready,
    delayed,
    leased,
    dead,
    moving,
    bytes,
    consumers,
    producers
});

impl Counts {
    /// How many messages there are.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.ready + self.delayed + self.leased + self.dead + self.moving
    }

    pub(crate) const fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::Ready => &mut self.ready,
            State::Delayed => &mut self.delayed,
            State::Leased => &mut self.leased,
            State::Dead => &mut self.dead,
            State::Moving => &mut self.moving,
        }
    }

    pub(crate) const fn add(&mut self, state: State) {
        *self.of(state) += 1;
    }

    pub(crate) const fn subtract(&mut self, state: State) {
        let count = self.of(state);
        *count = count.saturating_sub(1);
    }
}

impl Encode for Partition {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let Self {
            last_sequence,
            last_consumer,
            last_producer,
            last_move,
            ready,
            bodies,
            rounds,
            served,
            totals,
            counts: _,
        } = self;
        last_sequence.encode_into(out);
        last_consumer.encode_into(out);
        last_producer.encode_into(out);
        last_move.encode_into(out);
        ready.encode_into(out);
        bodies.encode_into(out);
        rounds.encode_into(out);
        served.encode_into(out);
        totals.encode_into(out);
    }
}

impl Decode for Partition {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let partition = Self {
            last_sequence: Decode::decode_from(input)?,
            last_consumer: Decode::decode_from(input)?,
            last_producer: Decode::decode_from(input)?,
            last_move: Decode::decode_from(input)?,
            ready: Decode::decode_from(input)?,
            bodies: Decode::decode_from(input)?,
            rounds: Decode::decode_from(input)?,
            served: Decode::decode_from(input)?,
            totals: Decode::decode_from(input)?,
            counts: Counts::default(),
        };
        let Self {
            last_sequence,
            last_consumer,
            last_producer,
            last_move,
            ..
        } = partition;
        check_bounds("last sequence", last_sequence.0, 0, LAST_COUNT)?;
        check_bounds("last consumer", last_consumer.0, 0, LAST_COUNT)?;
        check_bounds("last producer", last_producer.0, 0, LAST_COUNT)?;
        check_bounds("last move", last_move.0, 0, LAST_COUNT)?;
        Ok(partition)
    }
}
