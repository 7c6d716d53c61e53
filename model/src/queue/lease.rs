//! Leases, and the consumers that have them.
//!
//! Invariant: a lease is named by its consumer's epoch and its delivery number, and neither is ever given
//! twice in a partition: a receipt of a lease that is over names nothing, whoever shows it.

use super::id::{ConsumerEpoch, ConsumerId, DeliveryNumber, OfferNumber};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, fields},
    id::{Millis, ShardTime},
};

/// How long a consumer is remembered that has no lease and of whom nothing is heard: long enough to find
/// a new leader. A node says something for the streams that it has.
pub const CONSUMER_LIFE: Millis = Millis(60_000);
/// Most consumers of a partition: a hundred bytes each.
pub const MAX_CONSUMERS: u64 = 4_096;

/// Who has a message, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) consumer: ConsumerEpoch,
    pub(crate) number: DeliveryNumber,
    pub(crate) deadline: ShardTime,
}

fields!(Lease {
    consumer,
    number,
    deadline
});

/// A consumer of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consumer {
    pub(crate) id: ConsumerId,
    /// Of its next new delivery.
    pub(crate) next: DeliveryNumber,
    /// The last that was counted.
    pub(crate) last_offer: OfferNumber,
    /// Then it is forgotten, if it has no lease and is not heard of before.
    pub(crate) until: ShardTime,
    /// How many leases it has; not encoded.
    pub(crate) in_flight: u32,
}

impl Encode for Consumer {
    fn encode_into(&self, out: &mut Vec<u8>) {
        self.id.encode_into(out);
        self.next.encode_into(out);
        self.last_offer.encode_into(out);
        self.until.encode_into(out);
    }
}

impl Decode for Consumer {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: Decode::decode_from(input)?,
            next: Decode::decode_from(input)?,
            last_offer: Decode::decode_from(input)?,
            until: Decode::decode_from(input)?,
            in_flight: 0,
        })
    }
}
