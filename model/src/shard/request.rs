//! The frame of every operation that is exactly-once.
//!
//! Invariant: an operation runs once for each (session, serial), whatever is repeated, and its
//! answer is kept before anybody sees it.

use xxhash_rust::xxh3::xxh3_64;

use super::{Shard, Step};
use crate::{
    codec::Encode,
    id::{Serial, SessionId, ShardTime},
    machine::{Effect, Outcome},
    reply::{Refusal, Reply},
    request::{RequestId, Wait},
    session::SessionRefusal,
    session::{Admission, Goal, Presence, WaitingRequest},
};

/// A kind of operation, for fingerprints. Kept in snapshots: a value keeps its meaning.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Acquire = 1,
    Release = 2,
    Upgrade = 3,
    Downgrade = 4,
    Proclaim = 5,
}

/// Identifies an operation's content, so that a serial that is used for two operations is noticed.
/// Not for security: a client that wants to deceive itself can.
pub(super) fn fingerprint(kind: Kind, content: &[&dyn Encode]) -> u64 {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(kind as u8);
    for part in content {
        part.encode_into(&mut bytes);
    }
    xxh3_64(&bytes)
}

impl Shard {
    /// Runs `operation` if the request is new, or else tells what became of it.
    pub(super) fn once(
        &mut self,
        request: RequestId,
        fingerprint: u64,
        wait: Wait,
        operation: impl FnOnce(&mut Self) -> Step,
    ) -> Outcome {
        let RequestId {
            session,
            serial,
            acked_below,
            acked,
        } = request;
        let admission = match self.sessions.get_mut(&session) {
            Some(Presence::Open(member)) => {
                let may_wait = wait != Wait::Try;
                let requests = &mut member.requests;
                requests.admit(serial, acked_below, acked, fingerprint, may_wait)
            }
            Some(Presence::Ending { .. } | Presence::Ended { .. }) | None => {
                Admission::Answered(self.absent(session))
            }
        };
        match admission {
            Admission::Answered(reply) => return Outcome::Done(reply),
            Admission::Waiting => return Outcome::Pending,
            Admission::New => {}
        }
        match operation(self) {
            Step::Done(reply) => {
                if let Some(member) = self.member_mut(session) {
                    member.requests.keep(serial, fingerprint, &reply);
                }
                Outcome::Done(reply)
            }
            Step::Wait(goal) => {
                let deadline = match wait {
                    Wait::AtMost(span) => Some(self.now.plus(span)),
                    Wait::Try | Wait::Forever => None,
                };
                self.put_wait(session, serial, fingerprint, deadline, goal);
                Outcome::Pending
            }
        }
    }

    /// What a session is told that may not act here.
    pub(super) fn absent(&self, session: SessionId) -> Reply {
        Reply::Refused(match self.sessions.get(&session) {
            Some(Presence::Ending { reason, .. } | Presence::Ended { reason, .. }) => {
                Refusal::Session(SessionRefusal::SessionEnded {
                    session,
                    reason: *reason,
                })
            }
            Some(Presence::Open(_)) | None => {
                Refusal::Session(SessionRefusal::NotAttached { session })
            }
        })
    }

    /// Takes a waiting request from its session and the deadlines; not from its lock.
    pub(super) fn take_wait(
        &mut self,
        session: SessionId,
        serial: Serial,
    ) -> Option<WaitingRequest> {
        let wait = self.member_mut(session)?.requests.waits.remove(&serial)?;
        if let Some(deadline) = wait.deadline {
            self.deadlines.remove(&(deadline, session, serial));
        }
        self.waiting.remove(&wait.epoch);
        Some(wait)
    }

    /// A request begins to wait in a lock. If that closes a circle, somebody's wait is over at once,
    /// perhaps this one.
    pub(super) fn put_wait(
        &mut self,
        session: SessionId,
        serial: Serial,
        fingerprint: u64,
        deadline: Option<ShardTime>,
        goal: Goal,
    ) {
        self.last_wait = self.last_wait.next();
        let wait = WaitingRequest {
            fingerprint,
            deadline,
            began: self.now,
            since: self.wall,
            epoch: self.last_wait,
            goal,
        };
        self.waiting.insert(wait.epoch, (session, serial));
        self.deadlines
            .extend(deadline.map(|deadline| (deadline, session, serial)));
        if let Some(member) = self.member_mut(session) {
            member.requests.waits.insert(serial, wait);
        }
        self.break_cycles_of_wait(session, serial);
    }

    /// Answers a request that waited.
    pub(super) fn complete(
        &mut self,
        session: SessionId,
        serial: Serial,
        fingerprint: u64,
        reply: Reply,
    ) {
        if let Some(member) = self.member_mut(session) {
            member.requests.keep(serial, fingerprint, &reply);
        }
        self.effects.push(Effect::Complete {
            session,
            serial,
            reply,
        });
    }
}
