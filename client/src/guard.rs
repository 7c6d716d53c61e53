//! A held lock.
//!
//! Invariant: a guard knows its mode and its token, or that a change of them is under way, whose
//! outcome comes before anything else is done with it. Guards of one re-entrant hold need to know
//! nothing of each other: the cluster converts a hold only while its owner has it once.

use std::{fmt, time::Duration};

use lockstep_model::{id::FencingToken, locks::mode::Mode};
use lockstep_proto::lock::v1::{DowngradeOperation, UpgradeOperation};
use tokio::time::{Instant, timeout_at};

use crate::{
    acquire::{Wait, unexpected},
    error::{DowngradeError, Failure, ReleaseError, RenewError, UpgradeError},
    grip::{Grip, grip_facts},
    session::{Outcome, Reply, Work, changed_token},
};

/// One hold of one lock. Dropped, it is released in the background; use [`Self::release`] to
/// know that it was, and before the process ends.
///
/// A program must stop using what the lock protects once [`Self::lost`] resolves, and should give
/// [`Self::token`] to the resources that it uses, which then can refuse it if it does not.
pub struct LockGuard {
    grip: Grip,
    mode: Mode,
    /// A change of mode whose outcome was not awaited to its end.
    changing: Option<Changing>,
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
            .field("token", &self.token())
            .field("mode", &self.mode)
            .finish()
    }
}

impl LockGuard {
    pub(crate) const fn new(grip: Grip, mode: Mode) -> Self {
        Self {
            grip,
            mode,
            changing: None,
        }
    }

    grip_facts!();

    /// Shared or exclusive.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Gives the hold back, and returns how often its owner still has it: 0 unless it is
    /// re-entrant. If the future is dropped, the release goes on.
    ///
    /// # Errors
    /// If the lock was lost before, or no answer came within the request timeout; the release then
    /// goes on in the background.
    pub async fn release(mut self) -> Result<u32, ReleaseError> {
        let settled = self.settle().await;
        if let Err(Failure::NoAnswer { after }) = settled {
            // Dropping the guard releases it once the change is answered.
            return Err(ReleaseError::NoAnswer { after });
        }
        self.grip.release().await
    }

    /// Confirms with the cluster that the lock is held under this token.
    ///
    /// # Errors
    /// If it is not, or no answer came within the request timeout.
    pub async fn renew(&mut self) -> Result<(), RenewError> {
        self.settle_or_fail().await?;
        self.grip.renew().await
    }

    /// Makes a shared hold exclusive, if its owner has it only once, waiting for the other readers to leave. It stays shared, and
    /// held, until then. Returns the new token. Dropping the future gives the attempt up; the next
    /// operation on the guard then waits for how it ended.
    ///
    /// # Errors
    /// See [`UpgradeError`]. A second holder that wants to upgrade gets
    /// [`UpgradeError::SecondUpgrade`] at once: each would wait for the other.
    pub async fn upgrade(&mut self, wait: Wait) -> Result<FencingToken, UpgradeError> {
        self.settle_or_fail().await?;
        let work = Work::Upgrade(UpgradeOperation {
            name: self.name().to_owned(),
            token: self.token().0,
            wait: Some(wait.to_wire()),
        });
        let patience = wait.patience(self.grip.request_timeout());
        self.change(work, Mode::Exclusive, patience).await?;
        Ok(self.token())
    }

    /// Makes an exclusive hold shared, if its owner has it only once: readers that wait come in, no writer does in between.
    /// Returns the token to use from now on.
    ///
    /// # Errors
    /// See [`DowngradeError`].
    pub async fn downgrade(&mut self) -> Result<FencingToken, DowngradeError> {
        self.settle_or_fail().await?;
        let work = Work::Downgrade(DowngradeOperation {
            name: self.name().to_owned(),
            token: self.token().0,
        });
        let patience = self.grip.request_timeout();
        self.change(work, Mode::Shared, Some(patience)).await?;
        Ok(self.token())
    }

    /// Runs a change of mode to its end.
    async fn change(
        &mut self,
        work: Work,
        to: Mode,
        patience: Option<Duration>,
    ) -> Result<(), Failure> {
        let reply = self.grip.submit(work, None).await?;
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
    async fn settle(&mut self) -> Result<(), Failure> {
        let patience = self.grip.request_timeout();
        self.await_change(Some(patience)).await
    }

    /// As [`Self::settle`]. That the change was refused is no obstacle.
    async fn settle_or_fail(&mut self) -> Result<(), Failure> {
        match self.settle().await {
            Ok(()) | Err(Failure::Refused(_)) => Ok(()),
            Err(failure @ (Failure::NoAnswer { .. } | Failure::Lost(_))) => Err(failure),
        }
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
            self.grip.exchange(token);
            self.mode = to;
            return Ok(());
        }
        match outcome {
            Ok(_) => Err(unexpected("something else").into()),
            Err(failure) => {
                self.grip.failed(&failure);
                Err(failure)
            }
        }
    }
}

impl Drop for LockGuard {
    fn drop(&mut self) {
        if let Some(changing) = self.changing.take()
            && let Some(hold) = self.grip.let_go()
        {
            changing.reply.release_after(hold);
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
