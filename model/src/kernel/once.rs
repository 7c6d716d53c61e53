//! The frame of every operation that is exactly-once, of whatever service.
//!
//! Invariant: an operation runs once for each (session, serial), whatever is repeated, and its
//! answer is kept before anybody sees it.

use xxhash_rust::xxh3::xxh3_64;

use super::{Abandoned, Kernel, presence::Presence, requests::Admission};
use crate::{
    codec::Encode,
    id::{Serial, SessionId},
    outcome::{Effect, Outcome},
    reply::{Refusal, Reply},
    request::{RequestId, Wait},
    session::SessionRefusal,
};

/// Identifies an operation's content, so that a serial that is used for two operations is noticed.
/// `kind` tells operations apart, those of other services too; it is kept in snapshots.
/// Not for security: a client that wants to deceive itself can.
pub(crate) fn fingerprint(kind: u8, content: &[&dyn Encode]) -> u64 {
    let mut bytes = Vec::with_capacity(64);
    bytes.push(kind);
    for part in content {
        part.encode_into(&mut bytes);
    }
    xxh3_64(&bytes)
}

impl Kernel {
    /// Runs `operation` if the request is new, or else tells what became of it. An operation that is
    /// pending calls [`Kernel::complete`] once, later.
    pub(crate) fn once(
        &mut self,
        request: RequestId,
        fingerprint: u64,
        wait: Wait,
        operation: impl FnOnce(&mut Self) -> Outcome,
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
        let outcome = operation(self);
        if let (Outcome::Done(reply), Some(member)) = (&outcome, self.member_mut(session)) {
            member.requests.keep(serial, fingerprint, reply);
        }
        outcome
    }

    /// A request waits from now on, until it is completed.
    pub(crate) fn pend(&mut self, session: SessionId, serial: Serial, fingerprint: u64) {
        if let Some(member) = self.member_mut(session) {
            member.requests.pending.insert(serial, fingerprint);
        }
    }

    /// True while this request waits.
    pub(crate) fn is_pending(&self, session: SessionId, serial: Serial) -> bool {
        let member = self.member(session);
        member.is_some_and(|member| member.requests.pending.contains_key(&serial))
    }

    /// Answers a request that waited.
    pub(crate) fn complete(&mut self, session: SessionId, serial: Serial, reply: Reply) {
        if let Some(member) = self.member_mut(session)
            && let Some(fingerprint) = member.requests.pending.remove(&serial)
        {
            member.requests.keep(serial, fingerprint, &reply);
        }
        self.effects.push(Effect::Complete {
            session,
            serial,
            reply,
        });
    }

    /// Remembers that an operation was given up, and tells how far it had come: see
    /// [`Abandoned`]. The answer if the session may not act here.
    pub(crate) fn abandon(
        &mut self,
        session: SessionId,
        serial: Serial,
        refusal: Refusal,
    ) -> Result<Abandoned<'_>, Reply> {
        if !self.is_open(session) {
            return Err(self.absent(session));
        }
        Ok(match self.member_mut(session) {
            Some(member) => member.requests.abandon(serial, refusal),
            None => Abandoned::Over,
        })
    }

    /// What a session is told that may not act here.
    pub(crate) fn absent(&self, session: SessionId) -> Reply {
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
}
