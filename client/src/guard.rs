//! A held lock.
//!
//! Invariant: a guard gives its hold back exactly once: by [`LockGuard::release`], when dropped,
//! or with its session.

use std::{fmt, sync::Arc, time::Duration};

use lockstep_model::{
    command::Mode,
    id::{FencingToken, SessionId},
};
use lockstep_proto::lock::v1::{
    DowngradeOperation, ReleaseOperation, RenewOperation, UpgradeOperation,
    operation::Operation as Work, operation_result::Result as Answer,
};
use tokio::time::{Instant, timeout_at};

use crate::{
    error::{DowngradeError, Failure, ReleaseError, RenewError, UpgradeError},
    lock::{Wait, unexpected},
    placement::Key,
    session::{Handle, Hold, Loss, Outcome, Reply, SessionState, changed_token},
};

/// One hold of one lock. Dropped, it is released in the background; use [`Self::release`] to
/// know that it was, and before the process ends.
///
/// A program must stop using what the lock protects once [`Self::lost`] resolves, and should give
/// [`Self::token`] to the resources that it uses, which then can refuse it if it does not.
pub struct LockGuard {
    handle: Arc<Handle>,
    hold: Hold,
    mode: Mode,
    /// A change of mode whose outcome was not awaited to its end.
    changing: Option<Changing>,
    /// Whether there is something to give back.
    held: bool,
}

#[derive(Debug)]
struct Changing {
    reply: Reply,
    to: Mode,
}

impl fmt::Debug for LockGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockGuard")
            .field("name", &self.name())
            .field("token", &self.hold.token)
            .field("mode", &self.mode)
            .finish()
    }
}

impl LockGuard {
    pub(crate) const fn new(handle: Arc<Handle>, hold: Hold, mode: Mode) -> Self {
        Self {
            handle,
            hold,
            mode,
            changing: None,
            held: true,
        }
    }

    /// The lock's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.hold.name.as_str()
    }

    /// The fencing token: greater than that of every earlier grant of this lock.
    #[must_use]
    pub const fn token(&self) -> FencingToken {
        self.hold.token
    }

    /// Shared or exclusive.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The session that holds it.
    #[must_use]
    pub fn session_id(&self) -> SessionId {
        self.handle.id()
    }

    /// False once the lock is known to be lost. Checks the clock, so it is right even where the
    /// background tasks have had no chance to run.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held && matches!(self.handle.state(), SessionState::Alive { .. })
    }

    /// Resolves when the lock is lost because its session is. Independent of the guard's life.
    pub fn lost(&self) -> impl Future<Output = Loss> + Send + 'static + use<> {
        self.handle.lost()
    }

    /// Gives the hold back, and returns how often its owner still has it: 0 unless it is
    /// re-entrant. If the future is dropped, the release goes on.
    ///
    /// # Errors
    /// If the lock was lost before, or no answer came within the request timeout; the release then
    /// goes on in the background.
    pub async fn release(mut self) -> Result<u32, ReleaseError> {
        let patience = self.handle.client().request_timeout();
        let settled = self.settle(patience).await;
        if let Err(Failure::NoAnswer { after }) = settled {
            // Dropping the guard releases it once the change is answered.
            return Err(ReleaseError::NoAnswer { after });
        }
        if !self.held {
            return Err(self.stale());
        }
        let work = Work::Release(ReleaseOperation {
            name: self.name().to_owned(),
            token: self.hold.token.0,
        });
        let reply = self.handle.submit(work, self.key(), Some(patience)).await?;
        // From here on the release goes on by itself.
        self.held = false;
        match reply.await? {
            Answer::Released(released) => Ok(released.holds),
            Answer::Granted(_) | Answer::Renewed(_) | Answer::Downgraded(_) | Answer::Error(_) => {
                Err(ReleaseError::Other(unexpected("something else")))
            }
        }
    }

    /// Confirms with the cluster that the lock is held under this token.
    ///
    /// # Errors
    /// If it is not, or no answer came within the request timeout.
    pub async fn renew(&mut self) -> Result<(), RenewError> {
        let patience = self.handle.client().request_timeout();
        if let Err(failure @ (Failure::NoAnswer { .. } | Failure::Lost(_))) =
            self.settle(patience).await
        {
            return Err(failure.into());
        }
        let work = Work::Renew(RenewOperation {
            name: self.name().to_owned(),
            token: self.hold.token.0,
        });
        let reply = self.handle.submit(work, self.key(), Some(patience)).await?;
        match reply.await.map_err(RenewError::from) {
            Ok(Answer::Renewed(_)) => Ok(()),
            Ok(
                Answer::Granted(_) | Answer::Released(_) | Answer::Downgraded(_) | Answer::Error(_),
            ) => Err(RenewError::Other(unexpected("something else"))),
            Err(error) => {
                self.held &= !matches!(error, RenewError::StaleToken { .. });
                Err(error)
            }
        }
    }

    /// Makes a shared hold exclusive, waiting for the other readers to leave. It stays shared, and
    /// held, until then. Returns the new token. Dropping the future gives the attempt up; the next
    /// operation on the guard then waits for how it ended.
    ///
    /// # Errors
    /// See [`UpgradeError`]. A second holder that wants to upgrade gets
    /// [`UpgradeError::Deadlock`] at once: each would wait for the other.
    pub async fn upgrade(&mut self, wait: Wait) -> Result<FencingToken, UpgradeError> {
        let request_timeout = self.handle.client().request_timeout();
        if let Err(failure @ (Failure::NoAnswer { .. } | Failure::Lost(_))) =
            self.settle(request_timeout).await
        {
            return Err(failure.into());
        }
        let work = Work::Upgrade(UpgradeOperation {
            name: self.name().to_owned(),
            token: self.hold.token.0,
            wait: Some(wait.to_wire()),
        });
        let patience = wait.patience(request_timeout);
        self.change(work, Mode::Exclusive, patience).await?;
        Ok(self.hold.token)
    }

    /// Makes an exclusive hold shared: readers that wait come in, no writer does in between.
    /// Returns the token to use from now on.
    ///
    /// # Errors
    /// See [`DowngradeError`].
    pub async fn downgrade(&mut self) -> Result<FencingToken, DowngradeError> {
        let patience = self.handle.client().request_timeout();
        if let Err(failure @ (Failure::NoAnswer { .. } | Failure::Lost(_))) =
            self.settle(patience).await
        {
            return Err(failure.into());
        }
        let work = Work::Downgrade(DowngradeOperation {
            name: self.name().to_owned(),
            token: self.hold.token.0,
        });
        self.change(work, Mode::Shared, Some(patience)).await?;
        Ok(self.hold.token)
    }

    /// Runs a change of mode to its end.
    async fn change(
        &mut self,
        work: Work,
        to: Mode,
        patience: Option<Duration>,
    ) -> Result<(), Failure> {
        let reply = self.handle.submit(work, self.key(), None).await?;
        self.changing = Some(Changing { reply, to });
        let mut step = CancelOnDrop {
            guard: self,
            answered: false,
        };
        let outcome = step.guard.await_change(patience).await;
        step.answered = !matches!(outcome, Err(Failure::NoAnswer { .. }));
        drop(step);
        outcome
    }

    /// Awaits the change of mode that is under way, if any, and takes note of what it came to.
    async fn settle(&mut self, patience: Duration) -> Result<(), Failure> {
        self.await_change(Some(patience)).await
    }

    async fn await_change(&mut self, patience: Option<Duration>) -> Result<(), Failure> {
        let Some(changing) = &mut self.changing else {
            return Ok(());
        };
        let started = Instant::now();
        let outcome = match patience {
            None => (&mut changing.reply).await,
            Some(patience) => match timeout_at(started + patience, &mut changing.reply).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    let after = started.elapsed();
                    return Err(Failure::NoAnswer { after });
                }
            },
        };
        let to = changing.to;
        self.changing = None;
        self.changed(outcome, to)
    }

    fn changed(&mut self, outcome: Outcome, to: Mode) -> Result<(), Failure> {
        let token = changed_token(Some(&outcome));
        if let Some(token) = token {
            self.hold.token = token;
            self.mode = to;
            return Ok(());
        }
        match outcome {
            Ok(_) => Err(unexpected("something else").into()),
            Err(failure) => {
                self.held &= !failure.is_stale();
                Err(failure)
            }
        }
    }

    fn key(&self) -> Key {
        Key::Lock(self.hold.name.clone())
    }

    fn stale(&self) -> ReleaseError {
        ReleaseError::StaleToken {
            message: format!("lock {:?} was lost before it was released", self.name()),
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if !self.held {
            return;
        }
        match self.changing.take() {
            Some(changing) => changing.reply.release_after(self.hold.clone()),
            None => self.handle.release_in_background(self.hold.clone()),
        }
    }
}

/// Cancels a change of mode whose caller goes away before its answer.
struct CancelOnDrop<'a> {
    guard: &'a mut LockGuard,
    answered: bool,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let (false, Some(changing)) = (self.answered, &self.guard.changing) {
            changing.reply.cancel();
        }
    }
}
