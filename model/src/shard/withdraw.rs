//! Ending waits without a grant.
//!
//! Invariant: a request that is withdrawn keeps nothing of what it had taken; an upgrader keeps its
//! shared hold. Nothing is granted to a request that is withdrawn by the same command.

use super::Shard;
use crate::{
    id::{LockName, Serial, SessionId},
    locks::reply::LockRefusal,
    reply::{Refusal, Reply},
    session::Goal,
};

/// A wait that is over.
pub(super) struct Withdrawn {
    pub(super) fingerprint: u64,
    /// The lock it waited for.
    pub(super) name: LockName,
}

impl Shard {
    pub(super) fn cancel_wait(&mut self, session: SessionId, serial: Serial) -> Reply {
        let Some(Withdrawn { fingerprint, name }) = self.withdraw(session, serial) else {
            return Reply::Refused(Refusal::Lock(LockRefusal::NoSuchWait));
        };
        let refusal = Refusal::Lock(LockRefusal::WaitCancelled {
            name: name.to_string(),
        });
        self.complete(session, serial, fingerprint, Reply::Refused(refusal));
        Reply::Done
    }

    pub(super) fn expire_waits(&mut self) -> Reply {
        while let Some(&(deadline, session, serial)) = self.deadlines.first()
            && deadline <= self.now
        {
            self.deadlines.pop_first();
            if let Some(Withdrawn { fingerprint, name }) = self.withdraw(session, serial) {
                let refusal = Refusal::Lock(LockRefusal::WaitTimedOut {
                    name: name.to_string(),
                });
                self.complete(session, serial, fingerprint, Reply::Refused(refusal));
            }
        }
        Reply::Done
    }

    /// Takes a waiting request out of its queue, and gives back what it had taken.
    pub(super) fn withdraw(&mut self, session: SessionId, serial: Serial) -> Option<Withdrawn> {
        let wait = self.take_wait(session, serial)?;
        let name = match wait.goal {
            Goal::Acquire {
                acquisition,
                arrival,
            } => {
                let name = acquisition.next()?.name.clone();
                if let Some(lock) = self.locks.get_mut(&name) {
                    lock.dequeue(arrival);
                }
                self.give_back(session, &acquisition);
                name
            }
            Goal::Upgrade { name, .. } => {
                if let Some(lock) = self.locks.get_mut(&name) {
                    lock.upgrader = None;
                }
                name
            }
        };
        self.changed.push_back(name.clone());
        Some(Withdrawn {
            fingerprint: wait.fingerprint,
            name,
        })
    }
}
