//! What a session's handles, guards and tasks have in common.
//!
//! Invariant: the core is locked for short, synchronous steps only, and what it asks for (streams
//! to open, the keeper to wake) is done after each of them.

use std::{fmt, sync::Arc, time::Duration};

use lockstep_model::id::SessionId;
use parking_lot::Mutex;
use tokio::{
    runtime,
    sync::{Notify, Semaphore, TryAcquireError, oneshot, watch},
    time::timeout,
};

use super::{
    Loss, SessionState,
    core::{Core, Submission},
    keeper, link,
    pending::{Hold, Sink, Work},
    reply::Reply,
};
use crate::{
    client::{Client, Release},
    error::Failure,
    lease_time::LeaseTime,
    placement::Key,
};

/// The state of a session, and its surroundings.
pub(crate) struct Shared {
    id: SessionId,
    client: Client,
    core: Mutex<Core>,
    /// Wakes the keeper before its time.
    early: Notify,
    /// Bounds what is under way; closed when the session is over.
    permits: Arc<Semaphore>,
    loss: watch::Receiver<Option<Loss>>,
    /// Guards may be dropped outside of the runtime.
    runtime: runtime::Handle,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("id", &self.id).finish()
    }
}

impl Shared {
    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    pub(super) async fn early(&self) {
        self.early.notified().await;
    }

    /// Takes a step, and does what it asks for.
    pub(super) fn with<T>(self: &Arc<Self>, step: impl FnOnce(&mut Core, LeaseTime) -> T) -> T {
        let mut core = self.core.lock();
        let out = step(&mut core, LeaseTime::now());
        let openings = core.take_openings();
        let lost_nodes = core.take_lost_nodes();
        let early = core.is_early() || !openings.is_empty();
        drop(core);
        for address in lost_nodes {
            self.client.suspect(&address);
        }
        for opening in openings {
            self.runtime.spawn(link::run(Arc::clone(self), opening));
        }
        if early {
            self.early.notify_one();
        }
        out
    }

    fn lost(&self) -> impl Future<Output = Loss> + Send + 'static + use<> {
        let mut loss = self.loss.clone();
        async move {
            let lost = loss
                .wait_for(Option::is_some)
                .await
                .ok()
                .and_then(|loss| loss.clone());
            // The core sets it before it goes.
            lost.unwrap_or(Loss::Closed)
        }
    }
}

/// What keeps a session open: held by [`super::Session`]s and guards; the last one to go closes it.
pub(crate) struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn start(
        client: Client,
        id: SessionId,
        ttl: Duration,
        opened: LeaseTime,
    ) -> Arc<Self> {
        let core = Core::new(id, ttl, opened, client.placement());
        let shared = Arc::new(Shared {
            id,
            client,
            early: Notify::new(),
            permits: core.permits(),
            loss: core.watch_loss(),
            core: Mutex::new(core),
            runtime: runtime::Handle::current(),
        });
        tokio::spawn(keeper::run(Arc::clone(&shared)));
        Arc::new(Self { shared })
    }

    pub(crate) fn id(&self) -> SessionId {
        self.shared.id
    }

    pub(crate) fn client(&self) -> &Client {
        &self.shared.client
    }

    /// How the session stands now.
    pub(crate) fn state(&self) -> SessionState {
        match self.shared.with(Core::standing) {
            Ok(remaining) => SessionState::Alive { remaining },
            Err(loss) => SessionState::Lost(loss),
        }
    }

    /// Resolves when the session is over.
    pub(crate) fn lost(&self) -> impl Future<Output = Loss> + Send + 'static + use<> {
        self.shared.lost()
    }

    /// Ends the session here. The loss that came before, if any.
    pub(super) fn end(&self, loss: Loss) -> Option<Loss> {
        self.shared.with(|core, now| {
            let before = core.standing(now).err();
            core.lose(loss);
            before
        })
    }

    /// Runs a task of the session that goes on whatever becomes of whoever waits for it; none if the
    /// runtime has been shut down.
    pub(super) async fn in_background<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.shared.runtime.spawn(task).await.ok()
    }

    /// Starts an operation, once fewer than [`crate::config::MAX_IN_FLIGHT`] are under way.
    ///
    /// `patience` is how long its answer is awaited; without one, as long as the session lives.
    pub(crate) async fn submit(
        &self,
        work: Work,
        key: Key,
        patience: Option<Duration>,
    ) -> Result<Reply, Failure> {
        let started = LeaseTime::now();
        let deadline = patience.map(|patience| started + patience);
        match self.shared.permits.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => {
                self.wait_for_permit(started, deadline).await?;
            }
        }
        let (caller, answer) = oneshot::channel();
        let submission = Submission {
            work,
            key,
            deadline,
            sink: Sink::Caller(caller),
        };
        let serial = self.shared.with(|core, now| core.submit(submission, now));
        Ok(Reply::new(Arc::clone(&self.shared), serial, answer))
    }

    /// Gives a hold back in the background.
    pub(crate) fn release_in_background(&self, hold: Hold) {
        self.shared.with(|core, now| core.release_hold(hold, now));
    }

    async fn wait_for_permit(
        &self,
        started: LeaseTime,
        deadline: Option<LeaseTime>,
    ) -> Result<(), Failure> {
        let permit = self.shared.permits.acquire();
        let permit = match deadline {
            None => permit.await,
            Some(deadline) => {
                timeout(deadline.left(), permit)
                    .await
                    .map_err(|_| Failure::NoAnswer {
                        after: LeaseTime::now() - started,
                    })?
            }
        };
        match permit {
            Ok(permit) => {
                permit.forget();
                Ok(())
            }
            // Closed: the session is over.
            Err(_) => Err(Failure::Lost(self.lost().await)),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.end(Loss::Closed).is_none() {
            let client = self.shared.client.clone();
            let id = self.shared.id;
            self.shared.runtime.spawn(async move {
                // Best effort: what is not heard here comes by the TTL.
                if let Err(error) = client.close_session(id, Release::Now).await {
                    tracing::debug!(session = %id, %error, "close after drop failed");
                }
            });
        }
    }
}
