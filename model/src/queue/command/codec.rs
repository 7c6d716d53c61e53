//! The encoding of commands.
//!
//! Invariant: a tag keeps its meaning for ever.

use super::{
    Body, DeathReason, MAX_MESSAGES, MAX_OFFERS, MAX_SPAN, MAX_VERDICTS, MoveCause, MovedMessage,
    NewMessage, Numbering, Offer, QueueCommand, Received, Settlement, Verdict,
};
use crate::{
    codec::{Decode, DecodeError, Encode, Reader, bounded_list, check_bounds, fields, put, tagged},
    id::Millis,
    queue::definition::decode_visibility,
};

mod tag {
    pub(super) const SET: u8 = 1;
    pub(super) const REMOVE: u8 = 2;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const OPEN_PRODUCER: u8 = 4;
    pub(super) const ATTACH: u8 = 5;
    pub(super) const DETACH: u8 = 6;
    pub(super) const OFFER: u8 = 7;
    pub(super) const SETTLE: u8 = 8;
    pub(super) const EXPIRE_DUE: u8 = 9;
    pub(super) const RECEIVE_MOVED: u8 = 10;
    pub(super) const CONFIRM_MOVES: u8 = 11;
    pub(super) const ABANDON_MOVES: u8 = 12;
    pub(super) const REDRIVE: u8 = 13;
    pub(super) const PURGE: u8 = 14;
}

impl Encode for QueueCommand {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Set {
                queue,
                revision,
                definition,
            } => put(out, tag::SET, &[queue, revision, definition]),
            Self::Remove { queue } => put(out, tag::REMOVE, &[queue]),
            Self::Publish {
                partition,
                producer,
                messages,
            } => put(out, tag::PUBLISH, &[partition, producer, messages]),
            Self::OpenProducer {
                partition,
                producer,
            } => put(out, tag::OPEN_PRODUCER, &[partition, producer]),
            Self::Attach {
                partition,
                consumer,
                received,
            } => put(out, tag::ATTACH, &[partition, consumer, received]),
            Self::Detach {
                partition,
                consumer,
            } => put(out, tag::DETACH, &[partition, consumer]),
            Self::Offer { partition, offers } => put(out, tag::OFFER, &[partition, offers]),
            Self::Settle {
                partition,
                consumer,
                verdicts,
            } => put(out, tag::SETTLE, &[partition, consumer, verdicts]),
            Self::ExpireDue => out.push(tag::EXPIRE_DUE),
            Self::ReceiveMoved {
                partition,
                source,
                confirmed_below,
                messages,
            } => put(
                out,
                tag::RECEIVE_MOVED,
                &[partition, source, confirmed_below, messages],
            ),
            Self::ConfirmMoves { partition, moves } => {
                put(out, tag::CONFIRM_MOVES, &[partition, moves]);
            }
            Self::AbandonMoves { partition, moves } => {
                put(out, tag::ABANDON_MOVES, &[partition, moves]);
            }
            Self::Redrive { partition, below } => put(out, tag::REDRIVE, &[partition, below]),
            Self::Purge { partition, below } => put(out, tag::PURGE, &[partition, below]),
        }
    }
}

impl Decode for QueueCommand {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.byte()? {
            tag::SET => Self::Set {
                queue: Decode::decode_from(input)?,
                revision: Decode::decode_from(input)?,
                definition: Decode::decode_from(input)?,
            },
            tag::REMOVE => Self::Remove {
                queue: Decode::decode_from(input)?,
            },
            tag::PUBLISH => Self::Publish {
                partition: Decode::decode_from(input)?,
                producer: Decode::decode_from(input)?,
                messages: bounded_list(input, "number of messages", 1, MAX_MESSAGES)?,
            },
            tag::OPEN_PRODUCER => Self::OpenProducer {
                partition: Decode::decode_from(input)?,
                producer: Decode::decode_from(input)?,
            },
            tag::ATTACH => Self::Attach {
                partition: Decode::decode_from(input)?,
                consumer: Decode::decode_from(input)?,
                received: Decode::decode_from(input)?,
            },
            tag::DETACH => Self::Detach {
                partition: Decode::decode_from(input)?,
                consumer: Decode::decode_from(input)?,
            },
            tag::OFFER => Self::Offer {
                partition: Decode::decode_from(input)?,
                offers: bounded_list(input, "number of offers", 1, MAX_OFFERS)?,
            },
            tag::SETTLE => Self::Settle {
                partition: Decode::decode_from(input)?,
                consumer: Decode::decode_from(input)?,
                verdicts: bounded_list(input, "number of verdicts", 1, MAX_VERDICTS)?,
            },
            tag::EXPIRE_DUE => Self::ExpireDue,
            tag::RECEIVE_MOVED => Self::ReceiveMoved {
                partition: Decode::decode_from(input)?,
                source: Decode::decode_from(input)?,
                confirmed_below: Decode::decode_from(input)?,
                messages: bounded_list(input, "number of messages", 1, MAX_MESSAGES)?,
            },
            tag::CONFIRM_MOVES => Self::ConfirmMoves {
                partition: Decode::decode_from(input)?,
                moves: bounded_list(input, "number of moves", 1, MAX_MESSAGES)?,
            },
            tag::ABANDON_MOVES => Self::AbandonMoves {
                partition: Decode::decode_from(input)?,
                moves: bounded_list(input, "number of moves", 1, MAX_MESSAGES)?,
            },
            tag::REDRIVE => Self::Redrive {
                partition: Decode::decode_from(input)?,
                below: Decode::decode_from(input)?,
            },
            tag::PURGE => Self::Purge {
                partition: Decode::decode_from(input)?,
                below: Decode::decode_from(input)?,
            },
            tag => {
                let what = "queue command";
                return Err(DecodeError::UnknownTag { what, tag });
            }
        })
    }
}

fields!(Body { length, checksum });
fields!(Numbering {
    producer,
    answered_below
});
fields!(Received { consumer, last });
fields!(Offer {
    consumer,
    number,
    credit
});
fields!(MovedMessage {
    number,
    sequence,
    cause,
    body,
    key,
    priority
});

impl Encode for NewMessage {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let Self {
            body,
            key,
            priority,
            delay,
            ttl,
            id,
            number,
        } = self;
        body.encode_into(out);
        key.encode_into(out);
        priority.encode_into(out);
        delay.encode_into(out);
        ttl.encode_into(out);
        id.encode_into(out);
        number.encode_into(out);
    }
}

impl Decode for NewMessage {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let message = Self {
            body: Decode::decode_from(input)?,
            key: Decode::decode_from(input)?,
            priority: Decode::decode_from(input)?,
            delay: decode_delay(input)?,
            ttl: Decode::decode_from(input)?,
            id: Decode::decode_from(input)?,
            number: Decode::decode_from(input)?,
        };
        if let Some(ttl) = message.ttl {
            check_bounds("TTL in ms", ttl.0, 1, MAX_SPAN.0)?;
        }
        Ok(message)
    }
}

fn decode_delay(input: &mut Reader<'_>) -> Result<Millis, DecodeError> {
    let delay = Millis::decode_from(input)?;
    check_bounds("delay in ms", delay.0, 0, MAX_SPAN.0)?;
    Ok(delay)
}

impl Encode for Verdict {
    fn encode_into(&self, out: &mut Vec<u8>) {
        let Self {
            from,
            to,
            settlement,
        } = self;
        from.encode_into(out);
        to.encode_into(out);
        settlement.encode_into(out);
    }
}

impl Decode for Verdict {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let verdict = Self {
            from: Decode::decode_from(input)?,
            to: Decode::decode_from(input)?,
            settlement: Decode::decode_from(input)?,
        };
        let (from, to) = (verdict.from.0, verdict.to.0);
        check_bounds("last delivery of a range", to, from, u64::MAX)?;
        Ok(verdict)
    }
}

impl Encode for Settlement {
    fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ack => out.push(1),
            Self::Nack { delay } => put(out, 2, &[delay]),
            Self::Reject => out.push(3),
            Self::GiveBack => out.push(4),
            Self::Extend { by } => put(out, 5, &[by]),
        }
    }
}

impl Decode for Settlement {
    fn decode_from(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.byte()? {
            1 => Ok(Self::Ack),
            2 => Ok(Self::Nack {
                delay: decode_delay(input)?,
            }),
            3 => Ok(Self::Reject),
            4 => Ok(Self::GiveBack),
            5 => Ok(Self::Extend {
                by: decode_visibility(input)?,
            }),
            tag => {
                let what = "settlement";
                Err(DecodeError::UnknownTag { what, tag })
            }
        }
    }
}

tagged!(DeathReason, "reason of a death", {
    1 => MaxDeliveries,
    2 => Rejected,
});

tagged!(MoveCause, "cause of a move", {
    1 => Dead { reason, attempts },
    2 => Redrive,
});
