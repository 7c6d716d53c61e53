//! Changing the mode of a hold.
//!
//! Invariants: a conversion never opens a gap in which the owner holds nothing; at most one
//! holder of a lock waits to upgrade, since two would wait for each other for ever.

use super::{
    Shard, Step,
    request::{Kind, fingerprint},
};
use crate::{
    command::{RequestId, Wait},
    id::{FencingToken, LockName},
    lock::Upgrader,
    machine::Outcome,
    mode::Mode,
    reply::{Grant, Refusal, Reply},
    session::Goal,
    watch::ChangeKind,
};

impl Shard {
    pub(super) fn upgrade(
        &mut self,
        request: RequestId,
        name: LockName,
        token: FencingToken,
        wait: Wait,
    ) -> Outcome {
        let fingerprint = fingerprint(Kind::Upgrade, &[&name, &token, &wait]);
        self.once(request, fingerprint, wait, |shard| {
            match shard.granted_hold(request.session, &name, token) {
                Err(refusal) => return Step::refused(refusal),
                Ok((_, mode @ (Mode::Exclusive | Mode::Permits { .. } | Mode::Meet { .. }))) => {
                    return Step::refused(Refusal::WrongMode {
                        name: name.to_string(),
                        mode,
                    });
                }
                Ok((_, Mode::Shared)) => {}
            }
            let Some(lock) = shard.locks.get_mut(&name) else {
                return Step::refused(Refusal::StaleToken {
                    name: name.to_string(),
                    token,
                });
            };
            if lock.upgrader.is_some() {
                return Step::refused(Refusal::UpgradeDeadlock {
                    name: name.to_string(),
                });
            }
            if lock.held.is_shared_by_one() {
                return Step::Done(shard.promote(&name, token));
            }
            if wait == Wait::Try {
                return Step::refused(Refusal::Unavailable {
                    name: name.to_string(),
                });
            }
            let RequestId {
                session, serial, ..
            } = request;
            lock.upgrader = Some(Upgrader {
                session,
                serial,
                token,
                since: shard.wall,
            });
            Step::Wait(Goal::Upgrade { name, token })
        })
    }

    /// Makes the only shared hold of a lock exclusive, under a new token: whoever saw the old one
    /// must not pass for the exclusive holder.
    pub(super) fn promote(&mut self, name: &LockName, old: FencingToken) -> Reply {
        let token = self.last_token.next();
        let lock = self.locks.get_mut(name);
        let Some(hold) = lock.and_then(|lock| lock.held.promote(token, self.wall)) else {
            return Reply::Refused(Refusal::StaleToken {
                name: name.to_string(),
                token: old,
            });
        };
        self.last_token = token;
        if let Some(holdings) = self.holdings.get_mut(&hold.session) {
            holdings.insert((name.clone(), hold.owner.clone()), token);
        }
        let (mode, holds) = (Mode::Exclusive, hold.granted);
        self.note(ChangeKind::Converted, name, token);
        let name = name.clone();
        Reply::Granted(vec![Grant {
            name,
            mode,
            token,
            holds,
        }])
    }

    pub(super) fn downgrade(
        &mut self,
        request: RequestId,
        name: LockName,
        token: FencingToken,
    ) -> Outcome {
        let fingerprint = fingerprint(Kind::Downgrade, &[&name, &token]);
        self.once(request, fingerprint, Wait::Try, |shard| {
            match shard.granted_hold(request.session, &name, token) {
                Err(refusal) => Step::refused(refusal),
                Ok((_, mode @ (Mode::Shared | Mode::Permits { .. } | Mode::Meet { .. }))) => {
                    Step::refused(Refusal::WrongMode {
                        name: name.to_string(),
                        mode,
                    })
                }
                Ok((_, Mode::Exclusive)) => {
                    if let Some(lock) = shard.locks.get_mut(&name) {
                        lock.held.demote();
                    }
                    shard.note(ChangeKind::Converted, &name, token);
                    shard.changed.push_back(name);
                    Step::Done(Reply::Downgraded { token })
                }
            }
        })
    }
}
