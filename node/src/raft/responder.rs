//! How Raft tells what has become of a proposed batch: it calls a function, where the state machine
//! runs. No task, channel or wake-up lies between a committed batch and its callers.
//!
//! Invariant: the function is called once or dropped; it must be short, because the shard applies
//! nothing meanwhile.

use openraft::{OptionalSend, raft::responder::Responder};

use super::types::TypeConfig;

/// What to do with the result.
pub struct OnComplete<T>(Box<dyn FnOnce(T) + Send>);

impl<T> OnComplete<T> {
    /// Calls this.
    #[must_use]
    pub fn new(act: impl FnOnce(T) + Send + 'static) -> Self {
        Self(Box::new(act))
    }
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for OnComplete<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}
