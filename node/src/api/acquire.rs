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
    Command, Owner, Refusal, Reply, SessionId, ShardId,
    command::{GiveBack, LockSpec, RequestId, Wait},
    reply::Grant,
};
use tokio::time::timeout_at;

use super::error::Fault;
use crate::router::{Router, unexpected};

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
            Err(fault) => {
                give_back(router, acquisition.request.session, held).await?;
                return Err(fault);
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

/// Takes the locks of one shard. The command always carries the client's whole wait, so that a
/// repeated request is the same request; where earlier shards have used up a part of it, the rest
/// is watched over here.
async fn take(
    router: &Router,
    shard: ShardId,
    request: RequestId,
    command: Command,
    deadline: Option<Instant>,
) -> Result<Vec<Grant>, Fault> {
    let mut reply = pin!(router.session_command(request.session, shard, command));
    let Some(deadline) = deadline else {
        return granted(reply.await?);
    };
    if let Ok(reply) = timeout_at(deadline.into(), &mut reply).await {
        return granted(reply?);
    }
    let cancel = Command::CancelWait {
        session: request.session,
        serial: request.serial,
    };
    let (reply, _cancelled) = tokio::join!(reply, router.command(shard, cancel));
    match reply? {
        Reply::Refused(Refusal::WaitCancelled { name }) => {
            Err(Refusal::WaitTimedOut { name }.into())
        }
        reply => granted(reply),
    }
}

fn granted(reply: Reply) -> Result<Vec<Grant>, Fault> {
    match reply {
        Reply::Granted(grants) => Ok(grants),
        Reply::Refused(refusal) => Err(refusal.into()),
        other => Err(unexpected(&other).into()),
    }
}

/// Undoes grants: each lock is held as often as before.
///
/// # Errors
/// If a shard has no leader: then it ends with the session.
pub async fn give_back(
    router: &Router,
    session: SessionId,
    held: impl IntoIterator<Item = (ShardId, usize, Grant)>,
) -> Result<(), Fault> {
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
        let command = Command::ReleaseAll { session, grants };
        match router.session_command(session, shard, command).await? {
            Reply::Done
            | Reply::Refused(Refusal::NoSession { .. } | Refusal::SessionEnded { .. }) => {}
            Reply::Refused(refusal) => return Err(refusal.into()),
            other => return Err(unexpected(&other).into()),
        }
    }
    Ok(())
}
