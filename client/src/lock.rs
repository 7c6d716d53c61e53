//! Asking for locks.
//!
//! Invariant: what is asked for here is held shared or exclusively; semaphores, barriers and
//! elections have requests of their own.

use std::sync::Arc;

use lockstep_model::locks::mode::Mode;
use lockstep_proto::lock::v1::LockMode;

use crate::{
    acquire::{Granted, Terms, acquire, acquire_one, invalid, terms, unexpected},
    error::AcquireError,
    guard::LockGuard,
    session::Handle,
};

/// An acquisition of one lock: exclusive, and blocking without limit, unless it says otherwise.
///
/// Locks are granted in the order of the requests, readers beside each other. Without
/// [`Self::owner`] every acquisition is an owner of its own, so that two tasks of one session
/// exclude each other as two sessions do.
#[derive(Clone)]
#[must_use = "a request does nothing until `acquire` is called"]
pub struct LockRequest {
    handle: Arc<Handle>,
    name: String,
    mode: Mode,
    terms: Terms,
}

/// An acquisition of several locks, all or nothing.
#[derive(Clone)]
#[must_use = "a request does nothing until `acquire` is called"]
pub struct LockManyRequest {
    handle: Arc<Handle>,
    locks: Vec<(String, Mode)>,
    terms: Terms,
}

impl LockRequest {
    pub(crate) fn new(handle: Arc<Handle>, name: String) -> Self {
        Self {
            handle,
            name,
            mode: Mode::Exclusive,
            terms: Terms::default(),
        }
    }

    /// Beside other shared holders.
    pub fn shared(self) -> Self {
        self.mode(Mode::Shared)
    }

    /// Alone. The default.
    pub fn exclusive(self) -> Self {
        self.mode(Mode::Exclusive)
    }

    /// Shared or exclusive; others are refused as [`AcquireError::InvalidArgument`].
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    terms!();

    /// Acquires the lock. Dropping the future gives the attempt up: nothing stays held.
    ///
    /// # Errors
    /// See [`AcquireError`]: the lock is not held then.
    pub async fn acquire(self) -> Result<LockGuard, AcquireError> {
        check(self.mode)?;
        guard(acquire_one(&self.handle, self.name, self.mode, self.terms).await?)
    }
}

impl LockManyRequest {
    pub(crate) fn new(handle: Arc<Handle>, locks: Vec<(String, Mode)>) -> Self {
        Self {
            handle,
            locks,
            terms: Terms::default(),
        }
    }

    terms!();

    /// Acquires all the locks, or none. One guard each, in the order in which they were asked
    /// for; they may be released separately. Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// See [`AcquireError`]: none of the locks is held then.
    pub async fn acquire(self) -> Result<Vec<LockGuard>, AcquireError> {
        self.locks.iter().try_for_each(|(_, mode)| check(*mode))?;
        let granted = acquire(&self.handle, self.locks, self.terms).await?;
        granted.into_iter().map(guard).collect()
    }
}

/// Refuses what could not be upgraded or downgraded.
fn check(mode: Mode) -> Result<(), AcquireError> {
    match mode {
        Mode::Shared | Mode::Exclusive => Ok(()),
        Mode::Permits { .. } => Err(invalid("permits are taken with `Session::semaphore`")),
        Mode::Meet { .. } => Err(invalid("parties meet with `Session::barrier`")),
    }
}

fn guard(Granted { grip, mode }: Granted) -> Result<LockGuard, AcquireError> {
    let mode = match mode {
        LockMode::Shared => Mode::Shared,
        LockMode::Exclusive => Mode::Exclusive,
        LockMode::Unspecified | LockMode::Semaphore | LockMode::Barrier => {
            return Err(AcquireError::Other(unexpected("another kind of lock")));
        }
    };
    Ok(LockGuard::new(grip, mode))
}
