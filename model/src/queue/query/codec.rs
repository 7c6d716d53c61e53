//! The encoding of questions and answers, which nodes hand on to each other.

use super::{
    ConsumerView, MessageState, MessageView, PartitionView, QueueAnswer, QueueQuery, QueueView,
};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, fields, put, tagged},
    page::decode_limit,
};

impl Encode for QueueQuery {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Describe { queue } => put(out, 1, &[queue]),
            Self::List { after, limit } => put(out, 2, &[after, limit]),
            Self::Peek {
                partition,
                after,
                limit,
            } => put(out, 3, &[partition, after, limit]),
            Self::Holds {
                partition,
                consumer,
                number,
            } => put(out, 4, &[partition, consumer, number]),
            Self::Consumers {
                partition,
                after,
                limit,
            } => put(out, 5, &[partition, after, limit]),
        }
    }
}

impl Decode for QueueQuery {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            1 => Self::Describe {
                queue: Decode::decode_from(input)?,
            },
            2 => Self::List {
                after: Decode::decode_from(input)?,
                limit: decode_limit(input)?,
            },
            3 => Self::Peek {
                partition: Decode::decode_from(input)?,
                after: Decode::decode_from(input)?,
                limit: decode_limit(input)?,
            },
            4 => Self::Holds {
                partition: Decode::decode_from(input)?,
                consumer: Decode::decode_from(input)?,
                number: Decode::decode_from(input)?,
            },
            5 => Self::Consumers {
                partition: Decode::decode_from(input)?,
                after: Decode::decode_from(input)?,
                limit: decode_limit(input)?,
            },
            tag => {
                let what = "queue query";
                return Err(DecodeError::UnknownTag { what, tag });
            }
        })
    }
}

tagged!(QueueAnswer, "queue answer", {
    1 => Queue(queue),
    2 => Queues(queues),
    3 => Messages(messages),
    4 => Holds(is_held),
    5 => Consumers(consumers),
});

fields!(QueueView {
    queue,
    revision,
    definition,
    partitions
});
fields!(PartitionView {
    partition,
    counts,
    totals,
    last_sequence,
    oldest
});
fields!(MessageView {
    sequence,
    body,
    key,
    priority,
    attempts,
    since,
    expires,
    origin,
    state
});
fields!(ConsumerView {
    consumer,
    id,
    in_flight,
    next
});

tagged!(MessageState, "state of a message", {
    1 => Ready,
    2 => Delayed { due },
    3 => Leased { consumer, number, deadline },
    4 => Dead { reason },
    5 => Moving { to },
});
