//! Barriers: a lock at which so many have to meet.
//!
//! Invariant: fewer wait at a barrier than it takes to pass; when the last comes, all pass at once,
//! under one token, which is greater than that of the time before. Whoever leaves before (by
//! time-out, cancellation or the end of its session) has not come; nobody else is disturbed.

use super::{Locks, Step};
use crate::{
    id::{FencingToken, LockName, Serial, SessionId},
    kernel::Kernel,
    locks::{
        lock::{Lock, MAX_WAITERS, Waiter},
        mode::Mode,
        reply::{Grant, LockRefusal, LockReply},
        wait::{Acquisition, Goal},
    },
    reply::{Refusal, Reply},
};

impl Lock {
    /// True if so many have met once one more has come.
    pub(super) fn is_met_by_one_more(&self, parties: u32) -> bool {
        self.queued().saturating_add(1) >= parties as usize
    }
}

impl Locks {
    /// Comes to a barrier.
    pub(super) fn meet(
        &mut self,
        kernel: &mut Kernel,
        session: SessionId,
        serial: Serial,
        acquisition: Acquisition,
        parties: u32,
    ) -> Step {
        let Some(spec) = acquisition.next() else {
            return Step::Done(Reply::Lock(LockReply::Granted(Vec::new())));
        };
        let name = spec.name.clone();
        let mode = Mode::Meet { parties };
        let lock = self.table.get_or_default(&name);
        if lock.is_met_by_one_more(parties) {
            return Step::Done(self.pass(kernel, &name, mode));
        }
        let waiter = Waiter {
            session,
            serial,
            owner: acquisition.owner.clone(),
            mode,
            since: kernel.wall(),
        };
        match lock.enqueue(waiter) {
            Some(arrival) => Step::Wait(Goal::Acquire {
                acquisition,
                arrival,
            }),
            None => Step::refused(Refusal::Lock(LockRefusal::TooManyWaiters {
                name: name.to_string(),
                limit: MAX_WAITERS,
            })),
        }
    }

    /// Lets all pass who have come, and gives the answer for the last.
    fn pass(&mut self, kernel: &mut Kernel, name: &LockName, mode: Mode) -> Reply {
        let token: FencingToken = self.last_token.next();
        self.last_token = token;
        let passed = Reply::Lock(LockReply::Granted(vec![Grant {
            name: name.clone(),
            mode,
            token,
            holds: 0,
        }]));
        while let Some(waiter) = self.table.get_mut(name).and_then(Lock::pop) {
            let Waiter {
                session, serial, ..
            } = waiter;
            if self.take_wait(session, serial).is_some() {
                kernel.complete(session, serial, passed.clone());
            }
        }
        self.changed.push_back(name.clone());
        passed
    }
}
