//! Ending waits without a grant.
//!
//! Invariant: a request that is withdrawn keeps nothing of what it had taken; an upgrader keeps its
//! shared hold. Nothing is granted to a request that is withdrawn by the same command.

use super::Locks;
use crate::{
    id::{LockName, Serial, SessionId},
    kernel::Kernel,
    locks::{reply::LockRefusal, wait::Goal},
    reply::{Refusal, Reply},
};

impl Locks {
    pub(super) fn cancel_wait(
        &mut self,
        kernel: &mut Kernel,
        session: SessionId,
        serial: Serial,
    ) -> Reply {
        let Some(name) = self.withdraw(kernel, session, serial) else {
            return Reply::Refused(Refusal::Lock(LockRefusal::NoSuchWait));
        };
        let refusal = Refusal::Lock(LockRefusal::WaitCancelled {
            name: name.to_string(),
        });
        kernel.complete(session, serial, Reply::Refused(refusal));
        Reply::Done
    }

    pub(super) fn expire_waits(&mut self, kernel: &mut Kernel) {
        while let Some(&(deadline, session, serial)) = self.deadlines.first()
            && deadline <= kernel.now()
        {
            self.deadlines.pop_first();
            if let Some(name) = self.withdraw(kernel, session, serial) {
                let refusal = Refusal::Lock(LockRefusal::WaitTimedOut {
                    name: name.to_string(),
                });
                kernel.complete(session, serial, Reply::Refused(refusal));
            }
        }
    }

    /// Takes a waiting request out of its queue, and gives back what it had taken: the lock that it
    /// waited for.
    pub(super) fn withdraw(
        &mut self,
        kernel: &Kernel,
        session: SessionId,
        serial: Serial,
    ) -> Option<LockName> {
        let wait = self.take_wait(session, serial)?;
        let name = match wait.goal {
            Goal::Acquire {
                acquisition,
                arrival,
            } => {
                let name = acquisition.next()?.name.clone();
                if let Some(lock) = self.table.get_mut(&name) {
                    lock.dequeue(arrival);
                }
                self.give_back(kernel, session, &acquisition);
                name
            }
            Goal::Upgrade { name, .. } => {
                if let Some(lock) = self.table.get_mut(&name) {
                    lock.upgrader = None;
                }
                name
            }
        };
        self.changed.push_back(name.clone());
        Some(name)
    }
}
