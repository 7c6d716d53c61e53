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

    /// Only these are to be open here; those that are not among them are given back.
    pub fn retain(&self, placed: &[ShardId]) -> Vec<ShardId> {
        let mut closed = self.0.lock();
        let gone = closed.keys().filter(|shard| !placed.contains(shard));
        let gone: Vec<ShardId> = gone.copied().collect();
        closed.retain(|shard, _| placed.contains(shard));
        gone
    }

    /// The first of them, in words.
    #[must_use]
    pub fn first(&self) -> Option<String> {
        let closed = self.0.lock();
        let (shard, why) = closed.first_key_value()?;
        Some(format!("the replica of shard {shard} is closed: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_moves_away_while_it_is_closed_is_not_waited_for() {
        let closed = Closed::default();
        closed.add(ShardId(1), "its disk is full".to_owned());
        closed.add(ShardId(2), "its records are damaged".to_owned());
        assert_eq!(closed.retain(&[ShardId(2), ShardId(3)]), [ShardId(1)]);
        let words = closed.first().unwrap();
        assert!(
            words.contains("shard 2") && words.contains("damaged"),
            "{words}"
        );
        assert_eq!(closed.retain(&[]), [ShardId(2)]);
        assert_eq!(closed.first(), None);
    }
}
