//! Changing the mode of a hold.
//!
//! Invariants: a conversion never opens a gap in which the owner holds nothing; at most one
//! holder of a lock waits to upgrade, since two would wait for each other for ever; and only a hold that
//! its owner has once is converted. A hold that was taken again has several who rely on its mode and its
//! token, and a conversion that one of them asks for is not told to the others: they would take a
//! shared lock for exclusive, or a token for theirs that is no longer.

use super::{
    Locks, Step,
    once::{Kind, fingerprint},
};
use crate::{
    id::{FencingToken, LockName},
    kernel::Kernel,
    locks::{
        change::ChangeKind,
        lock::{Hold, Upgrader},
        mode::Mode,
        reply::{Grant, LockRefusal, LockReply},
        wait::Goal,
    },
    outcome::Outcome,
    reply::{Refusal, Reply},
    request::{RequestId, Wait},
};

/// The refusal if a hold is taken more than once, by acquisitions under way too.
fn held_again(hold: &Hold, name: &LockName) -> Option<Refusal> {
    let holds = hold.count();
    let name = name.to_string();
    (holds > 1).then_some(Refusal::Lock(LockRefusal::HeldAgain { name, holds }))
}

impl Locks {
    pub(super) fn upgrade(
        &mut self,
        kernel: &mut Kernel,
        request: RequestId,
        name: LockName,
        token: FencingToken,
        wait: Wait,
    ) -> Outcome {
        let fingerprint = fingerprint(Kind::Upgrade, &[&name, &token, &wait]);
        self.once(kernel, request, fingerprint, wait, |locks, kernel| {
            match locks.granted_hold(request.session, &name, token) {
                Err(refusal) => return Step::refused(refusal),
                Ok((_, mode @ (Mode::Exclusive | Mode::Permits { .. } | Mode::Meet { .. }))) => {
                    return Step::refused(Refusal::Lock(LockRefusal::WrongMode {
                        name: name.to_string(),
                        mode,
                    }));
                }
                Ok((hold, Mode::Shared)) => {
                    if let Some(refusal) = held_again(hold, &name) {
                        return Step::refused(refusal);
                    }
                }
            }
            let Some(lock) = locks.table.get_mut(&name) else {
                return Step::refused(Refusal::Lock(LockRefusal::StaleToken {
                    name: name.to_string(),
                    token,
                }));
            };
            if lock.upgrader.is_some() {
                return Step::refused(Refusal::Lock(LockRefusal::UpgradeDeadlock {
                    name: name.to_string(),
                }));
            }
            if lock.held.is_shared_by_one() {
                return Step::Done(locks.promote(kernel, &name, token));
            }
            if wait == Wait::Try {
                return Step::refused(Refusal::Lock(LockRefusal::Unavailable {
                    name: name.to_string(),
                }));
            }
            let RequestId {
                session, serial, ..
            } = request;
            lock.upgrader = Some(Upgrader {
                session,
                serial,
                token,
                since: kernel.wall(),
            });
            Step::Wait(Goal::Upgrade { name, token })
        })
    }

    /// Makes the only shared hold of a lock exclusive, under a new token: whoever saw the old one
    /// must not pass for the exclusive holder.
    pub(super) fn promote(&mut self, kernel: &Kernel, name: &LockName, old: FencingToken) -> Reply {
        let token = self.last_token.next();
        let lock = self.table.get_mut(name);
        let Some(hold) = lock.and_then(|lock| lock.held.promote(token, kernel.wall())) else {
            return Reply::Refused(Refusal::Lock(LockRefusal::StaleToken {
                name: name.to_string(),
                token: old,
            }));
        };
        self.last_token = token;
        if let Some(holdings) = self.holdings.get_mut(&hold.session) {
            holdings.insert((name.clone(), hold.owner.clone()), token);
        }
        let (mode, holds) = (Mode::Exclusive, hold.granted);
        self.note(kernel, ChangeKind::Converted, name, token);
        let name = name.clone();
        Reply::Lock(LockReply::Granted(vec![Grant {
            name,
            mode,
            token,
            holds,
        }]))
    }

    pub(super) fn downgrade(
        &mut self,
        kernel: &mut Kernel,
        request: RequestId,
        name: LockName,
        token: FencingToken,
    ) -> Outcome {
        let fingerprint = fingerprint(Kind::Downgrade, &[&name, &token]);
        self.once(
            kernel,
            request,
            fingerprint,
            Wait::Try,
            |locks, kernel| match locks.granted_hold(request.session, &name, token) {
                Err(refusal) => Step::refused(refusal),
                Ok((_, mode @ (Mode::Shared | Mode::Permits { .. } | Mode::Meet { .. }))) => {
                    Step::refused(Refusal::Lock(LockRefusal::WrongMode {
                        name: name.to_string(),
                        mode,
                    }))
                }
                Ok((hold, Mode::Exclusive)) => {
                    if let Some(refusal) = held_again(hold, &name) {
                        return Step::refused(refusal);
                    }
                    if let Some(lock) = locks.table.get_mut(&name) {
                        lock.held.demote();
                    }
                    locks.note(kernel, ChangeKind::Converted, &name, token);
                    locks.changed.push_back(name);
                    Step::Done(Reply::Lock(LockReply::Downgraded { token }))
                }
            },
        )
    }
}
