//! Acquiring in a task of its own.
//!
//! Invariant: an acquisition whose caller goes away before it is answered, and that names no serial,
//! is cancelled, and given back if it was granted meanwhile: it leaves nothing behind.

use std::sync::Arc;

use lockstep_model::{Refusal, reply::Grant};
use tokio::sync::oneshot;

use super::{
    acquire::{Acquisition, acquire, undo},
    error::Fault,
    operation,
};
use crate::router::Router;

/// Acquires; the grants in the order in which they were asked for.
///
/// # Errors
/// As [`acquire`].
pub async fn detached(router: Arc<Router>, acquisition: Acquisition) -> Result<Vec<Grant>, Fault> {
    let request = acquisition.request;
    if !request.serial.is_ephemeral() {
        return acquire(&router, acquisition).await;
    }
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
                let cancel = operation::cancel(&router, request.session, request.serial);
                tokio::join!(acquiring, cancel).0
            }
        };
        if let Err(Ok(grants)) = result.send(outcome) {
            let held = grants
                .into_iter()
                .map(|grant| (router.directory().shard_of_lock(&grant.name), 0, grant));
            if let Err(fault) = undo(&router, request, held, Refusal::NoSuchWait).await {
                tracing::debug!(session = %request.session, reason = fault.reason, "not undone");
            }
        }
    });
    let outcome = answered
        .await
        .unwrap_or_else(|_| Err(Fault::unavailable("SHUTTING_DOWN", "this node is stopping")));
    drop(present);
    outcome
}
