//! Who asks, as which of its operations, and for how long it may be blocked: the same for every service.
//!
//! Invariant: a (session, serial) stands for one operation, whatever is repeated.

mod codec;

use crate::id::{Millis, Serial, SessionId};

/// Longest wait that may be asked for: a day. Longer waits are waits without limit.
pub const MAX_WAIT: Millis = Millis(86_400_000);

/// Who asks, and as which of its operations: what makes requests exactly-once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// The session.
    pub session: SessionId,
    /// The operation's number.
    pub serial: Serial,
    /// The client has the answers of all serials below; they are forgotten here.
    pub acked_below: Serial,
    /// And of these above it: a request that waits for long holds no answers back.
    pub acked: AckedRanges,
}

/// Serials from one on, and below another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SerialRange {
    /// The first.
    pub from: Serial,
    /// The first that is not in it.
    pub below: Serial,
}

/// Most ranges that one request acknowledges: a client tells those first that the shard has not heard
/// of, and the rest with its next requests.
pub const MAX_RANGES_PER_REQUEST: usize = 4;

/// Ranges of serials: not empty, ascending, disjoint, none of those that nodes give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AckedRanges {
    /// Those that are in use come first; the others are empty.
    ranges: [SerialRange; MAX_RANGES_PER_REQUEST],
}

impl AckedRanges {
    /// None.
    pub const NONE: Self = Self {
        ranges: [SerialRange {
            from: Serial(0),
            below: Serial(0),
        }; MAX_RANGES_PER_REQUEST],
    };

    /// None if they are too many, or not as they should be.
    pub fn new(ranges: impl IntoIterator<Item = SerialRange>) -> Option<Self> {
        let mut all = Self::NONE;
        let mut slots = all.ranges.iter_mut();
        let mut end = Serial(0);
        for range in ranges {
            let is_sound = range.from >= end
                && range.from < range.below
                && range.below <= Serial::FIRST_EPHEMERAL;
            if !is_sound {
                return None;
            }
            end = range.below;
            *slots.next()? = range;
        }
        Some(all)
    }

    /// The ranges, ascending.
    pub fn iter(&self) -> impl Iterator<Item = SerialRange> {
        let used = |range: &SerialRange| range.from < range.below;
        self.ranges.into_iter().take_while(used)
    }
}

/// How long a request may be blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Try,
    /// At most so long, by the shard's time: 1 ms..=[`MAX_WAIT`].
    AtMost(Millis),
    /// Until granted, cancelled, or the session ends.
    Forever,
}
