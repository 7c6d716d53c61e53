//! Giving holds back.
//!
//! Invariant: only the present token of a hold can release it, and only what was granted: what an
//! acquisition of the same owner that still waits has taken stays with that acquisition. An acquisition
//! is undone at most once, and only as long as its client may not have heard of the grant; once it was
//! undone it is never granted, though it may come later than its undoing.

use super::{
    Locks, Step,
    once::{Kind, fingerprint},
};
use crate::{
    id::{FencingToken, LockName, Owner, Serial, SessionId},
    kernel::{Abandoned, Kernel, MAX_IN_FLIGHT},
    locks::{
        command::GiveBack,
        lock::{Hold, Upgrader},
        mode::Mode,
        reply::{Grant, LockRefusal, LockReply},
    },
    outcome::Outcome,
    reply::{Refusal, Reply},
    request::{RequestId, Wait},
    session::SessionRefusal,
};

impl Locks {
    pub(super) fn release(
        &mut self,
        kernel: &mut Kernel,
        request: RequestId,
        name: LockName,
        token: FencingToken,
    ) -> Outcome {
        let fingerprint = fingerprint(Kind::Release, &[&name, &token]);
        self.once(kernel, request, fingerprint, Wait::Try, |locks, kernel| {
            Step::Done(match locks.granted_hold(request.session, &name, token) {
                Ok((hold, _)) => {
                    hold.granted = hold.granted.saturating_sub(1);
                    let holds = hold.granted;
                    if holds == 0 {
                        locks.lost(kernel, &name, token);
                    }
                    Reply::Lock(LockReply::Released { holds })
                }
                Err(refusal) => Reply::Refused(refusal),
            })
        })
    }

    pub(super) fn undo_acquire(
        &mut self,
        kernel: &mut Kernel,
        session: SessionId,
        serial: Serial,
        grants: &[GiveBack],
        refusal: Refusal,
    ) -> Reply {
        let abandoned = match kernel.abandon(session, serial, refusal.clone()) {
            Ok(abandoned) => abandoned,
            Err(absent) => return absent,
        };
        match abandoned {
            Abandoned::Over => {}
            Abandoned::Unknown if !serial.is_ephemeral() => {}
            Abandoned::Waiting => {
                if self.withdraw(kernel, session, serial).is_some() {
                    let reply = Reply::Refused(refusal);
                    kernel.complete(session, serial, reply);
                }
            }
            Abandoned::Unknown => {
                for GiveBack { name, token } in grants {
                    self.give_one_back(kernel, session, name, *token);
                }
                // Of a node's serial no answer is kept, but its unnamed owner says what it has.
                let unnamed = Owner::default().or_of(serial);
                let holdings = self.holdings.get(&session).into_iter().flatten();
                let own: Vec<_> = holdings
                    .filter(|((_, owner), _)| *owner == unnamed)
                    .map(|((name, _), token)| (name.clone(), *token))
                    .collect();
                for (name, token) in own {
                    self.give_one_back(kernel, session, &name, token);
                }
            }
            Abandoned::Answered(reply) => {
                let Reply::Lock(LockReply::Granted(grants)) = reply else {
                    return Reply::Done;
                };
                let grants = std::mem::take(grants);
                *reply = Reply::Refused(refusal);
                for Grant { name, token, .. } in &grants {
                    self.give_one_back(kernel, session, name, *token);
                }
            }
            Abandoned::NoRoom => {
                let limit = MAX_IN_FLIGHT;
                return Reply::Refused(Refusal::Session(SessionRefusal::TooManyInFlight { limit }));
            }
        }
        Reply::Done
    }

    /// Gives back what was granted once; nothing if the token is stale.
    fn give_one_back(
        &mut self,
        kernel: &mut Kernel,
        session: SessionId,
        name: &LockName,
        token: FencingToken,
    ) {
        if let Ok((hold, _)) = self.granted_hold(session, name, token) {
            hold.granted = hold.granted.saturating_sub(1);
            if hold.granted == 0 {
                self.lost(kernel, name, token);
            }
        }
    }

    /// The hold of a token that this session was granted, and its mode.
    pub(super) fn granted_hold(
        &mut self,
        session: SessionId,
        name: &LockName,
        token: FencingToken,
    ) -> Result<(&mut Hold, Mode), Refusal> {
        let found = self.table.get_mut(name).and_then(|lock| {
            let mode = lock.held.mode_of(lock.held.get(token)?)?;
            let hold = lock.held.get_mut(token)?;
            (hold.session == session && hold.granted > 0).then_some((hold, mode))
        });
        found.ok_or_else(|| {
            Refusal::Lock(LockRefusal::StaleToken {
                name: name.to_string(),
                token,
            })
        })
    }

    /// What follows when a client has given back all that it was granted of a hold.
    fn lost(&mut self, kernel: &mut Kernel, name: &LockName, token: FencingToken) {
        let lock = self.table.get_mut(name);
        if let Some(lock) = lock
            && let Some(upgrader) = lock.upgrader.take_if(|upgrader| upgrader.token == token)
        {
            let Upgrader {
                session, serial, ..
            } = upgrader;
            self.changed.push_back(name.clone());
            if self.take_wait(session, serial).is_some() {
                let refusal = Refusal::Lock(LockRefusal::StaleToken {
                    name: name.to_string(),
                    token,
                });
                kernel.complete(session, serial, Reply::Refused(refusal));
            }
        }
        self.drop_if_unused(kernel, name, token);
    }

    /// Removes a hold that nothing keeps any more.
    pub(super) fn drop_if_unused(&mut self, kernel: &Kernel, name: &LockName, token: FencingToken) {
        let Some(lock) = self.table.get(name) else {
            return;
        };
        if !lock.held.get(token).is_some_and(Hold::is_unused) {
            return;
        }
        if let Some(hold) = self.remove_hold(kernel, name, token)
            && let Some(holdings) = self.holdings.get_mut(&hold.session)
        {
            holdings.remove(&(name.clone(), hold.owner));
        }
        self.changed.push_back(name.clone());
    }
}
