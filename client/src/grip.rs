//! One grant, whatever it is of: what all guards are made of.
//!
//! Invariant: it is given back exactly once: by [`Grip::release`], when dropped, or with its session.

use std::{sync::Arc, time::Duration};

use lockstep_model::id::{FencingToken, SessionId};
use lockstep_proto::lock::v1::{
    ReleaseOperation, RenewOperation, operation_result::Result as Answer,
};

use crate::{
    acquire::unexpected,
    error::{Failure, ReleaseError, RenewError},
    placement::Key,
    session::{Handle, Hold, Loss, Reply, SessionState, Work},
};

/// A hold, and the session that has it.
pub(crate) struct Grip {
    handle: Arc<Handle>,
    hold: Hold,
    /// Whether there is something to give back.
    held: bool,
}

/// The methods of guards that tell about their grip.
macro_rules! grip_facts {
    () => {
        /// The name that it is held under.
        #[must_use]
        pub fn name(&self) -> &str {
            self.grip.name()
        }

        /// The fencing token: greater than that of every earlier grant under this name.
        #[must_use]
        pub fn token(&self) -> lockstep_model::id::FencingToken {
            self.grip.token()
        }

        /// The session that holds it.
        #[must_use]
        pub fn session_id(&self) -> lockstep_model::id::SessionId {
            self.grip.session_id()
        }

        /// False once it is known to be lost. Checks the clock, so it is right even where the
        /// background tasks have had no chance to run.
        #[must_use]
        pub fn is_held(&self) -> bool {
            self.grip.is_held()
        }

        /// Resolves when it is lost because its session is. Independent of the guard's life.
        pub fn lost(&self) -> impl Future<Output = $crate::Loss> + Send + 'static + use<> {
            self.grip.lost()
        }
    };
}
pub(crate) use grip_facts;

impl Grip {
    /// `holds` is what the server says: 0 where nothing is held.
    pub(crate) const fn new(handle: Arc<Handle>, hold: Hold, holds: u32) -> Self {
        Self {
            handle,
            hold,
            held: holds > 0,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.hold.name.as_str()
    }

    pub(crate) const fn token(&self) -> FencingToken {
        self.hold.token
    }

    pub(crate) fn session_id(&self) -> SessionId {
        self.handle.id()
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held && matches!(self.handle.state(), SessionState::Alive { .. })
    }

    pub(crate) fn lost(&self) -> impl Future<Output = Loss> + Send + 'static + use<> {
        self.handle.lost()
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.handle.client().request_timeout()
    }

    /// Starts an operation on the hold.
    pub(crate) async fn submit(
        &self,
        work: Work,
        patience: Option<Duration>,
    ) -> Result<Reply, Failure> {
        let key = Key::Lock(self.hold.name.clone());
        self.handle.submit(work, key, patience).await
    }

    /// Takes note that it is held under another token.
    pub(crate) const fn exchange(&mut self, token: FencingToken) {
        self.hold.token = token;
    }

    /// Takes note of what a failure says about the hold.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.held &= !failure.is_stale();
    }

    /// Leaves it to the caller to give the hold back, if there is something to give back.
    pub(crate) fn let_go(&mut self) -> Option<Hold> {
        std::mem::take(&mut self.held).then(|| self.hold.clone())
    }

    /// Gives one hold back, and returns how many its owner has left. If the future is dropped, the
    /// release goes on.
    pub(crate) async fn release(&mut self) -> Result<u32, ReleaseError> {
        if !self.held {
            return Err(ReleaseError::StaleToken {
                message: format!("{:?} was lost before it was released", self.name()),
            });
        }
        let work = Work::Release(ReleaseOperation {
            name: self.name().to_owned(),
            token: self.hold.token.0,
        });
        let reply = self.submit(work, Some(self.request_timeout())).await?;
        // From here on the release goes on by itself.
        self.held = false;
        match reply.await? {
            Answer::Released(released) => Ok(released.holds),
            Answer::Granted(_)
            | Answer::Renewed(_)
            | Answer::Downgraded(_)
            | Answer::Proclaimed(_)
            | Answer::Error(_) => Err(ReleaseError::Other(unexpected("something else"))),
        }
    }

    /// Confirms with the cluster that it is held under this token.
    pub(crate) async fn renew(&mut self) -> Result<(), RenewError> {
        let work = Work::Renew(RenewOperation {
            name: self.name().to_owned(),
            token: self.hold.token.0,
        });
        let reply = self.submit(work, Some(self.request_timeout())).await?;
        match reply.await {
            Ok(Answer::Renewed(_)) => Ok(()),
            Ok(
                Answer::Granted(_)
                | Answer::Released(_)
                | Answer::Downgraded(_)
                | Answer::Proclaimed(_)
                | Answer::Error(_),
            ) => Err(RenewError::Other(unexpected("something else"))),
            Err(failure) => {
                self.failed(&failure);
                Err(failure.into())
            }
        }
    }
}

impl Drop for Grip {
    fn drop(&mut self) {
        if let Some(hold) = self.let_go() {
            self.handle.release_in_background(hold);
        }
    }
}
