//! Operations without an answer.
//!
//! Invariant: an operation keeps its serial and its arguments for life, so that sending it again
//! is always safe.

use std::time::Duration;

use lockstep_model::id::{FencingToken, LockName};
use lockstep_proto::lock::v1::{
    SerialRange, operation,
    operation_result::{self, Result as Answer},
};
use tokio::sync::oneshot;

use super::links::LinkId;
use crate::{error::Failure, lease_time::LeaseTime, placement::Key};

/// What an operation asks for.
pub(crate) type Work = operation::Operation;
/// What it comes to.
pub(crate) type Outcome = Result<operation_result::Result, Failure>;

/// A lock and the token that it is held under.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub(crate) name: LockName,
    pub(crate) token: FencingToken,
}

/// Who learns the outcome.
#[derive(Debug)]
pub(super) enum Sink {
    /// A caller that waits.
    Caller(oneshot::Sender<Outcome>),
    /// Nobody: the caller has gone, or never waited.
    Nobody,
    /// The guard has gone while it changed its mode: what it then holds is released.
    ReleaseAfter(Hold),
}

impl Sink {
    /// The caller, who is about to be told; from now on nobody waits.
    pub(super) fn take_caller(&mut self) -> Option<oneshot::Sender<Outcome>> {
        match std::mem::replace(self, Self::Nobody) {
            Self::Caller(caller) => Some(caller),
            other @ (Self::Nobody | Self::ReleaseAfter(_)) => {
                *self = other;
                None
            }
        }
    }
}

/// Where an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On a stream, and perhaps at the server.
    On(LinkId),
    /// To be sent (again) then.
    At(LeaseTime),
}

/// A cancellation: sent until its operation is answered, because it can overtake the operation, or
/// get lost with a leader, and then finds nothing to cancel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cancel {
    /// When it is sent again.
    pub(super) again: LeaseTime,
    /// How often it was sent.
    pub(super) times: u32,
}

/// One operation without an answer.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) work: Work,
    /// Decides which node it goes to.
    pub(super) key: Key,
    pub(super) place: Place,
    /// False as long as no server can know of it.
    pub(super) sent: bool,
    /// What it acknowledged when it was sent last, beyond the floor.
    pub(super) acked: Vec<SerialRange>,
    /// Answers in a row that asked for a repetition.
    pub(super) failures: u32,
    pub(super) started: LeaseTime,
    /// When the caller is told that there is no answer. The operation goes on.
    pub(super) deadline: Option<LeaseTime>,
    /// Under which time it is in the timers.
    pub(super) timer: Option<LeaseTime>,
    /// Set once its wait is to be given up.
    pub(super) cancel: Option<Cancel>,
    /// Set once it is to be undone: what is sent then is its abandonment, until all its shards have
    /// confirmed that, and whatever it is answered itself says nothing any more.
    pub(super) abandoned: bool,
    pub(super) sink: Sink,
}

impl Pending {
    /// When something is due for it.
    pub(super) fn next_timer(&self) -> Option<LeaseTime> {
        let place = match self.place {
            Place::At(at) => Some(at),
            Place::On(_) => self.cancel.map(|cancel| cancel.again),
        };
        place.into_iter().chain(self.deadline).min()
    }

    /// How long it has been under way.
    pub(super) fn age(&self, now: LeaseTime) -> Duration {
        now - self.started
    }
}

/// The token after a change of mode; none if nothing changed.
pub(crate) fn changed_token(outcome: Option<&Outcome>) -> Option<FencingToken> {
    match outcome {
        Some(Ok(Answer::Granted(grants))) => {
            grants.grants.first().map(|grant| FencingToken(grant.token))
        }
        Some(Ok(Answer::Downgraded(downgraded))) => Some(FencingToken(downgraded.token)),
        Some(
            Ok(Answer::Released(_) | Answer::Renewed(_) | Answer::Proclaimed(_) | Answer::Error(_))
            | Err(_),
        )
        | None => None,
    }
}
