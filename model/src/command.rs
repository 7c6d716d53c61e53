//! What a shard can be told to do: the only way in which its state ever changes.
//!
//! Invariant: a command carries all that decides its effect. Its encoding ([`Batch::encode`]) is a
//! disk and wire format: versioned, and every version that was ever written can be read.

mod codec;

use std::collections::BTreeMap;

use crate::{
    id::{
        ClusterId, FencingToken, LockName, Millis, NodeId, Owner, Priority, Serial, SessionId,
        ShardId, ShardTime, Timestamp, WaitEpoch,
    },
    locks::deadlock::Edge,
    meta::{Lifecycle, NodeRecord, Placement, Settings},
    reply::Refusal,
    session::Touch,
    value::Value,
};

pub use crate::locks::mode::Mode;

/// Most locks in one acquisition: an all-or-nothing set is taken one after another, and each more
/// makes the whole wait longer.
pub const MAX_LOCKS_PER_ACQUIRE: usize = 64;
/// Most commands in one batch: bounds the work of one `apply`.
pub const MAX_COMMANDS_PER_BATCH: usize = 4_096;
/// Longest wait that may be asked for: a day. Longer waits are waits without limit.
pub const MAX_WAIT: Millis = Millis(86_400_000);
/// Shortest session TTL: below it, one lost packet ends a session.
pub const MIN_SESSION_TTL: Millis = Millis(1_000);
/// Longest session TTL: an hour, so that what a dead client held comes back within one.
pub const MAX_SESSION_TTL: Millis = Millis(3_600_000);
/// The TTL of a session that asked for none.
pub const DEFAULT_SESSION_TTL: Millis = Millis(10_000);
/// Most labels on a session, and their sizes in bytes: shown in listings, kept in every snapshot.
pub const MAX_LABELS: usize = 16;
/// Longest label key in bytes.
pub const MAX_LABEL_KEY_BYTES: usize = 64;
/// Longest label value in bytes.
pub const MAX_LABEL_VALUE_BYTES: usize = 256;

/// Free text about a session.
pub type Labels = BTreeMap<String, String>;

/// One Raft log entry: commands that are applied together, at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The shard's time, as its leader counts it. A machine takes the later of this and the latest
    /// time that it has seen, so time never goes back.
    pub at: ShardTime,
    /// The leader's wall clock, for people: when something was opened, taken, asked for. It may be wrong
    /// and may go back, and nothing is decided by it.
    pub wall: Timestamp,
    /// At most [`MAX_COMMANDS_PER_BATCH`].
    pub commands: Vec<Command>,
}

/// A change of a shard's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Home: a new session.
    OpenSession {
        /// Chosen at random by the node that took the request.
        session: SessionId,
        /// Within [`MIN_SESSION_TTL`]..=[`MAX_SESSION_TTL`].
        ttl: Millis,
        /// For choosing a deadlock's victim.
        priority: Priority,
        /// Shown in listings.
        labels: Labels,
    },
    /// Home: a client has come back on a new stream: next epoch.
    ResumeSession {
        /// Which.
        session: SessionId,
    },
    /// Home: the session is about to use another shard. Recorded before the shard hears of it, so
    /// that the session's end reaches every shard where it may hold something.
    TouchShard {
        /// Which.
        session: SessionId,
        /// The shard about to be used.
        shard: ShardId,
    },
    /// Home: what sessions that have been silent have left, so that elections never give endless life.
    CheckpointSessions {
        /// Session and remaining life.
        remaining: Vec<(SessionId, Millis)>,
    },
    /// Home: a keep-alive came from a session whose checkpoint says that it has less than its TTL: it has
    /// its whole TTL again.
    ReviveSession {
        /// Which.
        session: SessionId,
    },
    /// Home: the session is to end, but its client may believe in its locks for as long as its lease
    /// lasts: from now on it is not kept alive, resumed, or let into another shard, and its leader ends it
    /// when its time is over.
    RevokeSession {
        /// Which.
        session: SessionId,
    },
    /// Home: the session is over. Its home part is released at once; the other shards follow.
    EndSession {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// Home: a touched shard has released all that an ended session held there.
    ShardReleased {
        /// Which.
        session: SessionId,
        /// The shard that has answered.
        shard: ShardId,
    },
    /// Any shard: the session may be used here from now on. Refused at or below the shard's floor,
    /// because a delayed one must not revive a session that has ended since: see [`crate::session`].
    AttachSession {
        /// Which.
        session: SessionId,
        /// For choosing a deadlock's victim.
        priority: Priority,
        /// For choosing a deadlock's victim: when it was opened.
        opened: Timestamp,
        /// The touch that the home recorded for it.
        touch: Touch,
    },
    /// Any shard: the session is over: release all, drop its waits, remember its end for
    /// [`crate::session::TOMBSTONE_LIFE`].
    DetachSession {
        /// Which.
        session: SessionId,
        /// Why: told to those whose waits are dropped.
        reason: EndReason,
        /// The home's last touch when the session ended.
        touch: Touch,
    },
    /// Takes locks, all or nothing, in canonical (name) order.
    Acquire {
        /// Who asks.
        request: RequestId,
        /// For re-entrance; an empty one stands for this acquisition alone.
        owner: Owner,
        /// 1..=[`MAX_LOCKS_PER_ACQUIRE`], distinct names. Replies keep this order.
        locks: Vec<LockSpec>,
        /// How long it may be blocked.
        wait: Wait,
        /// What the holder says, from the moment of the grant.
        value: Value,
    },
    /// Says something else with a hold.
    Proclaim {
        /// Who asks.
        request: RequestId,
        /// With the hold of which lock.
        name: LockName,
        /// The grant's token.
        token: FencingToken,
        /// What.
        value: Value,
    },
    /// Ends one wait that is part of a circle. Changes nothing if exactly that wait is over.
    AbortWait {
        /// Whose.
        session: SessionId,
        /// The acquisition's or upgrade's serial.
        serial: Serial,
        /// The wait.
        epoch: WaitEpoch,
        /// The circle, 1..=[`crate::locks::deadlock::MAX_CYCLE`] waits, this one among them.
        cycle: Vec<Edge>,
    },
    /// Gives up a blocked acquisition or upgrade.
    CancelWait {
        /// Whose.
        session: SessionId,
        /// The serial of the acquisition or upgrade.
        serial: Serial,
    },
    /// Gives one hold back.
    Release {
        /// Who asks.
        request: RequestId,
        /// Of what.
        name: LockName,
        /// The grant's token.
        token: FencingToken,
    },
    /// Ends an acquisition here, however far it came: because another shard has refused it, or its
    /// client has given it up. What it was granted is given back, its wait is over, and if it has yet to
    /// arrive it is refused then. That becomes its kept answer, so it is undone at most once, and never
    /// after its client has acknowledged the grant.
    UndoAcquire {
        /// Who asked for the locks.
        session: SessionId,
        /// The acquisition's serial.
        serial: Serial,
        /// What was granted to a serial that a node gave, of which the shard keeps no answer: at most
        /// [`MAX_LOCKS_PER_ACQUIRE`]. Stale ones are skipped.
        grants: Vec<GiveBack>,
        /// Why: what whoever repeats the acquisition is told.
        refusal: Refusal,
    },
    /// Shared to exclusive.
    Upgrade {
        /// Who asks.
        request: RequestId,
        /// Of what.
        name: LockName,
        /// The shared hold's token.
        token: FencingToken,
        /// How long it may be blocked.
        wait: Wait,
    },
    /// Exclusive to shared, without a gap.
    Downgrade {
        /// Who asks.
        request: RequestId,
        /// Of what.
        name: LockName,
        /// The exclusive hold's token.
        token: FencingToken,
    },
    /// Ends the waits whose time is over by the shard's time.
    ExpireWaits,
    /// A shard that was never used goes on after the tokens of an earlier cluster: every token that
    /// it gives from now on is greater. Refused by a shard that is in use.
    RaiseTokens {
        /// Than this one.
        above: FencingToken,
    },
    /// The meta shard's commands.
    Meta(MetaCommand),
}

/// A change of the meta shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaCommand {
    /// The first entry: what the founders agreed on. A second one changes nothing.
    Found {
        /// The cluster.
        cluster: ClusterId,
        /// Shards and replication factor.
        settings: Settings,
        /// The founding nodes.
        nodes: Vec<NodeRecord>,
        /// Where each shard lives.
        placement: Placement,
    },
    /// A node tells its present addresses, version and zone.
    DescribeNode {
        /// The node and what it says of itself. Unknown ids are refused.
        node: NodeRecord,
    },
    /// A node without an id asks for one. An older node of the same name, whose directory must be
    /// gone, is lost from now on.
    JoinNode {
        /// What it says of itself; its id is 0.
        node: NodeRecord,
        /// Chosen by the node and kept in its directory: asking again gives the same id.
        nonce: u64,
    },
    /// Says what is to become of a node.
    SetLifecycle {
        /// Which.
        node: NodeId,
        /// What.
        lifecycle: Lifecycle,
        /// The tables' revision that this was decided by; none: whatever it is.
        expected: Option<u64>,
    },
    /// Takes a node that holds nothing out of the registry.
    RemoveNode {
        /// Which.
        node: NodeId,
        /// As for [`MetaCommand::SetLifecycle`].
        expected: Option<u64>,
    },
    /// Records who holds a shard, as its leader has it or is about to.
    SetReplicas {
        /// Which shard.
        shard: ShardId,
        /// Its voters.
        voters: Vec<NodeId>,
        /// Its learners.
        learners: Vec<NodeId>,
        /// The index in the shard's log from which its members are so: older news are refused.
        as_of: u64,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndReason {
    /// Its client said so.
    Closed,
    /// No keep-alive came within its TTL.
    Expired,
}

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

/// One grant to undo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GiveBack {
    /// Of what.
    pub name: LockName,
    /// The grant's token.
    pub token: FencingToken,
}

/// One lock to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockSpec {
    /// Which.
    pub name: LockName,
    /// How.
    pub mode: Mode,
}

/// How long an acquisition may be blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Try,
    /// At most so long, by the shard's time: 1 ms..=[`MAX_WAIT`].
    AtMost(Millis),
    /// Until granted, cancelled, or the session ends.
    Forever,
}
