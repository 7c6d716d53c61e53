//! The course of one operation: sent, repeated, cancelled, answered.
//!
//! Invariant: an operation leaves the pending ones only with its final answer, with the loss of
//! the session, or because no server can ever have heard of it. An acquisition that nobody waits for is
//! abandoned: it leaves them when every shard concerned has undone it, each as soon as it can.

use lockstep_model::id::{FencingToken, LockName};
use lockstep_proto::lock::v1::{
    AbandonOperation, CancelOperation, Grants, Operation, OperationAbandoned, OperationResult,
    ReleaseOperation, operation_result::Result as Answer, session_request::Request,
};
use tokio::sync::{SemaphorePermit, TryAcquireError};

use super::{Core, Submission};
use crate::{
    backoff,
    error::{Disposition, Failure, Reason, ServerError},
    lease_time::LeaseTime,
    placement::Key,
    session::{
        Loss,
        links::LinkId,
        pending::{Cancel, Hold, Outcome, Pending, Place, Sink, Work, changed_token},
    },
};

/// Failures in a row of an operation at one node before another is tried: an election often gives
/// the same node back.
const FAILURES_BEFORE_DETOUR: u32 = 3;

/// True if the shard of an operation is sure to have heard of it: a renewal is read, and of several locks
/// another shard may have refused.
fn was_heard(work: &Work, outcome: &Outcome) -> bool {
    match (work, outcome) {
        (Work::Renew(_), _) | (_, Err(Failure::NoAnswer { .. } | Failure::Lost(_))) => false,
        (_, Ok(_)) => true,
        (Work::Acquire(acquire), Err(Failure::Refused(error))) => {
            acquire.locks.len() == 1 && error.reason != Reason::InvalidArgument
        }
        (
            Work::Release(_) | Work::Upgrade(_) | Work::Downgrade(_) | Work::Proclaim(_),
            Err(Failure::Refused(error)),
        ) => error.reason != Reason::InvalidArgument,
    }
}

/// What undoes an acquisition in all its shards.
fn abandonment(serial: u64, work: &Work) -> AbandonOperation {
    let names = match work {
        Work::Acquire(acquire) => acquire.locks.iter().map(|lock| lock.name.clone()).collect(),
        Work::Release(_)
        | Work::Renew(_)
        | Work::Upgrade(_)
        | Work::Downgrade(_)
        | Work::Proclaim(_) => Vec::new(),
    };
    AbandonOperation { serial, names }
}

impl Core {
    /// Puts an operation on the stream where it belongs, or sets the time to try again.
    pub(super) fn dispatch(&mut self, serial: u64, now: LeaseTime) {
        let acked_below = self.pending.keys().next().copied().unwrap_or(serial);
        let shard = self.pending.get(&serial).map(|pending| &pending.key);
        let shard = shard.and_then(|key| self.placement.shard_of(key));
        let serials = self.pending.keys().copied();
        let acked = self.acks.ranges(shard, serials, self.next_serial);
        let Some(pending) = self.pending.get_mut(&serial) else {
            return;
        };
        let link = self
            .links
            .choose(&self.placement, &pending.key, &self.lease, now);
        if let Some(link) = link {
            pending.place = Place::On(link);
            pending.sent = true;
            pending.acked.clone_from(&acked);
            let request = if pending.abandoned {
                Request::Abandon(abandonment(serial, &pending.work))
            } else {
                Request::Operation(Operation {
                    serial,
                    acked_below,
                    acked: acked.clone(),
                    operation: Some(pending.work.clone()),
                })
            };
            self.links.send(link, request);
            if pending.cancel.is_some() {
                self.send_cancel(serial, now);
            }
        } else {
            pending.place = Place::At(self.links.next_chance(now));
        }
        self.arm(serial);
    }

    /// Brings the timers in line with an operation.
    pub(super) fn arm(&mut self, serial: u64) {
        let Some(pending) = self.pending.get_mut(&serial) else {
            return;
        };
        let next = pending.next_timer();
        if next == pending.timer {
            return;
        }
        if let Some(old) = std::mem::replace(&mut pending.timer, next) {
            self.timers.remove(&(old, serial));
        }
        if let Some(next) = next {
            self.timers.insert((next, serial));
        }
    }

    /// A timer of an operation is due.
    pub(super) fn timer(&mut self, serial: u64, now: LeaseTime) {
        let Some(pending) = self.pending.get_mut(&serial) else {
            return;
        };
        if pending.deadline.is_some_and(|deadline| deadline <= now) {
            pending.deadline = None;
            let after = pending.age(now);
            if let Some(caller) = pending.sink.take_caller() {
                let _gone = caller.send(Err(Failure::NoAnswer { after }));
                self.detach(serial, now);
            }
        }
        let Some(pending) = self.pending.get(&serial) else {
            return;
        };
        match pending.place {
            Place::At(at) if at <= now => self.dispatch(serial, now),
            Place::On(_) if pending.cancel.is_some_and(|cancel| cancel.again <= now) => {
                self.send_cancel(serial, now);
            }
            Place::At(_) | Place::On(_) => self.arm(serial),
        }
    }

    /// Nobody waits for an operation any longer; it is brought to an end that leaves nothing held.
    pub(super) fn detach(&mut self, serial: u64, now: LeaseTime) {
        let Some(pending) = self.pending.get_mut(&serial) else {
            return;
        };
        match pending.work {
            // No server can know of it.
            Work::Acquire(_) if !pending.sent => {
                self.take(serial, now);
            }
            Work::Acquire(_) => {
                pending.sink = Sink::Nobody;
                pending.abandoned = true;
                pending.cancel = None;
                self.dispatch(serial, now);
            }
            Work::Release(_)
            | Work::Renew(_)
            | Work::Upgrade(_)
            | Work::Downgrade(_)
            | Work::Proclaim(_) => pending.sink = Sink::Nobody,
        }
    }

    /// Gives up a wait. Nothing else can be given up.
    pub(super) fn cancel_pending(&mut self, serial: u64, now: LeaseTime) {
        let Some(pending) = self.pending.get_mut(&serial) else {
            return;
        };
        let waits = matches!(pending.work, Work::Acquire(_) | Work::Upgrade(_));
        if waits && pending.cancel.is_none() {
            pending.cancel = Some(Cancel {
                again: now,
                times: 0,
            });
            self.send_cancel(serial, now);
        }
    }

    /// Sends the cancellation of an operation that is on a stream, and sets the time to repeat it.
    fn send_cancel(&mut self, serial: u64, now: LeaseTime) {
        let Some(pending) = self.pending.get_mut(&serial) else {
            return;
        };
        if let (Place::On(link), Some(cancel)) = (pending.place, &mut pending.cancel) {
            cancel.times = cancel.times.saturating_add(1);
            cancel.again = now + backoff::pause(cancel.times);
            self.links
                .send(link, Request::Cancel(CancelOperation { serial }));
        }
        self.arm(serial);
    }

    /// An answer came. It counts whichever stream it came on: serials are unique.
    pub(super) fn answer(&mut self, link: LinkId, result: OperationResult, now: LeaseTime) {
        let serial = result.serial;
        let outcome = match result.result {
            Some(Answer::Error(error)) => {
                let error = ServerError::from_operation(error);
                match error.disposition() {
                    Disposition::SessionOver => {
                        return self.lose(Loss::Ended {
                            reason: error.reason,
                            message: error.message,
                        });
                    }
                    Disposition::Retry => {
                        return self.retry(link, serial, &error, now);
                    }
                    Disposition::Final => Err(Failure::Refused(error)),
                }
            }
            Some(answer) => Ok(answer),
            None => Err(Failure::Refused(ServerError::protocol(
                "the server's answer is of a kind that this client does not know: update it",
            ))),
        };
        if self.pending.get(&serial).is_some_and(|p| p.abandoned) {
            return;
        }
        let Some(pending) = self.take(serial, now) else {
            return;
        };
        if !pending.acked.is_empty() && was_heard(&pending.work, &outcome) {
            let shard = self.placement.shard_of(&pending.key);
            self.acks.told(shard, &pending.acked);
        }
        match pending.sink {
            Sink::Caller(caller) => {
                // A caller that goes abandons its operation first, under the same lock.
                let _never_gone = caller.send(outcome);
            }
            Sink::Nobody => {
                if let Err(Failure::Refused(error)) = outcome {
                    tracing::warn!(session = %self.id, serial, %error, "an operation that nobody waits for was refused");
                }
            }
            Sink::ReleaseAfter(hold) => self.release_changed(Some(outcome), hold, now),
        }
    }

    /// How far an abandonment came. Until every shard has undone the operation, it is sent again.
    pub(super) fn abandoned(&mut self, link: LinkId, answer: OperationAbandoned, now: LeaseTime) {
        let serial = answer.serial;
        let is_abandoned = |pending: &Pending| pending.abandoned;
        if !self.pending.get(&serial).is_some_and(is_abandoned) {
            return;
        }
        let Some(error) = answer.error.map(ServerError::from_operation) else {
            self.take(serial, now);
            return;
        };
        match error.disposition() {
            Disposition::SessionOver => self.lose(Loss::Ended {
                reason: error.reason,
                message: error.message,
            }),
            Disposition::Retry => self.retry(link, serial, &error, now),
            Disposition::Final => {
                tracing::warn!(session = %self.id, serial, %error, "an acquisition that was given up is not undone: what it has ends with its session");
                self.take(serial, now);
            }
        }
    }

    /// The same operation again, after a pause; unless it has moved to another stream since.
    pub(super) fn retry(&mut self, link: LinkId, serial: u64, error: &ServerError, now: LeaseTime) {
        let Some(pending) = self.pending.get_mut(&serial) else {
            return;
        };
        if pending.place != Place::On(link) {
            return;
        }
        pending.failures = pending.failures.saturating_add(1);
        let pause = backoff::pause(pending.failures);
        let pause = error.retry_after.map_or(pause, |least| least.max(pause));
        pending.place = Place::At(now + pause);
        let detour = pending.failures.is_multiple_of(FAILURES_BEFORE_DETOUR);
        self.arm(serial);
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "the others say nothing about the node"
        )]
        match error.reason {
            Reason::ShuttingDown => self.close_link(link, now),
            // It may be cut off from the others, and so may be what it says of the cluster.
            Reason::NoLeader | Reason::UnknownOutcome | Reason::Unknown(_) if detour => {
                self.lost_nodes.extend(self.links.avoid(link, now));
            }
            _ => {}
        }
    }

    /// Takes an operation out. A release that waits takes its place.
    fn take(&mut self, serial: u64, now: LeaseTime) -> Option<Pending> {
        let pending = self.pending.remove(&serial)?;
        if let Some(at) = pending.timer {
            self.timers.remove(&(at, serial));
        }
        match self.releases.pop_front() {
            Some(hold) => self.start_release(&hold, now),
            None => self.permits.add_permits(1),
        }
        Some(pending)
    }

    /// Releases what a hold has become by an upgrade or a downgrade.
    pub(super) fn release_changed(&mut self, outcome: Option<Outcome>, hold: Hold, now: LeaseTime) {
        let token = changed_token(outcome.as_ref()).unwrap_or(hold.token);
        self.release(Hold { token, ..hold }, now);
    }

    /// Releases all that was granted. Who has passed a barrier holds nothing.
    pub(super) fn release_all(&mut self, grants: Grants, now: LeaseTime) {
        for grant in grants.grants.into_iter().filter(|grant| grant.holds > 0) {
            // The server does not grant what is no lock.
            if let Ok(name) = LockName::new(&grant.name) {
                let token = FencingToken(grant.token);
                self.release(Hold { name, token }, now);
            }
        }
    }

    /// Releases a hold, now or as soon as there is room.
    pub(super) fn release(&mut self, hold: Hold, now: LeaseTime) {
        let permit = self.permits.try_acquire().map(SemaphorePermit::forget);
        match permit {
            Ok(()) => self.start_release(&hold, now),
            Err(TryAcquireError::NoPermits) => self.releases.push_back(hold),
            // The session is over, and has released it.
            Err(TryAcquireError::Closed) => {}
        }
    }

    fn start_release(&mut self, hold: &Hold, now: LeaseTime) {
        let release = ReleaseOperation {
            name: hold.name.as_str().to_owned(),
            token: hold.token.0,
        };
        let submission = Submission {
            work: Work::Release(release),
            key: Key::Lock(hold.name.clone()),
            deadline: None,
            sink: Sink::Nobody,
        };
        self.submit(submission, now);
    }
}
