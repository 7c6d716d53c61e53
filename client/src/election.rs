//! Leader election: a lock whose holder says who it is.
//!
//! Invariant: at most one leads, and only it can speak as the leader: what it proclaims is refused
//! once its token is stale.

mod observer;

use std::{fmt, sync::Arc};

use lockstep_model::{locks::mode::Mode, value::Value};
use lockstep_proto::lock::v1::{ProclaimOperation, operation_result::Result as Answer};
use tokio::time::{Instant, timeout_at};

pub use self::observer::{Leader, Observer};
use crate::{
    acquire::{Terms, acquire_one, terms, unexpected},
    error::{AcquireError, Failure, ProclaimError, ReleaseError, RenewError},
    grip::{Grip, grip_facts},
    session::{Handle, Outcome, Reply, Work},
};

/// A candidate in an election: it waits without limit to become the leader, unless it says
/// otherwise. Candidates lead in the order in which they came.
#[derive(Clone)]
#[must_use = "a candidate does nothing until `campaign` is called"]
pub struct ElectionRequest {
    handle: Arc<Handle>,
    name: String,
    terms: Terms,
}

impl ElectionRequest {
    pub(crate) fn new(handle: Arc<Handle>, name: String) -> Self {
        Self {
            handle,
            name,
            terms: Terms::default(),
        }
    }

    terms!();

    /// Waits to become the leader, and says `value` from that moment: at most 4,096 bytes, who it
    /// is, for those who look or [observe](crate::Client::observe). Dropping the future gives the
    /// candidacy up.
    ///
    /// # Errors
    /// See [`AcquireError`]: it does not lead then.
    pub async fn campaign(self, value: impl Into<Vec<u8>>) -> Result<Leadership, AcquireError> {
        let terms = Terms {
            value: value.into(),
            ..self.terms
        };
        let granted = acquire_one(&self.handle, self.name, Mode::Exclusive, terms).await?;
        Ok(Leadership {
            grip: granted.grip,
            proclaiming: None,
        })
    }
}

/// The lead in an election. Dropped, it is given up in the background; use [`Self::resign`] to
/// know that it was, and before the process ends.
///
/// Whoever leads must stop doing so once [`Self::lost`] resolves, and should give [`Self::token`] to
/// what it changes, which then can refuse a leader that was replaced.
pub struct Leadership {
    grip: Grip,
    /// A proclamation whose outcome was not awaited to its end.
    proclaiming: Option<Reply>,
}

impl fmt::Debug for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leadership")
            .field("name", &self.name())
            .field("token", &self.token())
            .finish()
    }
}

impl Leadership {
    grip_facts!();

    /// Says something else as the leader: at most 4,096 bytes.
    ///
    /// # Errors
    /// See [`ProclaimError`].
    pub async fn proclaim(&mut self, value: impl Into<Vec<u8>>) -> Result<(), ProclaimError> {
        let value = value.into();
        Value::new(&value).map_err(|error| ProclaimError::InvalidArgument {
            message: error.to_string(),
        })?;
        // One after another: an older value must not take the place of a newer one.
        match self.answered().await {
            None | Some(Ok(_) | Err(Failure::Refused(_))) => {}
            Some(Err(failure @ (Failure::NoAnswer { .. } | Failure::Lost(_)))) => {
                return Err(failure.into());
            }
        }
        let work = Work::Proclaim(ProclaimOperation {
            name: self.name().to_owned(),
            token: self.token().0,
            value,
        });
        self.proclaiming = Some(self.grip.submit(work, None).await?);
        match self.answered().await {
            Some(Ok(Answer::Proclaimed(_))) => Ok(()),
            Some(Ok(
                Answer::Granted(_)
                | Answer::Released(_)
                | Answer::Renewed(_)
                | Answer::Downgraded(_)
                | Answer::Error(_),
            ))
            | None => Err(ProclaimError::Other(unexpected("something else"))),
            Some(Err(failure)) => {
                self.grip.failed(&failure);
                Err(failure.into())
            }
        }
    }

    /// Confirms with the cluster that it leads.
    ///
    /// # Errors
    /// If it does not, or no answer came within the request timeout.
    pub async fn renew(&mut self) -> Result<(), RenewError> {
        self.grip.renew().await
    }

    /// Gives the lead up: the next candidate has it then. If the future is dropped, that goes on.
    ///
    /// # Errors
    /// If it was lost before, or no answer came within the request timeout; giving up then goes on
    /// in the background.
    pub async fn resign(mut self) -> Result<(), ReleaseError> {
        self.grip.release().await.map(|_| ())
    }

    /// What the proclamation under way came to; none if there is none.
    async fn answered(&mut self) -> Option<Outcome> {
        let reply = self.proclaiming.as_mut()?;
        let started = Instant::now();
        let Ok(outcome) = timeout_at(started + self.grip.request_timeout(), reply).await else {
            let after = started.elapsed();
            return Some(Err(Failure::NoAnswer { after }));
        };
        self.proclaiming = None;
        Some(outcome)
    }
}
