//! Acquiring in a task of its own.
//!
//! Invariant: an acquisition whose caller goes away before it is answered, and that names no serial,
//! is cancelled, and given back if it was granted meanwhile: it leaves nothing behind. What could not be
//! undone at once is undone by the same task, when the shards have leaders again.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lockstep_model::{
    Refusal, Serial, SessionId, SessionRefusal, ShardId, locks::reply::Grant, request::RequestId,
};
use tokio::{sync::oneshot, time::sleep};

use super::{
    acquire::{Acquisition, Failed, Undo, acquire, undo, undo_of},
    operation,
};
use crate::api::error::Fault;
use crate::router::Router;

/// Most acquisitions that wait for a shard's leader to be undone there. More end with their sessions.
const MAX_UNDOING: usize = 1_024;
/// How long after a shard was not heard it is asked again.
const AGAIN: Duration = Duration::from_secs(1);

/// Those that wait.
static UNDOING: AtomicUsize = AtomicUsize::new(0);

/// Acquires; the grants in the order in which they were asked for.
///
/// # Errors
/// As [`acquire`].
pub async fn detached(router: Arc<Router>, acquisition: Acquisition) -> Result<Vec<Grant>, Fault> {
    let RequestId {
        session, serial, ..
    } = acquisition.request;
    if !serial.is_ephemeral() {
        let outcome = acquire(&router, acquisition).await;
        return outcome.map_err(|failed| failed.fault);
    }
    let shards: BTreeSet<ShardId> = acquisition
        .locks
        .iter()
        .map(|spec| router.directory().shard_of_lock(&spec.name))
        .collect();
    let (result, answered) = oneshot::channel();
    let (present, gone) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let mut acquiring = Box::pin(acquire(&router, acquisition));
        let outcome = tokio::select! {
            outcome = &mut acquiring => Some(outcome),
            // The caller's end is dropped: it went away.
            _ = gone => None,
        };
        let outcome = match outcome {
            Some(outcome) => outcome,
            None => {
                let cancel = operation::cancel(&router, session, serial, shards);
                tokio::join!(acquiring, cancel).0
            }
        };
        let (outcome, mut left) = match outcome {
            Ok(grants) => (Ok(grants), Undo::new()),
            Err(Failed { fault, left }) => (Err(fault), left),
        };
        if let Err(Ok(grants)) = result.send(outcome) {
            let shard_of = |grant: &Grant| router.directory().shard_of_lock(&grant.name);
            left = undo_of(grants.into_iter().map(|grant| (shard_of(&grant), grant)));
        }
        undo_in_the_end(&router, session, serial, left).await;
    });
    let outcome = answered
        .await
        .unwrap_or_else(|_| Err(Fault::unavailable("SHUTTING_DOWN", "this node is stopping")));
    drop(present);
    outcome
}

/// Undoes what is left, again and again until every shard has answered. A shard that knows the session's
/// end has.
async fn undo_in_the_end(router: &Router, session: SessionId, serial: Serial, mut left: Undo) {
    let refusal = Refusal::Session(SessionRefusal::Abandoned { serial: serial.0 });
    let mut turn = 0;
    while !left.is_empty() {
        if turn > 0 {
            if turn == 1 && UNDOING.fetch_add(1, Ordering::Relaxed) >= MAX_UNDOING {
                UNDOING.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(%session, %serial, "too much is being undone: what is left ends with its session");
                return;
            }
            sleep(AGAIN).await;
        }
        turn += 1;
        let fault;
        (left, fault) = undo(router, session, serial, left, &refusal).await;
        if let Some(fault) = fault {
            tracing::debug!(%session, %serial, reason = fault.reason, "not undone yet");
        }
    }
    if turn > 1 {
        UNDOING.fetch_sub(1, Ordering::Relaxed);
    }
}
