//! What commands made of shards, so that it is computed once.
//!
//! States of the cluster are many, those of a single shard are few: nearly all that is explored
//! combines them anew. Invariant: an entry says what [`Replica::apply`] would.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use lockstep_model::{Applied, ShardTime, Timestamp};

use crate::{bug::Bug, message::Message, replica::Replica};

/// Most entries: a few kilobytes each. What does not fit is computed again.
const MAX_ENTRIES: usize = 500_000;

/// What a command made of a shard.
pub struct Step {
    /// The state after it.
    pub after: Arc<Replica>,
    /// What came of it.
    pub applied: Applied,
}

/// What commands made of shards.
#[derive(Clone, Default)]
pub struct Memo {
    steps: Arc<Mutex<HashMap<Key, Arc<Step>>>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    before: Arc<Replica>,
    message: Message,
    at: (ShardTime, Timestamp),
}

impl Memo {
    /// As [`Replica::apply`]. A memo serves one scenario, with one mistake or none.
    #[must_use]
    pub fn apply(
        &self,
        before: &Arc<Replica>,
        message: &Message,
        at: (ShardTime, Timestamp),
        bug: Option<Bug>,
    ) -> Arc<Step> {
        let key = Key {
            before: Arc::clone(before),
            message: message.clone(),
            at,
        };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(step) = steps.get(&key) {
            return Arc::clone(step);
        }
        let (after, applied) = before.apply(&message.command, at, bug);
        // One that changed nothing need not be kept twice.
        let after = if after == **before {
            Arc::clone(before)
        } else {
            Arc::new(after)
        };
        let step = Arc::new(Step { after, applied });
        if steps.len() < MAX_ENTRIES {
            steps.insert(key, Arc::clone(&step));
        }
        step
    }
}

impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Memo")
    }
}
