//! How far a shard's log is about to be purged on its leader, for the streams to followers.
//!
//! Raft purges nothing that a follower is being sent, so one slow but live follower would keep the log for
//! ever. Once the leader's log is over its bytes, the floor is raised; a stream whose follower has not come
//! so far then fails. Raft finds nothing in its way, purges, and turns to the snapshot for that follower.
//!
//! Invariant: a floor only rises.

use tokio::sync::watch;

/// See the module.
#[derive(Debug, Default)]
pub struct LogFloor(watch::Sender<u64>);

impl LogFloor {
    /// Entries up to this index are to go.
    pub fn raise(&self, upto: u64) {
        self.0.send_if_modified(|floor| {
            let rises = *floor < upto;
            *floor = upto.max(*floor);
            rises
        });
    }

    /// For a stream.
    #[must_use]
    pub fn watch(&self) -> Watched {
        Watched(self.0.subscribe())
    }
}

/// A stream's view of the floor.
#[derive(Clone, Debug)]
pub struct Watched(watch::Receiver<u64>);

impl Watched {
    /// True if a follower that has the log up to `matched` is below the floor.
    #[must_use]
    pub fn is_above_now(&self, matched: u64) -> bool {
        *self.0.borrow() > matched
    }

    /// Returns when a follower that has the log up to `matched` is below the floor; never if the replica is
    /// closed before.
    pub async fn is_above(&mut self, matched: u64) {
        if self.0.wait_for(|floor| *floor > matched).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn those_below_the_floor_hear_of_it_and_others_do_not() {
        let floor = LogFloor::default();
        let mut watched = floor.watch();
        floor.raise(7);
        floor.raise(5);
        watched.is_above(6).await;
        let mut level = floor.watch();
        let waits = tokio::time::timeout(Duration::from_millis(20), level.is_above(7));
        assert!(waits.await.is_err());
        floor.raise(8);
        assert!(level.is_above_now(7) && !level.is_above_now(8));
        level.is_above(7).await;
    }
}
