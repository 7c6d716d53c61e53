//! Releases ended sessions in the other shards that they touched.
//!
//! Invariant: the home keeps an ended session until every touched shard has confirmed its release;
//! releasing is idempotent and repeated until then, by whoever leads the home.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{StreamExt as _, stream};
use lockstep_model::{
    Command, Machine, Reply, SessionId, ShardId, command::EndReason, session::Touch,
};

use super::Replica;
use crate::{
    request::{Request, Response},
    router::Router,
};

/// Releases under way at once.
const MAX_AT_ONCE: usize = 64;
/// Releases started in one round; the rest come in the next.
const MAX_PER_ROUND: usize = 4_096;

/// The releasing side of one home.
pub struct Reaper {
    replica: Arc<Replica>,
    router: Arc<Router>,
    busy: Arc<AtomicBool>,
}

impl Reaper {
    /// Idle until woken.
    #[must_use]
    pub fn new(replica: Arc<Replica>, router: Arc<Router>) -> Self {
        Self {
            replica,
            router,
            busy: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Starts a round if there is something to release and none is under way.
    pub fn wake(&self) {
        let due = due(&self.replica);
        if due.is_empty() || self.busy.swap(true, Ordering::AcqRel) {
            return;
        }
        let replica = Arc::clone(&self.replica);
        let router = Arc::clone(&self.router);
        let busy = Arc::clone(&self.busy);
        tokio::spawn(async move {
            stream::iter(due)
                .for_each_concurrent(MAX_AT_ONCE, |(session, reason, touch, shard)| {
                    release(&replica, &router, session, reason, touch, shard)
                })
                .await;
            busy.store(false, Ordering::Release);
        });
    }
}

fn due(replica: &Replica) -> Vec<(SessionId, EndReason, Touch, ShardId)> {
    match &*replica.machine.read() {
        Machine::Data(shard) => shard
            .ending()
            .into_iter()
            .flat_map(|ending| {
                ending
                    .shards
                    .into_iter()
                    .map(move |shard| (ending.session, ending.reason, ending.touch, shard))
            })
            .take(MAX_PER_ROUND)
            .collect(),
        Machine::Meta(_) => Vec::new(),
    }
}

async fn release(
    replica: &Replica,
    router: &Router,
    session: SessionId,
    reason: EndReason,
    touch: Touch,
    shard: ShardId,
) {
    let detach = Command::DetachSession {
        session,
        reason,
        touch,
    };
    match router.execute(shard, Request::Command(detach)).await {
        Ok(Response::Reply(Reply::Done)) => {
            let released = Command::ShardReleased { session, shard };
            if let Err(error) = replica.execute(Request::Command(released)).await {
                tracing::debug!(%session, %shard, %error, "release not recorded; it comes again");
            }
        }
        Ok(other) => tracing::error!(%session, %shard, ?other, "a release was refused"),
        Err(error) => tracing::debug!(%session, %shard, %error, "release not done; it comes again"),
    }
}
