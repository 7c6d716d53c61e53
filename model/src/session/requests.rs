//! Exactly-once: what became of each request of a session in a shard.
//!
//! Invariants: a serial stands for one operation, and gets one answer however often it is asked;
//! a request is waiting, or answered, or forgotten, never two of these; at most [`MAX_IN_FLIGHT`]
//! are remembered. After Raft's client sessions (Ongaro, "Consensus: Bridging Theory and
//! Practice", 2014, section 6.3).

use std::collections::BTreeMap;

use super::{MAX_IN_FLIGHT, WaitingRequest};
use crate::{
    id::Serial,
    reply::{Refusal, Reply},
};

/// The requests of a session in a shard.
#[derive(Clone, Debug, Default)]
pub(crate) struct Requests {
    pub(crate) acked_below: Serial,
    pub(crate) waits: BTreeMap<Serial, WaitingRequest>,
    pub(crate) answers: BTreeMap<Serial, Answered>,
}

/// A request whose answer is kept.
#[derive(Clone, Debug)]
pub(crate) struct Answered {
    /// Of the operation's content.
    pub(crate) fingerprint: u64,
    pub(crate) reply: Reply,
}

/// What to do with a request that came.
pub(crate) enum Admission {
    /// Do it.
    New,
    /// It is waiting already.
    Waiting,
    /// This is the answer.
    Answered(Reply),
}

impl Requests {
    /// Decides about a request, and forgets what it acknowledges. `may_wait` tells whether it might
    /// have to wait.
    pub(crate) fn admit(
        &mut self,
        serial: Serial,
        acked_below: Serial,
        fingerprint: u64,
        may_wait: bool,
    ) -> Admission {
        self.forget_below(acked_below);
        if let Some(wait) = self.waits.get(&serial) {
            return if wait.fingerprint == fingerprint {
                Admission::Waiting
            } else {
                Admission::Answered(Reply::Refused(Refusal::SerialReused { serial: serial.0 }))
            };
        }
        if let Some(answered) = self.answers.get(&serial) {
            return Admission::Answered(if answered.fingerprint == fingerprint {
                answered.reply.clone()
            } else {
                Reply::Refused(Refusal::SerialReused { serial: serial.0 })
            });
        }
        if serial < self.acked_below {
            return Admission::Answered(Reply::Refused(Refusal::SerialForgotten {
                serial: serial.0,
                acked_below: self.acked_below.0,
            }));
        }
        // A request that leaves nothing behind is let through even then: it may be the release
        // for which all others wait.
        let is_kept = may_wait || !serial.is_ephemeral();
        if is_kept && self.waits.len() + self.answers.len() >= MAX_IN_FLIGHT {
            let limit = MAX_IN_FLIGHT;
            return Admission::Answered(Reply::Refused(Refusal::TooManyInFlight { limit }));
        }
        Admission::New
    }

    /// Keeps an answer for repetitions, unless its serial is ephemeral or acknowledged already.
    pub(crate) fn keep(&mut self, serial: Serial, fingerprint: u64, reply: &Reply) {
        if !serial.is_ephemeral() && serial >= self.acked_below {
            self.answers.insert(
                serial,
                Answered {
                    fingerprint,
                    reply: reply.clone(),
                },
            );
        }
    }

    /// Turns a kept grant into a refusal. False if none is kept: it was retracted already, or the
    /// client has acknowledged it.
    pub(crate) fn retract(&mut self, serial: Serial, refusal: Refusal) -> bool {
        match self.answers.get_mut(&serial) {
            Some(Answered {
                reply: reply @ Reply::Granted(_),
                ..
            }) => {
                *reply = Reply::Refused(refusal);
                true
            }
            Some(_) | None => false,
        }
    }

    /// The bound only rises, and never into the ephemeral serials, which no client acknowledges.
    fn forget_below(&mut self, acked_below: Serial) {
        let acked_below = acked_below.min(Serial::FIRST_EPHEMERAL);
        if acked_below <= self.acked_below {
            return;
        }
        self.acked_below = acked_below;
        while let Some(first) = self.answers.first_entry() {
            if *first.key() >= acked_below {
                break;
            }
            first.remove();
        }
    }
}
