//! Acquisition of one lock or several, over as many shards as they live in.
//!
//! Locks of one shard are one command. Over several shards they are taken shard after shard in
//! ascending order, and within a shard by name, so that two acquisitions can never wait for each
//! other in a circle; if a later shard refuses, what the earlier ones granted is given back.
//! Invariant: the client sees all of them granted, or none held.

use std::{
    collections::BTreeMap,
    pin::pin,
    time::{Duration, Instant},
};

use lockstep_model::{
    Command, Owner, Refusal, Reply, ShardId, Value,
    command::{GiveBack, LockSpec, RequestId, Wait},
    reply::Grant,
};
use tokio::time::timeout_at;

use super::error::Fault;
use crate::router::{RouteError, Router, unexpected};

/// A checked acquisition.
#[derive(Clone, Debug)]
pub struct Acquisition {
    /// Who asks.
    pub request: RequestId,
    /// For re-entrance.
    pub owner: Owner,
    /// Which locks; each once.
    pub locks: Vec<LockSpec>,
    /// For how long.
    pub wait: Wait,
    /// What the holder says.
    pub value: Value,
}

/// Takes the locks; the grants in the order in which they were asked for.
///
/// # Errors
/// If one is refused, or the outcome is unknown.
pub async fn acquire(router: &Router, acquisition: Acquisition) -> Result<Vec<Grant>, Fault> {
    let mut by_shard: BTreeMap<ShardId, Vec<(usize, LockSpec)>> = BTreeMap::new();
    for (position, spec) in acquisition.locks.iter().cloned().enumerate() {
        let shard = router.directory().shard_of_lock(&spec.name);
        by_shard.entry(shard).or_default().push((position, spec));
    }
    let deadline = deadline(acquisition.wait);
    let mut held: Vec<(ShardId, usize, Grant)> = Vec::new();
    for (shard, locks) in by_shard {
        let (positions, locks): (Vec<_>, Vec<_>) = locks.into_iter().unzip();
        let command = Command::Acquire {
            request: acquisition.request,
            owner: acquisition.owner.clone(),
            locks,
            wait: acquisition.wait,
            value: acquisition.value.clone(),
        };
        let taken = take(
            router,
            shard,
            acquisition.request,
            command,
            deadline.filter(|_| !held.is_empty()),
        );
        match taken.await {
            Ok(grants) => {
                held.extend(
                    positions
                        .into_iter()
                        .zip(grants)
                        .map(|(at, grant)| (shard, at, grant)),
                );
            }
            Err(failure) => {
                if let Some(refusal) = failure.undoes(acquisition.request) {
                    undo(router, acquisition.request, held, refusal).await?;
                }
                return Err(failure.into());
            }
        }
    }
    held.sort_by_key(|(_, position, _)| *position);
    Ok(held.into_iter().map(|(_, _, grant)| grant).collect())
}

fn deadline(wait: Wait) -> Option<Instant> {
    match wait {
        Wait::Try | Wait::Forever => None,
        Wait::AtMost(limit) => Some(Instant::now() + Duration::from_millis(limit.0)),
    }
}

/// Why one shard did not grant.
enum Failure {
    /// It said so, and says so again to whoever repeats the request.
    Refused(Refusal),
    /// It was not heard.
    Unanswered(Fault),
}

impl Failure {
    /// Why the earlier shards' grants have to be undone; none if they must stay. They may go only
    /// where no attempt at this request can succeed any more: another attempt, perhaps already
    /// under way at another node, is answered with those same grants. What stays held is found by
    /// the repeated request.
    fn undoes(&self, request: RequestId) -> Option<Refusal> {
        match self {
            // Another attempt has succeeded, and its client has said so: they are in use.
            Self::Refused(Refusal::SerialForgotten { .. }) => None,
            // Nothing keeps this answer, so the same request may find room later.
            Self::Refused(Refusal::TooManyInFlight { .. }) if !request.serial.is_ephemeral() => {
                None
            }
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::Unanswered(_) if request.serial.is_ephemeral() => Some(Refusal::NoSuchWait),
            Self::Unanswered(_) => None,
        }
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refusal.into(),
            Failure::Unanswered(fault) => fault,
        }
    }
}

/// Takes the locks of one shard. The command always carries the client's whole wait, so that a
/// repeated request is the same request; where earlier shards have used up a part of it, the rest
/// is watched over here.
async fn take(
    router: &Router,
    shard: ShardId,
    request: RequestId,
    command: Command,
    deadline: Option<Instant>,
) -> Result<Vec<Grant>, Failure> {
    let mut reply = pin!(router.session_command(request.session, shard, command));
    let Some(deadline) = deadline else {
        return granted(reply.await);
    };
    if let Ok(reply) = timeout_at(deadline.into(), &mut reply).await {
        return granted(reply);
    }
    let cancel = Command::CancelWait {
        session: request.session,
        serial: request.serial,
    };
    let (reply, _cancelled) = tokio::join!(reply, router.command(shard, cancel));
    match granted(reply) {
        Err(Failure::Refused(Refusal::WaitCancelled { name })) => {
            Err(Failure::Refused(Refusal::WaitTimedOut { name }))
        }
        other => other,
    }
}

fn granted(reply: Result<Reply, RouteError>) -> Result<Vec<Grant>, Failure> {
    match reply {
        Ok(Reply::Granted(grants)) => Ok(grants),
        Ok(Reply::Refused(refusal)) => Err(Failure::Refused(refusal)),
        Ok(other) => Err(Failure::Unanswered(unexpected(&other).into())),
        Err(error) => Err(Failure::Unanswered(error.into())),
    }
}

/// Undoes what an acquisition was granted, because of a refusal elsewhere: each lock is held as often
/// as before.
///
/// # Errors
/// If a shard has no leader: then it ends with the session.
pub async fn undo(
    router: &Router,
    request: RequestId,
    held: impl IntoIterator<Item = (ShardId, usize, Grant)>,
    refusal: Refusal,
) -> Result<(), Fault> {
    let RequestId {
        session, serial, ..
    } = request;
    let mut by_shard: BTreeMap<ShardId, Vec<GiveBack>> = BTreeMap::new();
    for (shard, _, grant) in held {
        let keep = grant.holds.saturating_sub(1);
        let undo = GiveBack {
            name: grant.name,
            token: grant.token,
            keep,
        };
        by_shard.entry(shard).or_default().push(undo);
    }
    for (shard, grants) in by_shard {
        let command = Command::UndoAcquire {
            session,
            serial,
            grants,
            refusal: refusal.clone(),
        };
        match router.session_command(session, shard, command).await? {
            Reply::Done
            | Reply::Refused(Refusal::NoSession { .. } | Refusal::SessionEnded { .. }) => {}
            Reply::Refused(refusal) => return Err(refusal.into()),
            other => return Err(unexpected(&other).into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use lockstep_model::{Serial, SessionId};

    use super::*;

    fn request(serial: u64) -> RequestId {
        RequestId {
            session: SessionId(1),
            serial: Serial(serial),
            acked_below: Serial(0),
        }
    }

    /// An attempt that comes so late that its client has the grant from another attempt, and has
    /// acknowledged it, must leave what it was granted alone.
    #[test]
    fn a_late_attempt_undoes_nothing() {
        let forgotten = Failure::Refused(Refusal::SerialForgotten {
            serial: 1,
            acked_below: 2,
        });
        assert_eq!(forgotten.undoes(request(1)), None);
    }

    #[test]
    fn what_a_repetition_may_still_get_is_not_undone() {
        let full = || Failure::Refused(Refusal::TooManyInFlight { limit: 1 });
        let unanswered =
            || Failure::Unanswered(RouteError::Overloaded { shard: ShardId(1) }.into());
        assert_eq!(full().undoes(request(1)), None);
        assert_eq!(unanswered().undoes(request(1)), None);
        let once = request(Serial::FIRST_EPHEMERAL.0 + 1);
        assert!(full().undoes(once).is_some());
        assert!(unanswered().undoes(once).is_some());
    }

    #[test]
    fn a_refusal_undoes_what_came_before() {
        let refusal = Refusal::Unavailable {
            name: "l".to_owned(),
        };
        let failure = Failure::Refused(refusal.clone());
        assert_eq!(failure.undoes(request(1)), Some(refusal));
    }
}
