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

/// Connections that wait for the answer of one request: a client that lost its connection asks
/// again on another, and the old one is noticed as lost only later.
const MAX_PER_REQUEST: usize = 8;

/// The blocked requests of one shard.
#[derive(Default)]
pub struct Waiters {
    waiting: Mutex<HashMap<Key, Vec<Answer>>>,
}

impl Waiters {
    /// Registers a request. All that wait for the same one are answered together.
    pub fn register(&self, key: Key, answer: Answer) {
        let mut waiting = self.waiting.lock();
        let answers = waiting.entry(key).or_default();
        answers.retain(|answer| !answer.is_closed());
        if answers.len() >= MAX_PER_REQUEST {
            answers.remove(0);
        }
        answers.push(answer);
    }

    /// Answers a request, if it waits here.
    pub fn complete(&self, session: SessionId, serial: Serial, reply: Reply) {
        self.finish((session, serial), &Ok(reply));
    }

    /// Answers or fails a request, if it waits here.
    pub fn finish(&self, key: Key, result: &Result<Reply, RequestError>) {
        let answers = self.waiting.lock().remove(&key);
        for answer in answers.into_iter().flatten() {
            let _ = answer.send(result.clone());
        }
    }

    /// Drops all: the lead is lost.
    pub fn clear(&self) {
        self.waiting.lock().clear();
    }
}
