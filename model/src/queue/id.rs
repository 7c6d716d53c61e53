//! The identifiers and units of queues.
//!
//! Invariant: a value of a validated type ([`OrderingKey`], [`MessageId`], [`MessagePriority`]) is
//! within its bounds wherever it is found.

use std::{cmp::Ordering, fmt, sync::Arc};

use crate::{
    codec::{Decode, DecodeError, Encode, Reader, check_bounds, fields, put_text},
    ring::{Kind, hash},
};

/// Longest ordering key in bytes: it is kept in memory with each message that has one.
pub const MAX_KEY_BYTES: usize = 256;
/// Longest message id in bytes: each is kept in memory for as long as its window lasts.
pub const MAX_MESSAGE_ID_BYTES: usize = 256;
/// The highest priority; the lowest, and the default, is 0.
pub const MAX_PRIORITY: u8 = 9;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl Encode for $name {
            fn encode_into(&self, out: &mut Vec<u8>) {
                self.0.encode_into(out);
            }
        }

        impl Decode for $name {
            fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Decode::decode_from(input).map(Self)
            }
        }
    };
}

number! {
    /// A queue, for as long as it exists. Given by the meta shard; never 0, never given again.
    QueueId(u64)
}
number! {
    /// A partition of a queue: 0 and up.
    PartitionNumber(u32)
}
number! {
    /// A message's place in its partition: given when it is published, in ascending order, never
    /// twice.
    Sequence(u64)
}
number! {
    /// The place of an entry in a shard's log.
    LogIndex(u64)
}
number! {
    /// How a consumer calls itself: random, so that two do not meet by chance.
    ConsumerId(u64)
}
number! {
    /// A consumer's time with a partition, from its first attach until it is forgotten. Never given
    /// twice in a partition, so receipts of an earlier one are worth nothing.
    ConsumerEpoch(u64)
}
number! {
    /// The number of a delivery to a consumer, dense from 1. A lease has one for as long as it lasts.
    DeliveryNumber(u64)
}
number! {
    /// The number of an offer of a consumer: ascending, so that one that comes twice counts once.
    OfferNumber(u64)
}
number! {
    /// How a producer calls itself: random, so that two do not meet by chance.
    ProducerId(u64)
}
number! {
    /// A producer's time with a partition, from its opening until it is forgotten. Never given twice.
    ProducerEpoch(u64)
}
number! {
    /// The number that a producer gives to a message, once.
    ProducerSequence(u64)
}
number! {
    /// The number of a message's move out of a partition, ascending, never given twice.
    MoveNumber(u64)
}

/// A partition of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    /// Of which queue.
    pub queue: QueueId,
    /// Which.
    pub number: PartitionNumber,
}

fields!(PartitionId { queue, number });

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.queue, self.number)
    }
}

/// Why something is no [`OrderingKey`], [`MessageId`] or [`MessagePriority`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// The length of an ordering key is out of its bounds.
    #[error("an ordering key of {len} bytes: give it 1 to {MAX_KEY_BYTES}, or leave it out")]
    Key {
        /// Its length in bytes.
        len: usize,
    },
    /// The length of a message id is out of its bounds.
    #[error("a message id of {len} bytes: give it 1 to {MAX_MESSAGE_ID_BYTES}, or leave it out")]
    MessageId {
        /// Its length in bytes.
        len: usize,
    },
    /// A priority is out of its bounds.
    #[error("priority {priority}: it is 0 to {MAX_PRIORITY}")]
    Priority {
        /// What was given.
        priority: u64,
    },
}

/// Messages of one key are delivered in order, one at a time: 1 to [`MAX_KEY_BYTES`] bytes. Cheap to
/// clone.
///
/// Keys are ordered by their hash, so that a round over them favours no part of the alphabet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OrderingKey {
    hash: u64,
    text: Arc<str>,
}

impl OrderingKey {
    /// Checks the bounds.
    ///
    /// # Errors
    /// If the text is empty or over [`MAX_KEY_BYTES`].
    pub fn new(text: &str) -> Result<Self, BadId> {
        match text.len() {
            1..=MAX_KEY_BYTES => Ok(Self {
                hash: hash(Kind::OrderingKey, &[text.as_bytes()]),
                text: text.into(),
            }),
            len => Err(BadId::Key { len }),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where it is on the ring of partitions.
    pub(crate) const fn hash(&self) -> u64 {
        self.hash
    }
}

impl Ord for OrderingKey {
    fn cmp(&self, other: &Self) -> Ordering {
        let text = || self.text.cmp(&other.text);
        self.hash.cmp(&other.hash).then_with(text)
    }
}

impl PartialOrd for OrderingKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Encode for OrderingKey {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_text(out, &self.text);
    }
}

impl Decode for OrderingKey {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let text = input.text()?;
        let len = text.len() as u64;
        check_bounds("ordering key's length", len, 1, MAX_KEY_BYTES as u64)?;
        Self::new(text).map_err(|_| DecodeError::Inconsistent {
            what: "an ordering key",
        })
    }
}

/// A message's own id, whoever publishes it: 1 to [`MAX_MESSAGE_ID_BYTES`] bytes. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(Arc<str>);

impl MessageId {
    /// Checks the bounds.
    ///
    /// # Errors
    /// If the text is empty or over [`MAX_MESSAGE_ID_BYTES`].
    pub fn new(text: &str) -> Result<Self, BadId> {
        match text.len() {
            1..=MAX_MESSAGE_ID_BYTES => Ok(Self(text.into())),
            len => Err(BadId::MessageId { len }),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Encode for MessageId {
    fn encode_into(&self, out: &mut Vec<u8>) {
        put_text(out, &self.0);
    }
}

impl Decode for MessageId {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let text = input.text()?;
        let len = text.len() as u64;
        check_bounds("message id's length", len, 1, MAX_MESSAGE_ID_BYTES as u64)?;
        Self::new(text).map_err(|_| DecodeError::Inconsistent {
            what: "a message id",
        })
    }
}

/// Which of the waiting messages goes first: the highest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessagePriority(u8);

impl MessagePriority {
    /// Checks the bound.
    ///
    /// # Errors
    /// If it is over [`MAX_PRIORITY`].
    pub const fn new(priority: u8) -> Result<Self, BadId> {
        if priority <= MAX_PRIORITY {
            Ok(Self(priority))
        } else {
            Err(BadId::Priority {
                priority: priority as u64,
            })
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// Where it stands among the priorities: 0 goes first.
    #[must_use]
    pub(crate) const fn rank(self) -> Rank {
        Rank(MAX_PRIORITY.saturating_sub(self.0))
    }
}

impl Encode for MessagePriority {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(self.0);
    }
}

impl Decode for MessagePriority {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let priority = input.byte()?;
        check_bounds("priority", priority.into(), 0, MAX_PRIORITY.into())?;
        Ok(Self(priority))
    }
}

/// A priority's place: 0 goes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rank(pub(crate) u8);

impl Rank {
    /// That of the lowest priority.
    pub(crate) const LAST: Self = Self(MAX_PRIORITY);
}

impl Encode for Rank {
    fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(self.0);
    }
}

impl Decode for Rank {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let rank = input.byte()?;
        check_bounds("rank of a priority", rank.into(), 0, MAX_PRIORITY.into())?;
        Ok(Self(rank))
    }
}
