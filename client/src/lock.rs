//! Asking for locks.
//!
//! Invariant: an acquisition that returns no guard holds nothing, also when its future is dropped
//! half-way.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use lockstep_model::{
    command::{MAX_LOCKS_PER_ACQUIRE, MAX_WAIT, Mode},
    id::{FencingToken, LockName, Owner},
};
use lockstep_proto::lock::v1::{
    AcquireOperation, LockMode, LockSpec, NoWait, Wait as WireWait, operation::Operation as Work,
    operation_result::Result as Answer, wait::Wait as WireLimit,
};

use crate::{
    error::{AcquireError, Failure, ServerError},
    guard::LockGuard,
    placement::Key,
    session::{Handle, Hold, SessionState},
};

/// How long an operation may be blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Try,
    /// At most so long, in whole milliseconds; more than a day is without limit.
    AtMost(Duration),
    /// Until granted, or the session ends.
    #[default]
    Forever,
}

impl Wait {
    pub(crate) fn to_wire(self) -> WireWait {
        WireWait {
            wait: match self {
                Self::Try => Some(WireLimit::NoWait(NoWait {})),
                Self::AtMost(limit) => u64::try_from(limit.as_millis())
                    .ok()
                    .filter(|millis| *millis <= MAX_WAIT.0)
                    .map(|millis| WireLimit::TimeoutMs(millis.max(1))),
                Self::Forever => None,
            },
        }
    }

    /// How long an answer is awaited in all; without limit if the wait is.
    pub(crate) fn patience(self, request_timeout: Duration) -> Option<Duration> {
        match self {
            Self::Try => Some(request_timeout),
            Self::AtMost(limit) => Some(limit.saturating_add(request_timeout))
                .filter(|_| limit.as_millis() <= u128::from(MAX_WAIT.0)),
            Self::Forever => None,
        }
    }
}

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

/// What one and many have in common.
#[derive(Clone, Default)]
struct Terms {
    owner: Option<String>,
    wait: Wait,
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

    /// Shared or exclusive.
    pub fn mode(self, mode: Mode) -> Self {
        Self { mode, ..self }
    }

    /// For re-entrance: acquisitions of one session with the same owner (0 to 128 bytes, not
    /// beginning with `~`, which marks the owners that this crate makes up) share
    /// the lock and its token, and each of their guards gives one hold back.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.terms.owner = Some(owner.into());
        self
    }

    /// Does not wait: [`AcquireError::Unavailable`] if it cannot be granted at once.
    pub fn try_(self) -> Self {
        self.wait(Wait::Try)
    }

    /// Waits at most so long: then [`AcquireError::WaitTimeout`].
    pub fn timeout(self, limit: Duration) -> Self {
        self.wait(Wait::AtMost(limit))
    }

    /// How long it may be blocked.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.terms.wait = wait;
        self
    }

    /// Acquires the lock. Dropping the future gives the attempt up: nothing stays held.
    ///
    /// # Errors
    /// See [`AcquireError`]: the lock is not held then.
    pub async fn acquire(self) -> Result<LockGuard, AcquireError> {
        let mut guards = acquire(&self.handle, vec![(self.name, self.mode)], self.terms).await?;
        guards
            .pop()
            .ok_or_else(|| AcquireError::Other(unexpected("no lock")))
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

    /// See [`LockRequest::owner`].
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.terms.owner = Some(owner.into());
        self
    }

    /// Does not wait: [`AcquireError::Unavailable`] if not all can be granted at once.
    pub fn try_(self) -> Self {
        self.wait(Wait::Try)
    }

    /// Waits at most so long for all of them: then [`AcquireError::WaitTimeout`].
    pub fn timeout(self, limit: Duration) -> Self {
        self.wait(Wait::AtMost(limit))
    }

    /// How long it may be blocked.
    pub fn wait(mut self, wait: Wait) -> Self {
        self.terms.wait = wait;
        self
    }

    /// Acquires all the locks, or none. One guard each, in the order in which they were asked
    /// for; they may be released separately. Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// See [`AcquireError`]: none of the locks is held then.
    pub async fn acquire(self) -> Result<Vec<LockGuard>, AcquireError> {
        acquire(&self.handle, self.locks, self.terms).await
    }
}

async fn acquire(
    handle: &Arc<Handle>,
    locks: Vec<(String, Mode)>,
    terms: Terms,
) -> Result<Vec<LockGuard>, AcquireError> {
    let names = names(&locks)?;
    let owner = match terms.owner {
        Some(owner) => {
            Owner::new(&owner)?;
            owner
        }
        None => handle.unique_owner(),
    };
    // All-or-nothing sets are taken in the order of their names, so the first one decides.
    let Some(first) = names.iter().min().cloned() else {
        return Err(AcquireError::InvalidArgument {
            message: "no lock is asked for: name at least one".to_owned(),
        });
    };
    let work = Work::Acquire(AcquireOperation {
        locks: locks
            .into_iter()
            .map(|(name, mode)| LockSpec {
                name,
                mode: LockMode::from(WireMode(mode)).into(),
            })
            .collect(),
        owner,
        wait: Some(terms.wait.to_wire()),
    });
    let patience = terms.wait.patience(handle.client().request_timeout());
    let reply = handle.submit(work, Key::Lock(first), patience).await?;
    let answer = reply.await?;
    // The answer may have waited for this task to run.
    if let SessionState::Lost(loss) = handle.state() {
        return Err(AcquireError::SessionLost(loss));
    }
    match answer {
        Answer::Granted(grants) => names
            .into_iter()
            .zip(grants.grants)
            .map(|(name, grant)| {
                let mode =
                    mode_of(grant.mode()).ok_or_else(|| unexpected("a lock without mode"))?;
                let hold = Hold {
                    name,
                    token: FencingToken(grant.token),
                };
                Ok(LockGuard::new(Arc::clone(handle), hold, mode))
            })
            .collect(),
        Answer::Released(_) | Answer::Renewed(_) | Answer::Downgraded(_) | Answer::Error(_) => {
            Err(AcquireError::Other(unexpected("something else")))
        }
    }
}

/// Checks what the server would refuse anyway, so that it is refused in words of this side.
fn names(locks: &[(String, Mode)]) -> Result<Vec<LockName>, AcquireError> {
    let names = locks
        .iter()
        .map(|(name, _)| LockName::new(name))
        .collect::<Result<Vec<_>, _>>()?;
    let message = if names.len() > MAX_LOCKS_PER_ACQUIRE {
        format!(
            "{} locks are too many for one acquisition: at most {MAX_LOCKS_PER_ACQUIRE}",
            names.len()
        )
    } else if names.len() > 1 && names.iter().collect::<BTreeSet<_>>().len() < names.len() {
        "a lock is named twice: name each once".to_owned()
    } else {
        return Ok(names);
    };
    Err(AcquireError::InvalidArgument { message })
}

pub(crate) fn unexpected(what: &str) -> ServerError {
    ServerError::protocol(format!(
        "the server answered an operation with {what}: client and server do not fit together"
    ))
}

/// For the conversion below: neither type is of this crate.
pub(crate) struct WireMode(pub(crate) Mode);

impl From<WireMode> for LockMode {
    fn from(WireMode(mode): WireMode) -> Self {
        match mode {
            Mode::Shared => Self::Shared,
            Mode::Exclusive => Self::Exclusive,
        }
    }
}

/// None where the server did not set it.
pub(crate) const fn mode_of(mode: LockMode) -> Option<Mode> {
    match mode {
        LockMode::Unspecified => None,
        LockMode::Shared => Some(Mode::Shared),
        LockMode::Exclusive => Some(Mode::Exclusive),
    }
}

impl From<ServerError> for AcquireError {
    fn from(error: ServerError) -> Self {
        Failure::Refused(error).into()
    }
}
