//! Granting what has become free.
//!
//! Invariant: afterwards no lock is left whose pending upgrade, or else whose head of queue, could
//! be granted, and no lock that nobody holds or waits for. The work is bounded by the waits that
//! it ends or moves on to a later lock in name order.

use super::{Shard, Step, acquire::Turn};
use crate::{
    id::{LockName, Serial, SessionId},
    locks::lock::{Upgrader, Waiter},
    session::{Goal, WaitingRequest},
};

/// Who goes next.
enum Next {
    Upgrade(Upgrader),
    Head(Waiter),
}

impl Shard {
    /// Grants all that can be granted in the locks that were changed.
    pub(super) fn settle(&mut self) {
        while let Some(name) = self.changed.pop_front() {
            while let Some(next) = self.next_in_turn(&name) {
                match next {
                    Next::Upgrade(Upgrader {
                        session,
                        serial,
                        token,
                        ..
                    }) => {
                        if let Some(wait) = self.take_wait(session, serial) {
                            let reply = self.promote(&name, token);
                            self.complete(session, serial, wait.fingerprint, reply);
                        }
                    }
                    Next::Head(Waiter {
                        session, serial, ..
                    }) => self.go_on(session, serial),
                }
            }
            if self.locks.get(&name).is_some_and(|lock| lock.is_idle()) {
                self.locks.remove(&name);
            }
        }
    }

    /// Takes the one who may go next out of the lock.
    fn next_in_turn(&mut self, name: &LockName) -> Option<Next> {
        let lock = self.locks.get(name)?;
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
        let lock = self.locks.get_mut(name)?;
        if let Some(upgrader) = lock.upgrader.take() {
            return Some(Next::Upgrade(upgrader));
        }
        match arrival {
            Some(arrival) if may_go => lock.dequeue(arrival).map(Next::Head),
            Some(_) | None => None,
        }
    }

    /// Lets an acquisition that was at the head of a queue take that lock, and go on.
    fn go_on(&mut self, session: SessionId, serial: Serial) {
        let Some(wait) = self.take_wait(session, serial) else {
            return;
        };
        let WaitingRequest {
            fingerprint,
            deadline,
            goal,
            ..
        } = wait;
        let Goal::Acquire { acquisition, .. } = goal else {
            return;
        };
        let owner = acquisition.owner.clone();
        match self.advance(session, serial, acquisition, Turn::Head) {
            Step::Done(reply) => {
                self.complete(session, serial, fingerprint, reply);
                self.break_cycles_of_grant(session, &owner);
            }
            Step::Wait(goal) => self.put_wait(session, serial, fingerprint, deadline, goal),
        }
    }
}
