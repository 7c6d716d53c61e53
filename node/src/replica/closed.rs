//! The replicas that should be open on this node and are not, with the reason.
//!
//! Invariant: while a replica is in this list its node is not ready, and says why.

use std::collections::BTreeMap;

use lockstep_model::ShardId;
use parking_lot::Mutex;

/// See the module. At most one reason a shard, so it is bounded.
#[derive(Debug, Default)]
pub struct Closed(Mutex<BTreeMap<ShardId, String>>);

impl Closed {
    /// A shard's replica is not open, and why.
    pub fn add(&self, shard: ShardId, why: String) {
        self.0.lock().insert(shard, why);
    }

    /// It is open, or not to be open here any more.
    pub fn remove(&self, shard: ShardId) {
        self.0.lock().remove(&shard);
    }

    /// The first of them, in words.
    #[must_use]
    pub fn first(&self) -> Option<String> {
        let closed = self.0.lock();
        let (shard, why) = closed.first_key_value()?;
        Some(format!("the replica of shard {shard} is closed: {why}"))
    }
}
