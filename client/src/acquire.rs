//! What all requests for locks have in common, whatever the lock is used as.
//!
//! Invariant: a request that fails holds nothing, also when its future is dropped half-way.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use lockstep_model::{
    id::{FencingToken, LockName, Owner},
    locks::{
        command::MAX_LOCKS_PER_ACQUIRE,
        mode::{MAX_PERMITS, Mode},
    },
    request::MAX_WAIT,
    value::Value,
};
use lockstep_proto::lock::v1::{
    AcquireOperation, LockMode, NoWait, Wait as WireWait, operation::Operation as Work,
    operation_result::Result as Answer, wait::Wait as WireLimit,
};

use crate::{
    error::{AcquireError, Failure, ServerError},
    grip::Grip,
    mode::spec,
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

/// On which terms locks are asked for.
#[derive(Clone, Default)]
pub(crate) struct Terms {
    pub(crate) owner: Option<String>,
    pub(crate) wait: Wait,
    pub(crate) value: Vec<u8>,
}

/// The methods that set the terms of a request.
macro_rules! terms {
    () => {
        /// Who asks, within the session: at most 128 bytes, not beginning with `~`, which marks the
        /// owners of requests that name none. Without one, or with an empty one, each request is an
        /// owner of its own.
        ///
        /// An owner stands for one thread of control. What it holds it may take again, at once and
        /// under the same token; each guard then gives one hold back. And deadlocks are looked for
        /// between owners: whoever takes several locks one after another gives all these requests
        /// the same owner, or nobody sees that who waits for the one holds the other.
        pub fn owner(mut self, owner: impl Into<String>) -> Self {
            self.terms.owner = Some(owner.into());
            self
        }

        /// Does not wait: [`AcquireError::Unavailable`] if it cannot be granted at once.
        ///
        /// [`AcquireError::Unavailable`]: crate::AcquireError::Unavailable
        pub fn try_(self) -> Self {
            self.wait($crate::Wait::Try)
        }

        /// Waits at most so long: then [`AcquireError::WaitTimeout`].
        ///
        /// [`AcquireError::WaitTimeout`]: crate::AcquireError::WaitTimeout
        pub fn timeout(self, limit: std::time::Duration) -> Self {
            self.wait($crate::Wait::AtMost(limit))
        }

        /// How long it may be blocked.
        pub fn wait(mut self, wait: $crate::Wait) -> Self {
            self.terms.wait = wait;
            self
        }
    };
}
pub(crate) use terms;

/// What was granted.
pub(crate) struct Granted {
    pub(crate) grip: Grip,
    pub(crate) mode: LockMode,
}

/// Acquires locks, in the order in which they are named.
pub(crate) async fn acquire(
    handle: &Arc<Handle>,
    locks: Vec<(String, Mode)>,
    terms: Terms,
) -> Result<Vec<Granted>, AcquireError> {
    let names = names(&locks)?;
    let Terms { owner, wait, value } = terms;
    Value::new(&value).map_err(invalid)?;
    // Without one the cluster takes the acquisition for an owner of its own.
    let owner = owner.unwrap_or_default();
    Owner::named(&owner)?;
    // All-or-nothing sets are taken in the order of their names, so the first one decides.
    let Some(first) = names.iter().min().cloned() else {
        return Err(invalid("no lock is asked for: name at least one"));
    };
    let work = Work::Acquire(AcquireOperation {
        locks: locks
            .into_iter()
            .map(|(name, mode)| spec(name, mode))
            .collect(),
        owner,
        wait: Some(wait.to_wire()),
        value,
    });
    let patience = wait.patience(handle.client().request_timeout());
    let reply = handle.submit(work, Key::Lock(first), patience).await?;
    let answer = reply.await?;
    // The answer may have waited for this task to run.
    if let SessionState::Lost(loss) = handle.state() {
        return Err(AcquireError::SessionLost(loss));
    }
    match answer {
        Answer::Granted(grants) => Ok(names
            .into_iter()
            .zip(grants.grants)
            .map(|(name, grant)| {
                let token = FencingToken(grant.token);
                let hold = Hold { name, token };
                Granted {
                    grip: Grip::new(Arc::clone(handle), hold, grant.holds),
                    mode: grant.mode(),
                }
            })
            .collect()),
        Answer::Released(_)
        | Answer::Renewed(_)
        | Answer::Downgraded(_)
        | Answer::Proclaimed(_)
        | Answer::Error(_) => Err(AcquireError::Other(unexpected("something else"))),
    }
}

/// As [`acquire`], of one lock.
pub(crate) async fn acquire_one(
    handle: &Arc<Handle>,
    name: String,
    mode: Mode,
    terms: Terms,
) -> Result<Granted, AcquireError> {
    let mut granted = acquire(handle, vec![(name, mode)], terms).await?;
    granted
        .pop()
        .ok_or_else(|| AcquireError::Other(unexpected("no lock")))
}

/// Checks what the server would refuse anyway, so that it is refused in words of this side.
fn names(locks: &[(String, Mode)]) -> Result<Vec<LockName>, AcquireError> {
    let names = locks
        .iter()
        .map(|(name, _)| LockName::new(name))
        .collect::<Result<Vec<_>, _>>()?;
    if names.len() > MAX_LOCKS_PER_ACQUIRE {
        return Err(invalid(format_args!(
            "{} locks are too many for one acquisition: at most {MAX_LOCKS_PER_ACQUIRE}",
            names.len()
        )));
    }
    if names.len() > 1 && names.iter().collect::<BTreeSet<_>>().len() < names.len() {
        return Err(invalid("a lock is named twice: name each once"));
    }
    for (name, mode) in locks {
        match *mode {
            Mode::Permits { count, of } if !(1..=MAX_PERMITS).contains(&of) || count > of => {
                return Err(invalid(format_args!(
                    "{count} of {of} permits of {name:?} cannot be taken: a semaphore has 1 to {MAX_PERMITS}"
                )));
            }
            Mode::Permits { count: 0, .. } => {
                return Err(invalid("no permit is asked for: take at least one"));
            }
            Mode::Meet { parties } if !(1..=MAX_PERMITS).contains(&parties) => {
                return Err(invalid(format_args!(
                    "{parties} parties cannot meet at {name:?}: it takes 1 to {MAX_PERMITS}"
                )));
            }
            Mode::Shared | Mode::Exclusive | Mode::Permits { .. } | Mode::Meet { .. } => {}
        }
    }
    Ok(names)
}

pub(crate) fn invalid(words: impl ToString) -> AcquireError {
    AcquireError::InvalidArgument {
        message: words.to_string(),
    }
}

pub(crate) fn unexpected(what: &str) -> ServerError {
    ServerError::protocol(format!(
        "the server answered an operation with {what}: client and server do not fit together"
    ))
}

impl From<ServerError> for AcquireError {
    fn from(error: ServerError) -> Self {
        Failure::Refused(error).into()
    }
}
