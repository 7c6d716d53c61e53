//! The encoding of answers, which nodes hand on to each other.
//!
//! Invariant: a tag keeps its meaning for ever.

use super::{Offered, Published, QueueRefusal, QueueReply};
use crate::codec::{Decode, DecodeError, Encode, Reader, tagged};

tagged!(QueueReply, "queue reply", {
    1 => Done,
    2 => Published(all),
    3 => Producer { producer },
    4 => Attached { consumer, is_new, next },
    5 => Offered(all),
    6 => Settled(counts),
    7 => Handled { count, more },
    8 => Refused(refusal),
});

tagged!(Published, "answer to a message", {
    1 => Stored(sequence),
    2 => Duplicate,
    3 => Refused(refusal),
});

tagged!(Offered, "answer to an offer", {
    1 => Counted { unused },
    2 => Stale,
    3 => NoConsumer,
});

tagged!(QueueRefusal, "queue refusal", {
    1 => NoQueue { queue },
    2 => QueueGone { queue },
    3 => NotHosted { partition },
    4 => FixedPartitions { partitions },
    5 => TooLarge { length, limit },
    6 => TooManyMessages { limit },
    7 => TooManyBytes { limit },
    8 => TooManyRows { limit },
    9 => DedupForgotten { number },
    10 => NoProducer { producer },
    11 => NoNumbering,
    12 => WindowFull { limit },
    13 => TooManyIds { limit },
    14 => TooManyProducers { limit },
    15 => TooManyConsumers { limit },
    16 => NoConsumer { consumer },
});
