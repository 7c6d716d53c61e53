//! Requests whose answer comes with a later batch: blocked acquisitions and upgrades.
//!
//! Invariant: a waiter is registered before its command is proposed, so no grant can come too early
//! for it; and every waiter is answered or dropped once. Dropping tells its caller that the
//! outcome is unknown, and the de-duplicated command may be repeated.

use std::collections::HashMap;

use lockstep_model::{Reply, Serial, SessionId};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::request::RequestError;

/// Where an answer goes.
pub type Answer = oneshot::Sender<Result<Reply, RequestError>>;

/// A blocked request's identity.
pub type Key = (SessionId, Serial);

/// The blocked requests of one shard.
#[derive(Default)]
pub struct Waiters {
    waiting: Mutex<HashMap<Key, Answer>>,
}

impl Waiters {
    /// Registers a request. One of the same key that is there already belongs to a connection that
    /// the client has given up, and is dropped.
    pub fn register(&self, key: Key, answer: Answer) {
        self.waiting.lock().insert(key, answer);
    }

    /// Answers a request, if it waits here.
    pub fn complete(&self, session: SessionId, serial: Serial, reply: Reply) {
        self.finish((session, serial), Ok(reply));
    }

    /// Answers or fails a request, if it waits here.
    pub fn finish(&self, key: Key, result: Result<Reply, RequestError>) {
        let answer = self.waiting.lock().remove(&key);
        if let Some(answer) = answer {
            let _ = answer.send(result);
        }
    }

    /// Drops all: the lead is lost.
    pub fn clear(&self) {
        self.waiting.lock().clear();
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.lock().len()
    }

    /// True if none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
