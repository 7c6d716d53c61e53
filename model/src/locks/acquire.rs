//! Taking locks.
//!
//! Invariants: an acquisition ends with all its locks granted or with none of them taken by it;
//! an owner has at most one hold of a lock, which it may take again, past every queue.

use std::collections::btree_map::Entry;

use super::{
    Holdings, Locks, Step,
    once::{Kind, fingerprint},
};
use crate::{
    id::{FencingToken, LockName, Owner, Serial, SessionId},
    kernel::Kernel,
    locks::{
        change::ChangeKind,
        command::LockSpec,
        lock::{Hold, Lock, MAX_HOLDS, MAX_WAITERS, ReentryError, Waiter},
        mode::Mode,
        reply::{Grant, LockRefusal, LockReply},
        wait::{Acquisition, Goal},
    },
    outcome::Outcome,
    reply::{Refusal, Reply},
    request::{RequestId, Wait},
    value::Value,
};

/// Where an acquisition stands before the lock it takes next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// It comes now, behind all who wait.
    Arriving,
    /// It was at the head of the queue, and has left it.
    Head,
}

/// What became of taking one lock.
enum Taking {
    Taken,
    Blocked,
    Refused(Refusal),
}

impl ReentryError {
    /// The refusal that says so.
    fn of(self, name: &LockName) -> Refusal {
        let name = name.to_string();
        match self {
            Self::NeedsUpgrade => Refusal::Lock(LockRefusal::UpgradeRequired { name }),
            Self::TooMany => Refusal::Lock(LockRefusal::TooManyHolds {
                name,
                limit: MAX_HOLDS,
            }),
            Self::OtherPermits => Refusal::Lock(LockRefusal::OtherPermits { name }),
            Self::Upgrading => Refusal::Lock(LockRefusal::UpgradePending { name }),
        }
    }
}

fn unavailable(name: &LockName) -> Refusal {
    let name = name.to_string();
    Refusal::Lock(LockRefusal::Unavailable { name })
}

/// True if who comes first has to wait for others.
const fn waits_alone(mode: Mode) -> bool {
    match mode {
        Mode::Shared | Mode::Exclusive | Mode::Permits { .. } => false,
        Mode::Meet { parties } => parties > 1,
    }
}

/// The refusal if a lock is in use as something else.
fn other_usage(lock: &Lock, name: &LockName, mode: Mode) -> Option<Refusal> {
    let present = lock.usage().filter(|present| *present != mode.usage())?;
    let name = name.to_string();
    Some(Refusal::Lock(LockRefusal::OtherUsage { name, present }))
}

impl Locks {
    pub(super) fn acquire(
        &mut self,
        kernel: &mut Kernel,
        request: RequestId,
        owner: Owner,
        specs: Vec<LockSpec>,
        wait: Wait,
        value: Value,
    ) -> Outcome {
        let fingerprint = fingerprint(Kind::Acquire, &[&owner, &specs, &wait, &value]);
        let RequestId {
            session, serial, ..
        } = request;
        // Whoever names no owner is one of its own: the next unnamed acquisition waits for it.
        let owner = owner.or_of(serial);
        self.once(kernel, request, fingerprint, wait, |locks, kernel| {
            let Some(acquisition) = Acquisition::new(owner, specs, value) else {
                let what = "an acquisition takes 1 to 64 locks of distinct names, or one barrier"
                    .to_owned();
                return Step::refused(Refusal::Malformed { what });
            };
            if wait == Wait::Try
                && let Some(refusal) = locks.obstacle(session, &acquisition)
            {
                return Step::refused(refusal);
            }
            locks.advance(kernel, session, serial, acquisition, Turn::Arriving)
        })
    }

    /// Why not all locks can be taken at once.
    fn obstacle(&self, session: SessionId, acquisition: &Acquisition) -> Option<Refusal> {
        let none = Holdings::new();
        let holdings = self.holdings.get(&session).unwrap_or(&none);
        acquisition.in_order().find_map(|LockSpec { name, mode }| {
            let Some(lock) = self.table.get(name) else {
                return waits_alone(*mode).then(|| unavailable(name));
            };
            if let Some(refusal) = other_usage(lock, name, *mode) {
                return Some(refusal);
            }
            if let Mode::Meet { parties } = mode {
                return (!lock.is_met_by_one_more(*parties)).then(|| unavailable(name));
            }
            match holdings.get(&(name.clone(), acquisition.owner.clone())) {
                Some(token) => lock
                    .check_reentry(*token, *mode)
                    .err()
                    .map(|error| error.of(name)),
                None if lock.is_open_to(*mode) => None,
                None => Some(unavailable(name)),
            }
        })
    }

    /// Takes one lock after another, until all are taken, one is not free, or one is refused.
    pub(super) fn advance(
        &mut self,
        kernel: &mut Kernel,
        session: SessionId,
        serial: Serial,
        mut acquisition: Acquisition,
        mut turn: Turn,
    ) -> Step {
        while let Some(spec) = acquisition.next() {
            let present = self.table.get(&spec.name);
            let refusal = present.and_then(|lock| other_usage(lock, &spec.name, spec.mode));
            if let (None, Mode::Meet { parties }) = (&refusal, spec.mode) {
                return self.meet(kernel, session, serial, acquisition, parties);
            }
            let taking = match refusal {
                Some(refusal) => Taking::Refused(refusal),
                None => self.take(kernel, session, &acquisition, spec, turn),
            };
            let refusal = match taking {
                Taking::Taken => {
                    acquisition.taken += 1;
                    turn = Turn::Arriving;
                    continue;
                }
                Taking::Refused(refusal) => refusal,
                Taking::Blocked => {
                    let LockSpec { name, mode } = spec;
                    let waiter = Waiter {
                        session,
                        serial,
                        owner: acquisition.owner.clone(),
                        mode: *mode,
                        since: kernel.wall(),
                    };
                    match self
                        .table
                        .get_mut(name)
                        .and_then(|lock| lock.enqueue(waiter))
                    {
                        Some(arrival) => {
                            return Step::Wait(Goal::Acquire {
                                acquisition,
                                arrival,
                            });
                        }
                        None => {
                            let name = name.to_string();
                            Refusal::Lock(LockRefusal::TooManyWaiters {
                                name,
                                limit: MAX_WAITERS,
                            })
                        }
                    }
                }
            };
            self.give_back(kernel, session, &acquisition);
            return Step::refused(refusal);
        }
        Step::Done(self.hand_over(session, &acquisition))
    }

    /// Takes one lock for an acquisition under way.
    fn take(
        &mut self,
        kernel: &Kernel,
        session: SessionId,
        acquisition: &Acquisition,
        spec: &LockSpec,
        turn: Turn,
    ) -> Taking {
        let LockSpec { name, mode } = spec;
        let Acquisition { owner, value, .. } = acquisition;
        let holdings = self.holdings.entry(session).or_default();
        match holdings.entry((name.clone(), owner.clone())) {
            Entry::Occupied(own) => match self.table.get_mut(name) {
                Some(lock) => match lock.reenter(*own.get(), *mode) {
                    Ok(()) => Taking::Taken,
                    Err(error) => Taking::Refused(error.of(name)),
                },
                None => Taking::Blocked,
            },
            Entry::Vacant(slot) => {
                let lock = self.table.get_or_default(name);
                let is_free = match turn {
                    Turn::Arriving => lock.is_open_to(*mode),
                    Turn::Head => lock.held.admits(*mode),
                };
                let token = self.last_token.next();
                let owner = owner.clone();
                let hold = Hold {
                    session,
                    owner,
                    since: kernel.wall(),
                    granted: 0,
                    pending: 1,
                    permits: match mode {
                        Mode::Permits { count, .. } => *count,
                        Mode::Shared | Mode::Exclusive | Mode::Meet { .. } => 1,
                    },
                    value: value.clone(),
                };
                if is_free && lock.held.add(*mode, token, hold) {
                    self.last_token = token;
                    slot.insert(token);
                    self.note(kernel, ChangeKind::Acquired, name, token);
                    Taking::Taken
                } else {
                    Taking::Blocked
                }
            }
        }
    }

    /// Makes what an acquisition has taken its client's: the end of a successful one.
    fn hand_over(&mut self, session: SessionId, acquisition: &Acquisition) -> Reply {
        let mut grants = Vec::with_capacity(acquisition.locks.len());
        for LockSpec { name, mode } in &acquisition.locks {
            let Some((lock, token)) = self.own_hold(session, &acquisition.owner, name) else {
                continue;
            };
            let held = lock.held.get(token);
            let mode = held
                .and_then(|hold| lock.held.mode_of(hold))
                .unwrap_or(*mode);
            let Some(hold) = lock.held.get_mut(token) else {
                continue;
            };
            hold.pending = hold.pending.saturating_sub(1);
            hold.granted = hold.granted.saturating_add(1);
            grants.push(Grant {
                name: name.clone(),
                mode,
                token,
                holds: hold.granted,
            });
        }
        Reply::Lock(LockReply::Granted(grants))
    }

    /// Undoes what an acquisition has taken.
    pub(super) fn give_back(
        &mut self,
        kernel: &Kernel,
        session: SessionId,
        acquisition: &Acquisition,
    ) {
        for LockSpec { name, .. } in acquisition.taken() {
            let Some((lock, token)) = self.own_hold(session, &acquisition.owner, name) else {
                continue;
            };
            if let Some(hold) = lock.held.get_mut(token) {
                hold.pending = hold.pending.saturating_sub(1);
            }
            self.drop_if_unused(kernel, name, token);
        }
    }

    /// An owner's hold of a lock.
    pub(super) fn own_hold(
        &mut self,
        session: SessionId,
        owner: &Owner,
        name: &LockName,
    ) -> Option<(&mut Lock, FencingToken)> {
        let holdings = self.holdings.get(&session)?;
        let token = holdings.get(&(name.clone(), owner.clone()))?;
        Some((self.table.get_mut(name)?, *token))
    }
}
