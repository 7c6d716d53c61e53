//! Operations that are done once, and may wait.

use std::ops::Bound;

use super::{
    Locks, Step,
    wait::{Goal, WaitKey, WaitingRequest},
};
use crate::{
    codec::Encode,
    id::{Serial, SessionId, ShardTime},
    kernel::{self, Kernel},
    outcome::Outcome,
    request::{RequestId, Wait},
};

/// A kind of operation, for fingerprints. Kept in snapshots: a value keeps its meaning.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Acquire = 1,
    Release = 2,
    Upgrade = 3,
    Downgrade = 4,
    Proclaim = 5,
}

/// Identifies an operation's content.
pub(super) fn fingerprint(kind: Kind, content: &[&dyn Encode]) -> u64 {
    kernel::fingerprint(kind as u8, content)
}

impl Locks {
    /// Runs `operation` if the request is new, or else tells what became of it.
    pub(super) fn once(
        &mut self,
        kernel: &mut Kernel,
        request: RequestId,
        fingerprint: u64,
        wait: Wait,
        operation: impl FnOnce(&mut Self, &mut Kernel) -> Step,
    ) -> Outcome {
        let RequestId {
            session, serial, ..
        } = request;
        kernel.once(request, fingerprint, wait, |kernel| {
            match operation(self, kernel) {
                Step::Done(reply) => Outcome::Done(reply),
                Step::Wait(goal) => {
                    let deadline = match wait {
                        Wait::AtMost(span) => Some(kernel.now().plus(span)),
                        Wait::Try | Wait::Forever => None,
                    };
                    kernel.pend(session, serial, fingerprint);
                    self.put_wait(kernel, session, serial, deadline, goal);
                    Outcome::Pending
                }
            }
        })
    }

    /// The waits of a session.
    pub(super) fn waits_of(
        &self,
        session: SessionId,
    ) -> impl Iterator<Item = (&WaitKey, &WaitingRequest)> {
        let first = (session, Serial(0));
        let from = self.waits.range_from(Bound::Included(&first));
        from.take_while(move |((of, _), _)| *of == session)
    }

    /// Takes a wait out of all but its lock. Its request is pending still.
    pub(super) fn take_wait(
        &mut self,
        session: SessionId,
        serial: Serial,
    ) -> Option<WaitingRequest> {
        let wait = self.waits.remove(&(session, serial))?;
        if let Some(deadline) = wait.deadline {
            self.deadlines.remove(&(deadline, session, serial));
        }
        self.waiting.remove(&wait.epoch);
        Some(wait)
    }

    /// A request that is pending begins to wait in a lock. If that closes a circle, somebody's wait is
    /// over at once, perhaps this one.
    pub(super) fn put_wait(
        &mut self,
        kernel: &mut Kernel,
        session: SessionId,
        serial: Serial,
        deadline: Option<ShardTime>,
        goal: Goal,
    ) {
        self.last_wait = self.last_wait.next();
        let wait = WaitingRequest {
            deadline,
            began: kernel.now(),
            since: kernel.wall(),
            epoch: self.last_wait,
            goal,
        };
        self.waiting.insert(wait.epoch, (session, serial));
        self.deadlines
            .extend(deadline.map(|deadline| (deadline, session, serial)));
        self.waits.insert((session, serial), wait);
        self.break_cycles_of_wait(kernel, session, serial);
    }
}
