//! The operations on locks, as both the session stream and the unary calls carry them out.
//!
//! Invariant: an operation is checked whole before any part of it is carried out.

use futures::{StreamExt as _, stream};
use lockstep_model::{
    Answer, Command, FencingToken, LockAnswer, LockCommand, LockName, LockQuery, LockRefusal,
    LockReply, MetaAnswer, Millis, Query, Refusal, Reply, Serial, SessionAnswer, SessionId,
    SessionRefusal, ShardId,
    locks::{command::MAX_LOCKS_PER_ACQUIRE, reply::Grant},
    request::RequestId,
};
use lockstep_proto::lock::v1 as pb;

use super::{
    acquire::{Acquisition, Undo, acquire, undo},
    convert,
};
use crate::api::error::Fault;
use crate::router::{RouteError, Router, unexpected};

/// Checks an acquisition.
///
/// # Errors
/// If a field is out of bounds.
pub fn acquisition(
    request: RequestId,
    operation: Option<pb::AcquireOperation>,
) -> Result<Acquisition, Fault> {
    let operation = operation.ok_or_else(|| Fault::invalid("operation", "must be set"))?;
    Ok(Acquisition {
        request,
        owner: convert::owner(&operation.owner)?,
        locks: convert::lock_specs(&operation.locks)?,
        wait: convert::wait(operation.wait)?,
        value: convert::value(&operation.value)?,
    })
}

/// Says something else with a hold.
///
/// # Errors
/// If a field is out of bounds, the token is stale, or the outcome is unknown.
pub async fn proclaim(
    router: &Router,
    request: RequestId,
    operation: Option<pb::ProclaimOperation>,
) -> Result<(), Fault> {
    let operation = operation.ok_or_else(|| Fault::invalid("operation", "must be set"))?;
    let name = convert::name("name", &operation.name)?;
    let command = Command::Lock(LockCommand::Proclaim {
        request,
        name: name.clone(),
        token: convert::token("token", operation.token)?,
        value: convert::value(&operation.value)?,
    });
    match on_lock(router, request.session, &name, command).await? {
        Reply::Done => Ok(()),
        other => Err(unexpected(&other).into()),
    }
}

/// Releases one hold; how many are left.
///
/// # Errors
/// If a field is out of bounds, the token is stale, or the outcome is unknown.
pub async fn release(
    router: &Router,
    request: RequestId,
    operation: Option<pb::ReleaseOperation>,
) -> Result<u32, Fault> {
    let operation = operation.ok_or_else(|| Fault::invalid("operation", "must be set"))?;
    let name = convert::name("name", &operation.name)?;
    let token = convert::token("token", operation.token)?;
    let command = Command::Lock(LockCommand::Release {
        request,
        name: name.clone(),
        token,
    });
    match on_lock(router, request.session, &name, command).await? {
        Reply::Lock(LockReply::Released { holds }) => Ok(holds),
        other => Err(unexpected(&other).into()),
    }
}

/// Makes a shared hold exclusive.
///
/// # Errors
/// If a field is out of bounds, it is refused, or the outcome is unknown.
pub async fn upgrade(
    router: &Router,
    request: RequestId,
    operation: Option<pb::UpgradeOperation>,
) -> Result<Grant, Fault> {
    let operation = operation.ok_or_else(|| Fault::invalid("operation", "must be set"))?;
    let name = convert::name("name", &operation.name)?;
    let token = convert::token("token", operation.token)?;
    let wait = convert::wait(operation.wait)?;
    let command = Command::Lock(LockCommand::Upgrade {
        request,
        name: name.clone(),
        token,
        wait,
    });
    match on_lock(router, request.session, &name, command).await? {
        Reply::Lock(LockReply::Granted(mut grants)) => grants
            .pop()
            .ok_or_else(|| unexpected(&Reply::Lock(LockReply::Granted(Vec::new()))).into()),
        other => Err(unexpected(&other).into()),
    }
}

/// Makes an exclusive hold shared.
///
/// # Errors
/// If a field is out of bounds, it is refused, or the outcome is unknown.
pub async fn downgrade(
    router: &Router,
    request: RequestId,
    operation: Option<pb::DowngradeOperation>,
) -> Result<FencingToken, Fault> {
    let operation = operation.ok_or_else(|| Fault::invalid("operation", "must be set"))?;
    let name = convert::name("name", &operation.name)?;
    let token = convert::token("token", operation.token)?;
    let command = Command::Lock(LockCommand::Downgrade {
        request,
        name: name.clone(),
        token,
    });
    match on_lock(router, request.session, &name, command).await? {
        Reply::Lock(LockReply::Downgraded { token }) => Ok(token),
        other => Err(unexpected(&other).into()),
    }
}

/// Confirms a hold and extends the session; its TTL.
///
/// # Errors
/// If a field is out of bounds, the token is not that of a hold of this session, or the session is gone.
pub async fn renew(
    router: &Router,
    session: SessionId,
    operation: Option<pb::RenewOperation>,
) -> Result<Millis, Fault> {
    let operation = operation.ok_or_else(|| Fault::invalid("operation", "must be set"))?;
    let name = convert::name("name", &operation.name)?;
    let token = convert::token("token", operation.token)?;
    let held = valid(router, name.clone(), token, Some(session)).await?;
    // Also where it is not held: that the session is gone is the more important news.
    let ttl = router.keep_alive(session).await?;
    if held {
        return Ok(ttl);
    }
    let name = name.as_str().to_owned();
    Err(Refusal::Lock(LockRefusal::StaleToken { name, token }).into())
}

/// Whether a token is that of a present holder.
///
/// # Errors
/// If no leader answers.
pub async fn valid(
    router: &Router,
    name: LockName,
    token: FencingToken,
    session: Option<SessionId>,
) -> Result<bool, Fault> {
    let shard = router.directory().shard_of_lock(&name);
    match router
        .query(
            shard,
            Query::Lock(LockQuery::Validate {
                name,
                token,
                session,
            }),
        )
        .await?
    {
        Answer::Lock(LockAnswer::Valid(valid)) => Ok(valid),
        Answer::Lock(LockAnswer::Lock(_))
        | Answer::Lock(LockAnswer::Locks(_))
        | Answer::Session(SessionAnswer::Sessions(_))
        | Answer::Meta(MetaAnswer::Cluster(_))
        | Answer::Session(SessionAnswer::Touched(_))
        | Answer::Lock(LockAnswer::Waits(_))
        | Answer::Lock(LockAnswer::Stand(_))
        | Answer::Lock(LockAnswer::Deadlocks { .. })
        | Answer::Lock(LockAnswer::Revision(_))
        | Answer::WrongShard => Err(RouteError::Incompatible {
            what: "a wrong kind of answer".to_owned(),
        }
        .into()),
    }
}

/// Carries out an operation of a session stream.
///
/// # Errors
/// As the operation says.
pub async fn carry_out(
    router: &Router,
    request: RequestId,
    operation: Option<pb::operation::Operation>,
) -> Result<pb::operation_result::Result, Fault> {
    use pb::{operation::Operation, operation_result::Result as Done};
    Ok(match operation {
        Some(Operation::Acquire(operation)) => {
            let granted = acquire(router, acquisition(request, Some(operation))?).await;
            let grants = granted.map_err(|failed| failed.fault)?;
            Done::Granted(pb::Grants {
                grants: grants.iter().map(convert::grant).collect(),
            })
        }
        Some(Operation::Release(operation)) => Done::Released(pb::Released {
            holds: release(router, request, Some(operation)).await?,
        }),
        Some(Operation::Renew(operation)) => {
            let ttl = renew(router, request.session, Some(operation)).await?;
            Done::Renewed(pb::Renewed { ttl_ms: ttl.0 })
        }
        Some(Operation::Upgrade(operation)) => {
            let grant = upgrade(router, request, Some(operation)).await?;
            Done::Granted(pb::Grants {
                grants: vec![convert::grant(&grant)],
            })
        }
        Some(Operation::Downgrade(operation)) => {
            let token = downgrade(router, request, Some(operation)).await?;
            Done::Downgraded(pb::Downgraded { token: token.0 })
        }
        Some(Operation::Proclaim(operation)) => {
            proclaim(router, request, Some(operation)).await?;
            Done::Proclaimed(pb::Proclaimed {})
        }
        None => {
            return Err(Fault::invalid(
                "operation",
                "must be one that this version knows",
            ));
        }
    })
}

/// Gives up a blocked acquisition or upgrade, wherever of these shards it is blocked. A shard that does
/// not answer keeps none of the others from it.
///
/// # Errors
/// If it was found nowhere, and a shard did not answer.
pub async fn cancel(
    router: &Router,
    session: SessionId,
    serial: Serial,
    shards: impl IntoIterator<Item = ShardId>,
) -> Result<(), Fault> {
    let asked = shards.into_iter().map(|shard| {
        let command = Command::Lock(LockCommand::CancelWait { session, serial });
        async move { router.command(shard, command).await }
    });
    let mut asked = stream::iter(asked).buffer_unordered(CANCELS_AT_ONCE);
    let mut fault = None;
    while let Some(answer) = asked.next().await {
        match answer {
            // It waits in one shard at a time.
            Ok(Reply::Done) => return Ok(()),
            // Not here: it was granted, or is blocked in another shard.
            Ok(Reply::Refused(_)) => {}
            Ok(other) => fault = Some(unexpected(&other).into()),
            Err(error) => fault = Some(error.into()),
        }
    }
    fault.map_or(Ok(()), Err)
}

/// Shards that are asked at once to give up a wait: all of those that most clusters have.
const CANCELS_AT_ONCE: usize = 64;

/// Undoes an acquisition of these locks, however far it has come, in every shard that answers.
///
/// # Errors
/// If a name is out of bounds, or a shard did not answer: it is to be abandoned again then.
pub async fn abandon(
    router: &Router,
    session: SessionId,
    serial: Serial,
    names: &[String],
) -> Result<(), Fault> {
    if !(1..=MAX_LOCKS_PER_ACQUIRE).contains(&names.len()) {
        let words = format!("must be the 1 to {MAX_LOCKS_PER_ACQUIRE} locks of the acquisition");
        return Err(Fault::invalid("names", words));
    }
    let mut all = Undo::new();
    for (at, text) in names.iter().enumerate() {
        let name = convert::name(&format!("names[{at}]"), text)?;
        all.entry(router.directory().shard_of_lock(&name))
            .or_default();
    }
    let refusal = Refusal::Session(SessionRefusal::Abandoned { serial: serial.0 });
    let (_, fault) = undo(router, session, serial, all, &refusal).await;
    fault.map_or(Ok(()), Err)
}

async fn on_lock(
    router: &Router,
    session: SessionId,
    name: &LockName,
    command: Command,
) -> Result<Reply, Fault> {
    let shard = router.directory().shard_of_lock(name);
    match router.session_command(session, shard, command).await? {
        Reply::Refused(refusal) => Err(refusal.into()),
        reply => Ok(reply),
    }
}
