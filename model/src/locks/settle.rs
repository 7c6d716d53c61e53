//! Granting what has become free.
//!
//! Invariant: afterwards no lock is left whose pending upgrade, or else whose head of queue, could
//! be granted, and no lock that nobody holds or waits for. The work is bounded by the waits that
//! it ends or moves on to a later lock in name order.

use super::{Locks, Step, acquire::Turn};
use crate::{
    id::{LockName, Serial, SessionId},
    kernel::Kernel,
    locks::{
        lock::{Upgrader, Waiter},
        wait::{Goal, WaitingRequest},
    },
};

/// Who goes next.
enum Next {
    Upgrade(Upgrader),
    Head(Waiter),
}

impl Locks {
    /// Grants all that can be granted in the locks that were changed.
    pub(crate) fn settle(&mut self, kernel: &mut Kernel) {
        while let Some(name) = self.changed.pop_front() {
            while let Some(next) = self.next_in_turn(&name) {
                match next {
                    Next::Upgrade(Upgrader {
                        session,
                        serial,
                        token,
                        ..
                    }) => {
                        if self.take_wait(session, serial).is_some() {
                            let reply = self.promote(kernel, &name, token);
                            kernel.complete(session, serial, reply);
                        }
                    }
                    Next::Head(Waiter {
                        session, serial, ..
                    }) => self.go_on(kernel, session, serial),
                }
            }
            if self.table.get(&name).is_some_and(|lock| lock.is_idle()) {
                self.table.remove(&name);
            }
        }
    }

    /// Takes the one who may go next out of the lock.
    fn next_in_turn(&mut self, name: &LockName) -> Option<Next> {
        let lock = self.table.get(name)?;
        if lock.upgrader.is_some() && !lock.held.is_shared_by_one() {
            return None;
        }
        let (arrival, may_go) = match lock.head() {
            Some((arrival, waiter)) => {
                // One who came to hold it since may take it again, as one who arrives may.
                let holdings = self.holdings.get(&waiter.session);
                let holds = holdings.is_some_and(|holdings| {
                    holdings.contains_key(&(name.clone(), waiter.owner.clone()))
                });
                (Some(arrival), holds || lock.held.admits(waiter.mode))
            }
            None => (None, false),
        };
        let lock = self.table.get_mut(name)?;
        if let Some(upgrader) = lock.upgrader.take() {
            return Some(Next::Upgrade(upgrader));
        }
        match arrival {
            Some(arrival) if may_go => lock.dequeue(arrival).map(Next::Head),
            Some(_) | None => None,
        }
    }

    /// Lets an acquisition that was at the head of a queue take that lock, and go on.
    fn go_on(&mut self, kernel: &mut Kernel, session: SessionId, serial: Serial) {
        let Some(wait) = self.take_wait(session, serial) else {
            return;
        };
        let WaitingRequest { deadline, goal, .. } = wait;
        let Goal::Acquire { acquisition, .. } = goal else {
            return;
        };
        let owner = acquisition.owner.clone();
        match self.advance(kernel, session, serial, acquisition, Turn::Head) {
            Step::Done(reply) => {
                kernel.complete(session, serial, reply);
                self.break_cycles_of_grant(kernel, session, &owner);
            }
            Step::Wait(goal) => self.put_wait(kernel, session, serial, deadline, goal),
        }
    }
}
