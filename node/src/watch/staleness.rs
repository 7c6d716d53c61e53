//! Whether a replica that watches are served from still hears its shard's leader.
//!
//! A replica that is cut off, or that lags, would tell nothing and seem quiet. While anybody watches,
//! the leader is asked again and again how far the shard is: once for all watches of the replica.
//! Invariant: a watch ends within [`DEAF`] of the last answer, and at the next look once it lacks what
//! the leader had [`LAG`] ago.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use lockstep_model::{Answer, LockAnswer, LockQuery, Query, Revision, ShardId};
use parking_lot::Mutex;
use tokio::{sync::watch, time::sleep};

use crate::router::{RouteError, Router};

/// Pause between two questions. Longer than [`LAG`] by more than a watch's time between two looks.
const PERIOD: Duration = Duration::from_secs(3);
/// A replica that lacks what the leader had so long ago does not follow it.
const LAG: Duration = Duration::from_millis(1_500);
/// A shard that has not answered for so long, elections included, does not serve.
const DEAF: Duration = Duration::from_secs(10);

/// What the leader said last.
#[derive(Clone, Copy, Debug)]
struct Beat {
    at: Instant,
    revision: Revision,
}

/// What listening has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It follows.
    Follows,
    /// The leader answers, but what it had does not arrive here.
    Behind,
    /// The leader does not answer.
    Deaf,
}

/// The pulse of a shard, as heard on this node. Beats while somebody listens.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Weak<watch::Sender<Beat>>>);

/// One that listens.
#[derive(Debug)]
pub struct Listener(watch::Receiver<Beat>);

/// How far a shard is, linearizably.
///
/// # Errors
/// If its leader is not found, or does not answer in time.
pub async fn revision(router: &Router, shard: ShardId) -> Result<Revision, RouteError> {
    let answer = router
        .query(shard, Query::Lock(LockQuery::Revision))
        .await?;
    let Answer::Lock(LockAnswer::Revision(revision)) = answer else {
        return Err(RouteError::Incompatible {
            what: format!("it answered {answer:?}"),
        });
    };
    Ok(revision)
}

impl Pulse {
    /// Listens. The first beat is what the caller knows already.
    pub fn listen(&self, router: &Arc<Router>, shard: ShardId, known: Revision) -> Listener {
        let mut running = self.0.lock();
        if let Some(sender) = running.upgrade() {
            return Listener(sender.subscribe());
        }
        let sender = Arc::new(watch::Sender::new(Beat {
            at: Instant::now(),
            revision: known,
        }));
        *running = Arc::downgrade(&sender);
        let listener = Listener(sender.subscribe());
        tokio::spawn(beat(Arc::clone(router), shard, sender));
        listener
    }
}

async fn beat(router: Arc<Router>, shard: ShardId, sender: Arc<watch::Sender<Beat>>) {
    loop {
        tokio::select! {
            () = sleep(PERIOD) => {}
            () = sender.closed() => return,
        }
        if let Ok(revision) = revision(&router, shard).await {
            let at = Instant::now();
            sender.send_replace(Beat { at, revision });
        }
    }
}

impl Listener {
    /// How the replica is that has applied the changes up to `applied`.
    #[must_use]
    pub fn health(&self, applied: Revision, now: Instant) -> Health {
        let beat = *self.0.borrow();
        let ago = now.saturating_duration_since(beat.at);
        if ago > DEAF {
            Health::Deaf
        } else if ago > LAG && applied < beat.revision {
            Health::Behind
        } else {
            Health::Follows
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_that_lags_or_hears_nothing_is_found_out() {
        let began = Instant::now();
        let beat = |at| Beat {
            at,
            revision: Revision(7),
        };
        let sender = watch::Sender::new(beat(began));
        let listener = Listener(sender.subscribe());
        let health = |applied, after| listener.health(Revision(applied), began + after);
        let moment = Duration::from_millis(1);
        assert_eq!(health(6, LAG), Health::Follows, "on its way");
        assert_eq!(health(6, LAG + moment), Health::Behind);
        assert_eq!(health(7, DEAF), Health::Follows);
        assert_eq!(health(7, DEAF + moment), Health::Deaf);
        sender.send_replace(beat(began + DEAF));
        assert_eq!(health(7, DEAF + moment), Health::Follows);
    }
}
