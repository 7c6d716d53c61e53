//! The answer to an operation, awaited.
//!
//! Invariant: dropping a [`Reply`] before its answer was taken leaves nothing held: a blocked
//! acquisition is cancelled, and a grant that came first is released.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;

use super::{
    Loss,
    pending::{Hold, Outcome},
    shared::Shared,
};
use crate::error::Failure;

/// A future of an operation's outcome.
#[derive(Debug)]
pub(crate) struct Reply {
    shared: Arc<Shared>,
    /// None once the answer was taken, or somebody else takes care of it.
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    /// None if the session was over already.
    serial: Option<u64>,
    answer: oneshot::Receiver<Outcome>,
}

impl Reply {
    pub(super) const fn new(
        shared: Arc<Shared>,
        serial: Option<u64>,
        answer: oneshot::Receiver<Outcome>,
    ) -> Self {
        Self {
            shared,
            waiting: Some(Waiting { serial, answer }),
        }
    }

    /// Gives up the operation's wait; its answer still comes.
    pub(crate) fn cancel(&self) {
        if let Some(Waiting {
            serial: Some(serial),
            ..
        }) = self.waiting
        {
            self.shared.with(|core, now| core.cancel(serial, now));
        }
    }

    /// Waits for nothing any longer; what the guard then holds is released.
    pub(crate) fn release_after(mut self, hold: Hold) {
        if let Some(Waiting {
            serial: Some(serial),
            mut answer,
        }) = self.waiting.take()
        {
            self.shared
                .with(|core, now| core.release_after(serial, &mut answer, hold, now));
        }
    }
}

impl Future for Reply {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let Some(waiting) = &mut self.waiting else {
            return Poll::Pending;
        };
        let outcome = ready!(Pin::new(&mut waiting.answer).poll(context));
        self.waiting = None;
        // The sender is never dropped unanswered while the session lives.
        Poll::Ready(outcome.unwrap_or(Err(Failure::Lost(Loss::Closed))))
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(Waiting {
            serial: Some(serial),
            mut answer,
        }) = self.waiting.take()
        {
            self.shared
                .with(|core, now| core.abandon(serial, &mut answer, now));
        }
    }
}
