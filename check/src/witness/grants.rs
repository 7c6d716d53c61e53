//! Judging grants: their tokens, their number, their order.

use std::sync::Arc;

use lockstep_model::{
    Command, Effect, LockCommand, LockRefusal, LockReply, MetaReply, Outcome, Refusal, Reply,
    Serial, SessionId, SessionRefusal, SessionReply, locks::reply::Grant, request::RequestId,
};

use super::{Mark, Seen, Told, Witness, Wrong};
use crate::{
    scenario::Scenario,
    truth::{of_holder, of_waiter},
};

impl Witness {
    /// A token that is new in the table is above all that the lock ever had.
    pub(super) fn judge_tokens(&mut self, seen: &Seen<'_>) {
        for lock in seen.after.locks() {
            let before = seen.before.lock(&lock.name);
            let had = |token| {
                before.is_some_and(|lock| lock.holders.iter().any(|holder| holder.token == token))
            };
            let new = lock.holders.iter().map(|holder| holder.token);
            for token in new.filter(|token| !had(*token)) {
                let tokens = Arc::make_mut(&mut self.tokens);
                let last = tokens.entry(lock.name.clone()).or_default();
                let falls = token <= *last;
                *last = token.max(*last);
                if falls {
                    self.wrong(Wrong::TokenFell);
                }
            }
        }
    }

    /// Whatever an acquisition is told again is what it was told first.
    pub(super) fn judge_grants(&mut self, scenario: &Scenario, seen: &Seen<'_>) {
        if completed(seen).any(|(session, _, reply)| is_upgrade(seen, session, reply)) {
            self.mark(scenario, Mark::Upgraded);
        }
        let answers = answered(seen).into_iter().chain(completed(seen));
        for (session, serial, reply) in answers {
            match reply {
                Reply::Lock(LockReply::Granted(grants)) => {
                    self.judge_grant(scenario, (session, serial), grants);
                }
                Reply::Refused(Refusal::Session(SessionRefusal::SerialForgotten { .. })) => {
                    self.mark(scenario, Mark::RepeatedTooLate);
                }
                Reply::Refused(Refusal::Lock(LockRefusal::WaitTimedOut { .. })) => {
                    self.mark(scenario, Mark::TimedOut);
                }
                Reply::Done
                | Reply::Session(SessionReply::Opened { .. })
                | Reply::Session(SessionReply::Touched { .. })
                | Reply::Lock(LockReply::Released { .. })
                | Reply::Lock(LockReply::Downgraded { .. })
                | Reply::Refused(_)
                | Reply::Session(SessionReply::Revoked { .. })
                | Reply::Meta(MetaReply::Joined { .. })
                | Reply::Meta(MetaReply::Changed { .. }) => {}
            }
        }
    }

    fn judge_grant(&mut self, scenario: &Scenario, who: (SessionId, Serial), grants: &[Grant]) {
        let told: Vec<Told> = grants.iter().map(told).collect();
        match self.grants.get(&who) {
            None => {
                Arc::make_mut(&mut self.grants).insert(who, told);
            }
            Some(first) if *first == told => self.mark(scenario, Mark::GrantRepeated),
            Some(_) => self.wrong(Wrong::GrantedTwice),
        }
    }

    /// Nobody who has come to hold a lock leaves one behind who waited before.
    pub(super) fn judge_order(&mut self, seen: &Seen<'_>) {
        for lock in seen.after.locks() {
            let Some(before) = seen.before.lock(&lock.name) else {
                continue;
            };
            let queue: Vec<_> = before.waiters.iter().map(of_waiter).collect();
            let held: Vec<_> = before.holders.iter().map(of_holder).collect();
            let waits: Vec<_> = lock.waiters.iter().map(of_waiter).collect();
            for holder in lock.holders.iter().map(of_holder) {
                let place = queue.iter().position(|party| *party == holder);
                let mut ahead = queue.iter().take(place.unwrap_or(queue.len()));
                if !held.contains(&holder) && ahead.any(|party| waits.contains(party)) {
                    self.wrong(Wrong::Overtaken);
                }
            }
        }
    }
}

/// What the command itself was answered.
fn answered<'a>(seen: &Seen<'a>) -> Option<(SessionId, Serial, &'a Reply)> {
    match (seen.command, seen.outcome) {
        (
            Command::Lock(LockCommand::Acquire { request, .. })
            | Command::Lock(LockCommand::Upgrade { request, .. }),
            Outcome::Done(reply),
        ) => {
            let RequestId {
                session, serial, ..
            } = *request;
            Some((session, serial, reply))
        }
        _ => None,
    }
}

/// What those were answered who had waited.
fn completed<'a>(seen: &Seen<'a>) -> impl Iterator<Item = (SessionId, Serial, &'a Reply)> {
    seen.effects.iter().filter_map(|effect| match effect {
        Effect::Complete {
            session,
            serial,
            reply,
        } => Some((*session, *serial, reply)),
        Effect::SessionAlive { .. }
        | Effect::SessionRevoked { .. }
        | Effect::SessionEnding { .. }
        | Effect::NextDeadline(_) => None,
    })
}

fn told(grant: &Grant) -> Told {
    let Grant {
        name,
        mode,
        token,
        holds,
    } = grant;
    (name.clone(), *mode, *token, *holds)
}

/// True if a session held before what it is granted under another token now.
fn is_upgrade(seen: &Seen<'_>, session: SessionId, reply: &Reply) -> bool {
    let Reply::Lock(LockReply::Granted(grants)) = reply else {
        return false;
    };
    grants.iter().any(|grant| {
        let lock = seen.before.lock(&grant.name);
        let mut holders = lock.into_iter().flat_map(|lock| &lock.holders);
        holders.any(|holder| holder.session == session && holder.token != grant.token)
    })
}
