//! Cyclic barriers: names at which parties wait for each other.
//!
//! Invariant: nobody passes before as many as were named wait at the same time, and all these pass
//! under one token, which is greater than that of the time before. Nothing is held afterwards.

use std::{sync::Arc, time::Duration};

use lockstep_model::{id::FencingToken, locks::mode::Mode};

use crate::{
    acquire::{Terms, Wait, acquire_one},
    error::AcquireError,
    session::Handle,
};

/// A party's coming to a barrier; it waits without limit, unless it says otherwise. Each call of
/// [`Self::wait`] is a party of its own, also within one session.
#[derive(Clone)]
#[must_use = "a request does nothing until `wait` is called"]
pub struct BarrierRequest {
    handle: Arc<Handle>,
    name: String,
    parties: u32,
    terms: Terms,
}

impl BarrierRequest {
    pub(crate) fn new(handle: Arc<Handle>, name: String, parties: u32) -> Self {
        Self {
            handle,
            name,
            parties,
            terms: Terms::default(),
        }
    }

    /// Waits at most so long: then [`AcquireError::WaitTimeout`], and it has not come. The others
    /// go on waiting.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.terms.wait = Wait::AtMost(limit);
        self
    }

    /// Waits until all parties do, and returns the generation: the same for all who pass together,
    /// and greater than at every time before. Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// See [`AcquireError`].
    pub async fn wait(self) -> Result<FencingToken, AcquireError> {
        let parties = self.parties;
        let mode = Mode::Meet { parties };
        let granted = acquire_one(&self.handle, self.name, mode, self.terms).await?;
        Ok(granted.grip.token())
    }
}
