//! Semaphores: names with a number of permits, of which each holder has some.
//!
//! Invariant: the holders' permits together are never more than there are; the cluster sees to it
//! that all who use the name mean the same number.

use std::{fmt, sync::Arc};

use lockstep_model::locks::mode::Mode;

use crate::{
    acquire::{Terms, acquire_one, terms},
    error::{AcquireError, ReleaseError, RenewError},
    grip::{Grip, grip_facts},
    session::Handle,
};

/// A request for permits of a semaphore: one, and blocking without limit, unless it says otherwise.
///
/// Permits are granted in the order of the requests: who wants many is not overtaken by those who
/// want few. Nobody is told of deadlocks through semaphores, because any holder can serve a waiter.
#[derive(Clone)]
#[must_use = "a request does nothing until `acquire` is called"]
pub struct SemaphoreRequest {
    handle: Arc<Handle>,
    name: String,
    count: u32,
    of: u32,
    terms: Terms,
}

impl SemaphoreRequest {
    pub(crate) fn new(handle: Arc<Handle>, name: String, of: u32) -> Self {
        Self {
            handle,
            name,
            count: 1,
            of,
            terms: Terms::default(),
        }
    }

    /// How many permits to take: 1 to as many as there are.
    pub fn permits(self, count: u32) -> Self {
        Self { count, ..self }
    }

    terms!();

    /// Takes the permits. Dropping the future gives the attempt up: nothing stays held.
    ///
    /// # Errors
    /// See [`AcquireError`]: nothing is held then.
    pub async fn acquire(self) -> Result<PermitGuard, AcquireError> {
        let (count, of) = (self.count, self.of);
        let mode = Mode::Permits { count, of };
        let granted = acquire_one(&self.handle, self.name, mode, self.terms).await?;
        Ok(PermitGuard {
            grip: granted.grip,
            permits: count,
        })
    }
}

/// Permits of a semaphore. Dropped, they are given back in the background; use [`Self::release`]
/// to know that they were, and before the process ends.
///
/// What is said of [`crate::LockGuard`] is true of it too: stop once [`Self::lost`] resolves, and
/// give [`Self::token`] to what the permits are for.
pub struct PermitGuard {
    grip: Grip,
    permits: u32,
}

impl fmt::Debug for PermitGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitGuard")
            .field("name", &self.name())
            .field("token", &self.token())
            .field("permits", &self.permits)
            .finish()
    }
}

impl PermitGuard {
    grip_facts!();

    /// How many permits it has.
    #[must_use]
    pub const fn permits(&self) -> u32 {
        self.permits
    }

    /// Confirms with the cluster that the permits are held under this token.
    ///
    /// # Errors
    /// If they are not, or no answer came within the request timeout.
    pub async fn renew(&mut self) -> Result<(), RenewError> {
        self.grip.renew().await
    }

    /// Gives all its permits back, and returns how often their owner still has them: 0 unless they
    /// are held re-entrantly. If the future is dropped, the release goes on.
    ///
    /// # Errors
    /// If they were lost before, or no answer came within the request timeout; the release then
    /// goes on in the background.
    pub async fn release(mut self) -> Result<u32, ReleaseError> {
        self.grip.release().await
    }
}
