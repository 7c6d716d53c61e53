//! Releases ended sessions in the other shards that they touched.
//!
//! Invariants: the home keeps an ended session until every touched shard has confirmed its release;
//! releasing is idempotent and repeated until then, by whoever leads the home. Each of those shards is told in
//! rounds of its own, so one that does not answer holds up none of the others.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
};

use futures::{StreamExt as _, stream};
use lockstep_model::{Command, Machine, Reply, SessionCommand, ShardId, kernel::EndingSession};
use parking_lot::Mutex;

use super::Replica;
use crate::{
    request::{Request, Response},
    router::Router,
};

/// Releases by one shard that are under way at once.
const MAX_AT_ONCE: usize = 64;
/// Releases by one shard that are started in one round; the rest come in the next.
const MAX_PER_ROUND: usize = 1_024;

/// The releasing side of one home.
pub struct Reaper {
    replica: Arc<Replica>,
    router: Arc<Router>,
    /// The shards of which a round is under way.
    busy: Arc<Mutex<BTreeSet<ShardId>>>,
}

impl Reaper {
    /// Idle until woken.
    #[must_use]
    pub fn new(replica: Arc<Replica>, router: Arc<Router>) -> Self {
        Self {
            replica,
            router,
            busy: Arc::default(),
        }
    }

    /// Starts a round for each shard that has something to release and of which none is under way.
    pub fn wake(&self) {
        let busy = self.busy.lock().clone();
        let due = match &*self.replica.machine.read() {
            Machine::Data(shard) => shard.releases(&busy, MAX_PER_ROUND),
            Machine::Meta(_) => Vec::new(),
        };
        for (shard, sessions) in due {
            self.busy.lock().insert(shard);
            let round = Round {
                shard,
                busy: Arc::downgrade(&self.busy),
            };
            let (replica, router) = (Arc::clone(&self.replica), Arc::clone(&self.router));
            tokio::spawn(async move {
                let released = stream::iter(sessions)
                    .map(|session| release(&replica, &router, session, shard))
                    .buffer_unordered(MAX_AT_ONCE)
                    .fold(false, async |any, done| any || done)
                    .await;
                drop(round);
                // There may be more; what was not done comes again at the next tick.
                if released {
                    replica.clock.changed.notify_one();
                }
            });
        }
    }
}

/// A round that is under way.
struct Round {
    shard: ShardId,
    busy: Weak<Mutex<BTreeSet<ShardId>>>,
}

impl Drop for Round {
    fn drop(&mut self) {
        if let Some(busy) = self.busy.upgrade() {
            busy.lock().remove(&self.shard);
        }
    }
}

/// True if the home has recorded it.
async fn release(replica: &Replica, router: &Router, ended: EndingSession, shard: ShardId) -> bool {
    let EndingSession {
        session,
        reason,
        touch,
        shards: _,
    } = ended;
    let detach = Command::Session(SessionCommand::Detach {
        session,
        reason,
        touch,
    });
    match router.execute(shard, Request::Command(detach)).await {
        Ok(Response::Reply(Reply::Done)) => {
            let released = Command::Session(SessionCommand::ShardReleased { session, shard });
            match replica.execute(Request::Command(released)).await {
                Ok(_) => return true,
                Err(error) => {
                    tracing::debug!(%session, %shard, %error, "release not recorded; it comes again");
                }
            }
        }
        Ok(other) => tracing::error!(%session, %shard, ?other, "a release was refused"),
        Err(error) => tracing::debug!(%session, %shard, %error, "release not done; it comes again"),
    }
    false
}
