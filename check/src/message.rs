//! What is sent to a shard.
//!
//! Invariant: messages are compared by their destination and by the bytes that nodes would send, so
//! two that a shard could not tell apart are one.

use std::{
    cmp::Ordering,
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use lockstep_model::{Command, ShardId};

use crate::action::told;

/// A command on its way.
#[derive(Clone)]
pub struct Message {
    /// Where to.
    pub to: ShardId,
    /// What.
    pub command: Arc<Command>,
    bytes: Arc<[u8]>,
    /// Of where to and of the bytes: it is hashed for each state after it was sent.
    hash: u64,
}

impl Message {
    /// A command for a shard.
    #[must_use]
    pub fn new(to: ShardId, command: Command) -> Self {
        let bytes: Arc<[u8]> = command.encode().into();
        let command = Arc::new(command);
        let mut hasher = DefaultHasher::new();
        (to, &bytes).hash(&mut hasher);
        let hash = hasher.finish();
        Self {
            to,
            command,
            bytes,
            hash,
        }
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && (self.to, &self.bytes) == (other.to, &other.bytes)
    }
}

impl Eq for Message {}

impl PartialOrd for Message {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Message {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.to, &self.bytes).cmp(&(other.to, &other.bytes))
    }
}

impl Hash for Message {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shard {}: {}", self.to, told(&self.command))
    }
}
