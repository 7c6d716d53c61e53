//! Acquisition of one lock or several, over as many shards as they live in.
//!
//! Locks of one shard are one command. Over several shards they are taken shard after shard in
//! ascending order, and within a shard by name, so that two acquisitions can never wait for each
//! other in a circle; if a later shard refuses, what the earlier ones granted is given back.
//!
//! Invariant: the client sees all of them granted, or none held. One that a shard cannot answer is kept
//! for whoever repeats it with its serial, until its client abandons it: then it is undone in all its
//! shards, each by itself, and where there is no leader as soon as there is one: the client remembers
//! the serial, and asks until all shards have answered. Of a request without a serial the node that took
//! it does the same.

use std::{
    collections::BTreeMap,
    pin::pin,
    time::{Duration, Instant},
};

use futures::future::join_all;
use lockstep_model::{
    Command, LockCommand, LockRefusal, LockReply, Owner, Refusal, Reply, Serial, SessionId,
    SessionRefusal, ShardId, Value,
    locks::{
        command::{GiveBack, LockSpec},
        reply::Grant,
    },
    request::{RequestId, Wait},
};
use tokio::time::timeout_at;

use crate::api::error::Fault;
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

/// Why an acquisition was not granted.
#[derive(Debug)]
pub struct Failed {
    /// What its client is told.
    pub fault: Fault,
    /// What is left to undo, by shard: nothing where everything is undone, or where the same request
    /// may still succeed.
    pub left: Undo,
}

/// What is to be undone: the grants of each shard that may have granted something, or may yet.
pub type Undo = BTreeMap<ShardId, Vec<GiveBack>>;

/// Takes the locks; the grants in the order in which they were asked for.
///
/// # Errors
/// If one is refused, or the outcome is unknown.
pub async fn acquire(router: &Router, acquisition: Acquisition) -> Result<Vec<Grant>, Failed> {
    let mut by_shard: BTreeMap<ShardId, Vec<(usize, LockSpec)>> = BTreeMap::new();
    for (position, spec) in acquisition.locks.iter().cloned().enumerate() {
        let shard = router.directory().shard_of_lock(&spec.name);
        by_shard.entry(shard).or_default().push((position, spec));
    }
    let deadline = deadline(acquisition.wait);
    let mut held: Vec<(ShardId, usize, Grant)> = Vec::new();
    for (shard, locks) in by_shard {
        let (positions, locks): (Vec<_>, Vec<_>) = locks.into_iter().unzip();
        let command = Command::Lock(LockCommand::Acquire {
            request: acquisition.request,
            owner: acquisition.owner.clone(),
            locks,
            wait: acquisition.wait,
            value: acquisition.value.clone(),
        });
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
            Err(failure) => return Err(give_up(router, &acquisition, shard, held, failure).await),
        }
    }
    held.sort_by_key(|(_, position, _)| *position);
    Ok(held.into_iter().map(|(_, _, grant)| grant).collect())
}

/// Undoes what the earlier shards have granted, if it must be, where that can be done at once.
async fn give_up(
    router: &Router,
    acquisition: &Acquisition,
    shard: ShardId,
    held: Vec<(ShardId, usize, Grant)>,
    failure: Failure,
) -> Failed {
    let request = acquisition.request;
    let Some(refusal) = failure.undoes(request) else {
        let is_kept = !held.is_empty();
        let mut fault = Fault::from(failure);
        if is_kept {
            fault.message.push_str(KEPT);
        }
        let left = Undo::new();
        return Failed { fault, left };
    };
    let mut all = undo_of(held.into_iter().map(|(shard, _, grant)| (shard, grant)));
    if let Failure::Unanswered(_) = failure {
        // It may have it, or get it yet.
        all.entry(shard).or_default();
    }
    let (left, fault) = undo(router, request.session, request.serial, all, &refusal).await;
    let unfinished = fault.filter(|_| !request.serial.is_ephemeral());
    Failed {
        fault: unfinished.unwrap_or_else(|| failure.into()),
        left,
    }
}

/// Said of an acquisition that one shard did not answer, while others have granted it.
const KEPT: &str = "; what other shards have granted is kept for the same request: repeat it with its serial, or abandon it";

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
    /// the repeated request, or undone when its client abandons it.
    fn undoes(&self, request: RequestId) -> Option<Refusal> {
        match self {
            // Another attempt has succeeded, and its client has said so: they are in use.
            Self::Refused(Refusal::Session(SessionRefusal::SerialForgotten { .. })) => None,
            // Nothing keeps this answer, so the same request may find room later.
            Self::Refused(Refusal::Session(SessionRefusal::TooManyInFlight { .. }))
                if !request.serial.is_ephemeral() =>
            {
                None
            }
            Self::Refused(refusal) => Some(refusal.clone()),
            Self::Unanswered(_) if request.serial.is_ephemeral() => {
                Some(Refusal::Session(SessionRefusal::Abandoned {
                    serial: request.serial.0,
                }))
            }
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
    let cancel = Command::Lock(LockCommand::CancelWait {
        session: request.session,
        serial: request.serial,
    });
    let (reply, _cancelled) = tokio::join!(reply, router.command(shard, cancel));
    match granted(reply) {
        Err(Failure::Refused(Refusal::Lock(LockRefusal::WaitCancelled { name }))) => {
            Err(Failure::Refused(Refusal::Lock(LockRefusal::WaitTimedOut {
                name,
            })))
        }
        other => other,
    }
}

fn granted(reply: Result<Reply, RouteError>) -> Result<Vec<Grant>, Failure> {
    match reply {
        Ok(Reply::Lock(LockReply::Granted(grants))) => Ok(grants),
        Ok(Reply::Refused(refusal)) => Err(Failure::Refused(refusal)),
        Ok(other) => Err(Failure::Unanswered(unexpected(&other).into())),
        Err(error) => Err(Failure::Unanswered(error.into())),
    }
}

/// The grants by shard, as they are given back.
pub fn undo_of(granted: impl IntoIterator<Item = (ShardId, Grant)>) -> Undo {
    let mut undo = Undo::new();
    for (shard, Grant { name, token, .. }) in granted {
        let give_back = GiveBack { name, token };
        undo.entry(shard).or_default().push(give_back);
    }
    undo
}

/// Ends an acquisition in all these shards at once: each undoes what it granted, and will grant nothing.
/// What is left where a shard did not answer, and why; to be tried again.
pub async fn undo(
    router: &Router,
    session: SessionId,
    serial: Serial,
    all: Undo,
    refusal: &Refusal,
) -> (Undo, Option<Fault>) {
    let undone = all.into_iter().map(async |(shard, grants)| {
        let command = Command::Lock(LockCommand::UndoAcquire {
            session,
            serial,
            grants: grants.clone(),
            refusal: refusal.clone(),
        });
        let fault = match router.session_command(session, shard, command).await {
            Ok(
                Reply::Done
                | Reply::Refused(
                    Refusal::Session(SessionRefusal::NoSession { .. })
                    | Refusal::Session(SessionRefusal::SessionEnded { .. }),
                ),
            ) => return None,
            Ok(Reply::Refused(refusal)) => refusal.into(),
            Ok(other) => unexpected(&other).into(),
            Err(error) => Fault::from(error),
        };
        Some((shard, grants, fault))
    });
    let mut left = Undo::new();
    let mut first = None;
    for (shard, grants, fault) in join_all(undone).await.into_iter().flatten() {
        left.insert(shard, grants);
        first.get_or_insert(fault);
    }
    (left, first)
}

#[cfg(test)]
mod tests {
    use lockstep_model::request::AckedRanges;

    use super::*;

    fn request(serial: u64) -> RequestId {
        RequestId {
            session: SessionId(1),
            serial: Serial(serial),
            acked_below: Serial(0),
            acked: AckedRanges::NONE,
        }
    }

    /// An attempt that comes so late that its client has the grant from another attempt, and has
    /// acknowledged it, must leave what it was granted alone.
    #[test]
    fn a_late_attempt_undoes_nothing() {
        let forgotten = Failure::Refused(Refusal::Session(SessionRefusal::SerialForgotten {
            serial: 1,
            acked_below: 2,
        }));
        assert_eq!(forgotten.undoes(request(1)), None);
    }

    #[test]
    fn what_a_repetition_may_still_get_is_not_undone() {
        let full = || {
            Failure::Refused(Refusal::Session(SessionRefusal::TooManyInFlight {
                limit: 1,
            }))
        };
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
        let refusal = Refusal::Lock(LockRefusal::Unavailable {
            name: "l".to_owned(),
        });
        let failure = Failure::Refused(refusal.clone());
        assert_eq!(failure.undoes(request(1)), Some(refusal));
    }
}
