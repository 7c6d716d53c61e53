//! The task that keeps a session alive.
//!
//! Invariant: it looks again no later than at the time that the core names, and whenever the
//! cluster changes. A machine that slept looks later, by as much as was left of the timer when it fell
//! asleep; whoever asks for the session's state meanwhile is told by the clock.

use std::sync::Arc;

use tokio::time::sleep;

use super::shared::Shared;

/// Runs until the session is over.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut placement = shared.client().watch_placement();
    while let Some(wake) = shared.with(|core, now| core.tick(now)) {
        tokio::select! {
            () = sleep(wake.left()) => {}
            () = shared.early() => {}
            Ok(()) = placement.changed() => {
                let latest = Arc::clone(&placement.borrow_and_update());
                shared.with(|core, now| core.follow(latest, now));
            }
        }
    }
}
