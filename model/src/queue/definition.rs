//! What a queue is: all that its shards go by.
//!
//! Invariant: a definition is within its bounds wherever it is found. It enters each shard's log, so
//! that applying reads nothing of the meta shard; a shard goes by the latest revision that came.

use std::collections::BTreeSet;

use super::id::{PartitionNumber, QueueId};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, check_bounds, check_count, put_count, tagged},
    id::Millis,
};

/// Most partitions of a queue: one for each data shard that there may be.
pub const MAX_PARTITIONS: u32 = 1_024;
/// How many partitions a queue has that asks for no number.
pub const DEFAULT_PARTITIONS: u32 = 4;
/// Shortest lease: below it, a delivery that a lost packet holds up is made twice.
pub const MIN_VISIBILITY: Millis = Millis(1_000);
/// Longest lease, and furthest extension from now: twelve hours, as in Amazon SQS.
pub const MAX_VISIBILITY: Millis = Millis(43_200_000);
/// The lease of a delivery of a queue that says nothing of it.
pub const DEFAULT_VISIBILITY: Millis = Millis(30_000);
/// Most attempts that a queue may give a message.
pub const MAX_MAX_DELIVERIES: u32 = 1_000;
/// How often a message is tried that no queue says more of.
pub const DEFAULT_MAX_DELIVERIES: u32 = 16;
/// Most deliveries that a consumer may have of a partition: what one resend sends, and one answer settles.
pub const MAX_IN_FLIGHT: u32 = 4_096;
/// Largest body of a message in bytes that a queue may allow: an entry of the log holds some of them.
pub const MAX_MESSAGE_BYTES: u32 = 16 << 20;
/// Largest body of a message in bytes in a queue that says nothing of it.
pub const DEFAULT_MESSAGE_BYTES: u32 = 1 << 20;
/// Most messages of a partition: none gets near.
pub const MAX_LENGTH: u64 = 1 << 40;
/// Most bytes of a partition's bodies: none gets near.
pub const MAX_BYTES: u64 = 1 << 50;
/// Longest that a message's id may be remembered: a day.
pub const MAX_ID_WINDOW: Millis = Millis(86_400_000);
/// How long a message's id is remembered in a queue that says nothing of it: as in Amazon SQS.
pub const DEFAULT_ID_WINDOW: Millis = Millis(300_000);

/// What becomes of a message for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// Its publisher is refused.
    #[default]
    Reject,
    /// The oldest message that nobody has leased makes room.
    DropOldest,
}

/// A queue's definition, as one shard is told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// How many partitions the queue has: 1..=[`MAX_PARTITIONS`]. Does not change.
    pub partitions: u32,
    /// Those that live in this shard.
    pub hosted: BTreeSet<PartitionNumber>,
    /// How long a delivery is leased: [`MIN_VISIBILITY`]..=[`MAX_VISIBILITY`].
    pub visibility: Millis,
    /// How often a message is tried before it is given up: 1..=[`MAX_MAX_DELIVERIES`].
    pub max_deliveries: u32,
    /// Where messages go that are given up; none: they stay as dead ones.
    pub dead_letter: Option<QueueId>,
    /// Only the consumer of each partition that was there first is served.
    pub single_active: bool,
    /// Nothing is delivered.
    pub paused: bool,
    /// Most deliveries that a consumer may have of a partition: 1..=[`MAX_IN_FLIGHT`].
    pub max_in_flight: u32,
    /// Most messages of a partition, dead ones among them: 1..=[`MAX_LENGTH`].
    pub max_length: u64,
    /// Most bytes of a partition's bodies: 1..=[`MAX_BYTES`].
    pub max_bytes: u64,
    /// What happens when either is reached.
    pub overflow: Overflow,
    /// Largest body: 1..=[`MAX_MESSAGE_BYTES`].
    pub max_message_bytes: u32,
    /// How long a message's id is remembered: up to [`MAX_ID_WINDOW`].
    pub id_window: Millis,
}

impl Default for Definition {
    /// What a queue is that says nothing of itself; no partition of it is here.
    fn default() -> Self {
        Self {
            partitions: DEFAULT_PARTITIONS,
            hosted: BTreeSet::new(),
            visibility: DEFAULT_VISIBILITY,
            max_deliveries: DEFAULT_MAX_DELIVERIES,
            dead_letter: None,
            single_active: false,
            paused: false,
            max_in_flight: MAX_IN_FLIGHT,
            max_length: MAX_LENGTH,
            max_bytes: MAX_BYTES,
            overflow: Overflow::Reject,
            max_message_bytes: DEFAULT_MESSAGE_BYTES,
            id_window: DEFAULT_ID_WINDOW,
        }
    }
}

tagged!(Overflow, "overflow", {
    1 => Reject,
    2 => DropOldest,
});

impl Encode for Definition {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let Self {
            partitions,
            hosted,
            visibility,
            max_deliveries,
            dead_letter,
            single_active,
            paused,
            max_in_flight,
            max_length,
            max_bytes,
            overflow,
            max_message_bytes,
            id_window,
        } = self;
        partitions.encode_into(out);
        put_count(out, hosted.len());
        hosted.iter().for_each(|number| number.encode_into(out));
        visibility.encode_into(out);
        max_deliveries.encode_into(out);
        dead_letter.encode_into(out);
        single_active.encode_into(out);
        paused.encode_into(out);
        max_in_flight.encode_into(out);
        max_length.encode_into(out);
        max_bytes.encode_into(out);
        overflow.encode_into(out);
        max_message_bytes.encode_into(out);
        id_window.encode_into(out);
    }
}

impl Decode for Definition {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let partitions = bounded(input, "number of partitions", 1, MAX_PARTITIONS.into())?;
        let definition = Self {
            // It was just bounded.
            partitions: u32::try_from(partitions).unwrap_or(MAX_PARTITIONS),
            hosted: decode_hosted(input, partitions)?,
            visibility: decode_visibility(input)?,
            max_deliveries: u32::decode_from(input)?,
            dead_letter: Decode::decode_from(input)?,
            single_active: Decode::decode_from(input)?,
            paused: Decode::decode_from(input)?,
            max_in_flight: u32::decode_from(input)?,
            max_length: bounded(input, "most messages", 1, MAX_LENGTH)?,
            max_bytes: bounded(input, "most bytes", 1, MAX_BYTES)?,
            overflow: Decode::decode_from(input)?,
            max_message_bytes: u32::decode_from(input)?,
            id_window: Millis(bounded(input, "id window in ms", 0, MAX_ID_WINDOW.0)?),
        };
        let Self {
            max_deliveries,
            max_in_flight,
            max_message_bytes,
            ..
        } = definition;
        let most = MAX_MAX_DELIVERIES.into();
        check_bounds("most deliveries", max_deliveries.into(), 1, most)?;
        let most = MAX_IN_FLIGHT.into();
        check_bounds("most in flight", max_in_flight.into(), 1, most)?;
        let most = MAX_MESSAGE_BYTES.into();
        check_bounds("most bytes of a message", max_message_bytes.into(), 1, most)?;
        Ok(definition)
    }
}

fn bounded(
    input: &mut Reader<'_>,
    what: &'static str,
    min: u64,
    max: u64,
) -> Result<u64, DecodeError> {
    let value = u64::decode_from(input)?;
    check_bounds(what, value, min, max)?;
    Ok(value)
}

/// Reads the length of a lease.
pub(super) fn decode_visibility(input: &mut Reader<'_>) -> Result<Millis, DecodeError> {
    let (min, max) = (MIN_VISIBILITY.0, MAX_VISIBILITY.0);
    bounded(input, "length of a lease in ms", min, max).map(Millis)
}

fn decode_hosted(
    input: &mut Reader<'_>,
    partitions: u64,
) -> Result<BTreeSet<PartitionNumber>, DecodeError> {
    check_count(
        "number of hosted partitions",
        input,
        0,
        MAX_PARTITIONS as usize,
    )?;
    let numbers: Vec<PartitionNumber> = Decode::decode_from(input)?;
    let mut hosted = BTreeSet::new();
    for number in numbers {
        check_bounds("hosted partition", number.0.into(), 0, partitions - 1)?;
        if hosted.last().is_some_and(|last| *last >= number) {
            return Err(DecodeError::NotAscending);
        }
        hosted.insert(number);
    }
    Ok(hosted)
}
