//! What a shard can be told to do: the only way in which its state ever changes.
//!
//! Invariant: a command carries all that decides its effect. Its encoding ([`Batch::encode`]) is a
//! disk and wire format. What is true of each command stands beside its enum, in its service's room;
//! here is only which services there are.

mod codec;

use crate::{
    id::{Serial, SessionId, ShardTime, Timestamp},
    locks::command::LockCommand,
    meta::command::MetaCommand,
    session::SessionCommand,
};

/// Most commands in one batch: bounds the work of one `apply`.
pub const MAX_COMMANDS_PER_BATCH: usize = 4_096;
/// Bytes of a command's parts of fixed length, about.
const FIXED_BYTES: usize = 64;

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
    /// Of the sessions that it knows.
    Session(SessionCommand),
    /// Of its locks.
    Lock(LockCommand),
    /// Ends what is due by the shard's time, in every service: see [`Shard::next_deadline`](crate::shard::Shard::next_deadline).
    Expire,
    /// Of the meta shard's tables.
    Meta(MetaCommand),
}

impl Command {
    /// True if the state may need more room afterwards, because a client asked for something. A node whose
    /// disk is nearly full refuses these. All that gives something back, ends something, or keeps alive
    /// what is there goes on, or nothing would ever free the disk; and so does what is about nodes, because
    /// another node may be the remedy.
    #[must_use]
    pub const fn grows(&self) -> bool {
        match self {
            Self::Session(command) => command.grows(),
            Self::Lock(command) => command.grows(),
            Self::Meta(command) => command.grows(),
            Self::Expire => false,
        }
    }

    /// True if doing it twice is the same as doing it once.
    #[must_use]
    pub const fn repeatable(&self) -> bool {
        match self {
            Self::Session(command) => command.repeatable(),
            Self::Lock(command) => command.repeatable(),
            Self::Expire => true,
            Self::Meta(command) => command.repeatable(),
        }
    }

    /// The request that it may block; none if it is answered at once.
    #[must_use]
    pub const fn waits(&self) -> Option<(SessionId, Serial)> {
        match self {
            Self::Session(command) => command.waits(),
            Self::Lock(command) => command.waits(),
            Self::Expire => None,
            Self::Meta(command) => command.waits(),
        }
    }

    /// About how many bytes it is encoded in; never less than half.
    #[must_use]
    pub fn weight(&self) -> usize {
        FIXED_BYTES
            + match self {
                Self::Session(command) => command.weight(),
                Self::Lock(command) => command.weight(),
                Self::Expire => 0,
                Self::Meta(command) => command.weight(),
            }
    }
}

impl From<SessionCommand> for Command {
    fn from(command: SessionCommand) -> Self {
        Self::Session(command)
    }
}

impl From<LockCommand> for Command {
    fn from(command: LockCommand) -> Self {
        Self::Lock(command)
    }
}

impl From<MetaCommand> for Command {
    fn from(command: MetaCommand) -> Self {
        Self::Meta(command)
    }
}
