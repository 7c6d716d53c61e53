//! Backups: giving out the state of all data shards, and going on from such a state.
//!
//! Invariants: a backup ends with its end or with an error; a restore changes nothing before all of
//! the backup has come and is whole, and every shard would take it; what it changes can be repeated; and
//! neither goes on when its client does not, or the node stops.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::BytesMut;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use lockstep_model::{
    Command, FencingToken, LockCommand, LockRefusal, LockReply, Machine, MetaReply, Refusal, Reply,
    SessionReply, ShardId,
};
use lockstep_proto::{
    cluster::v1::{self as pb, backup_part::Part},
    raft::v1 as raft_pb,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::error::Fault;
use crate::{
    VERSION, clock,
    raft::snapshot_partial::MAX_SNAPSHOT_BYTES,
    router::{Router, unexpected},
    shard_state::{self, PROGRESS},
};

/// Backups and restores that a node has under way at once: each may hold a shard's whole state.
const MAX_AT_ONCE: usize = 1;
/// Parts that wait for the connection.
const PARTS_AHEAD: usize = 4;
/// How long the client may take to hear why there is no more: it reads, or is not heard of again.
const LAST_WORD: Duration = Duration::from_secs(1);

/// The right to have a backup or a restore under way.
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_AT_ONCE)))
    }
}

impl Turns {
    /// Takes one.
    ///
    /// # Errors
    /// If none is left.
    pub fn take(&self) -> Result<OwnedSemaphorePermit, Fault> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            Fault::unavailable(
                "OVERLOADED",
                "this node has a backup or a restore under way: wait for its end, or ask another node",
            )
        })
    }
}

/// The parts of a backup.
pub type Parts = ReceiverStream<Result<pb::BackupResponse, Status>>;

/// The node stops.
pub fn stopping() -> Fault {
    Fault::unavailable("SHUTTING_DOWN", "this node is stopping: ask another")
}

/// Gives out the state of all data shards, until `stop`.
pub fn save(router: Arc<Router>, turn: OwnedSemaphorePermit, stop: CancellationToken) -> Parts {
    let (parts, outgoing) = mpsc::channel(PARTS_AHEAD);
    tokio::spawn(async move {
        let _turn = turn;
        let saved = stop.run_until_cancelled(save_all(&router, &parts)).await;
        if let Err(status) = saved.unwrap_or_else(|| Err(stopping().into())) {
            // Whoever is gone, or takes nothing, need not be told: there is no end.
            let _ = timeout(LAST_WORD, parts.send(Err(status))).await;
        }
    });
    ReceiverStream::new(outgoing)
}

type Sender = mpsc::Sender<Result<pb::BackupResponse, Status>>;

async fn put(parts: &Sender, part: Part) -> Result<(), Status> {
    let part = Some(pb::BackupPart { part: Some(part) });
    let sent = timeout(PROGRESS, parts.send(Ok(pb::BackupResponse { part }))).await;
    sent.map_err(|_| slow("taken"))?
        .map_err(|_| Status::cancelled("nobody takes the backup"))
}

fn slow(what: &str) -> Status {
    let seconds = PROGRESS.as_secs();
    Status::deadline_exceeded(format!("no part of the backup was {what} for {seconds} s"))
}

async fn save_all(router: &Router, parts: &Sender) -> Result<(), Status> {
    let directory = router.directory();
    let shards = directory.settings.shards;
    let head = pb::BackupHead {
        cluster_id: directory.cluster.to_string(),
        version: VERSION.to_owned(),
        shards,
        replication_factor: directory.settings.replication_factor,
        ring_version: directory.settings.ring_version,
        taken_at_ms: clock::now().0,
    };
    put(parts, Part::Head(head)).await?;
    for shard in 1..=shards {
        let mut state = shard_state::read(router, ShardId(shard))
            .await
            .map_err(Fault::from)?;
        while let Some(message) = state.next().await {
            put(parts, translate(shard, message?)?).await?;
        }
    }
    put(parts, Part::End(pb::BackupEnd { shards })).await
}

fn translate(shard: u32, message: raft_pb::ReadShardResponse) -> Result<Part, Status> {
    use raft_pb::read_shard_response::Part as Read;
    match message.part {
        Some(Read::Head(head)) => {
            let applied = head.applied.unwrap_or_default();
            Ok(Part::Shard(pb::BackupShard {
                shard,
                term: applied.term,
                index: applied.index,
                total_bytes: head.total_bytes,
            }))
        }
        Some(Read::Chunk(raft_pb::SnapshotChunk { offset, data, crc })) => {
            let data = data.into();
            Ok(Part::Chunk(pb::BackupChunk { offset, data, crc }))
        }
        None => Err(Status::data_loss(format!(
            "shard {shard} sent a part that this version does not know"
        ))),
    }
}

/// The parts of a backup, on their way in.
pub type Incoming = Pin<Box<dyn Stream<Item = Result<pb::RestoreRequest, Status>> + Send>>;

/// Reads a backup, sees that every data shard would go on from it, and then raises their tokens
/// above all that its cluster gave.
///
/// # Errors
/// If the backup is not whole, a shard is in use, or has no leader.
pub async fn restore(router: &Router, parts: Incoming) -> Result<pb::RestoreResponse, Status> {
    let above = tokens_above(parts).await?;
    let shards = router.directory().settings.shards;
    for shard in (1..=shards).map(ShardId) {
        let takes = match read_present(router, shard).await? {
            Machine::Data(present) => present.may_begin_above(above),
            Machine::Meta(_) => false,
        };
        if !takes {
            return Err(Fault::from(Refusal::Lock(LockRefusal::NotEmpty { shard })).into());
        }
    }
    for shard in (1..=shards).map(ShardId) {
        let raise = Command::Lock(LockCommand::RaiseTokens { above });
        match router.command(shard, raise).await.map_err(Fault::from)? {
            Reply::Done => {}
            Reply::Refused(refusal) => return Err(Fault::from(refusal).into()),
            other @ (Reply::Session(SessionReply::Opened { .. })
            | Reply::Session(SessionReply::Touched { .. })
            | Reply::Session(SessionReply::Revoked { .. })
            | Reply::Lock(LockReply::Granted(_))
            | Reply::Lock(LockReply::Released { .. })
            | Reply::Lock(LockReply::Downgraded { .. })
            | Reply::Meta(MetaReply::Joined { .. })
            | Reply::Meta(MetaReply::Changed { .. })) => {
                return Err(Fault::from(unexpected(&other)).into());
            }
        }
    }
    tracing::info!(shards, %above, "restored from a backup");
    Ok(pb::RestoreResponse {
        shards,
        tokens_above: above.0,
    })
}

/// Which tokens a cluster that goes on from this backup has to give: greater ones. One number for
/// all shards, so that the number of shards need not be the same.
async fn tokens_above(parts: Incoming) -> Result<FencingToken, Status> {
    let mut parts = parts.map_ok(|request| request.part.and_then(|part| part.part));
    let Some(Part::Head(head)) = next(&mut parts).await? else {
        return Err(bad("a backup begins with its head".to_owned()));
    };
    let mut above = FencingToken(0);
    for shard in 1..=head.shards {
        let Some(Part::Shard(described)) = next(&mut parts)
            .await?
            .filter(|part| matches!(part, Part::Shard(described) if described.shard == shard))
        else {
            return Err(bad(format!("shard {shard} must come next")));
        };
        let machine = read_shard(&mut parts, &described).await?;
        let Machine::Data(found) = machine else {
            return Err(bad(format!(
                "the state of shard {shard} is of another kind"
            )));
        };
        let own = found.tokens_of_successor().ok_or_else(|| {
            bad(format!(
                "shard {shard} has given the last tokens that there are"
            ))
        })?;
        above = above.max(own);
    }
    let whole = pb::BackupEnd {
        shards: head.shards,
    };
    if head.shards == 0 || next(&mut parts).await? != Some(Part::End(whole)) {
        return Err(bad("the backup has no end: it was cut short".to_owned()));
    }
    Ok(above)
}

fn bad(what: String) -> Status {
    Fault::invalid("part", what).into()
}

/// The next part; none at the end, and for one of an unknown kind.
async fn next(
    parts: &mut (impl Stream<Item = Result<Option<Part>, Status>> + Unpin),
) -> Result<Option<Part>, Status> {
    let next = timeout(PROGRESS, parts.try_next()).await;
    Ok(next.map_err(|_| slow("sent"))??.flatten())
}

/// What a shard of this cluster has now. One that may begin above other tokens has next to nothing,
/// unless they were raised before.
async fn read_present(router: &Router, shard: ShardId) -> Result<Machine, Status> {
    let parts = shard_state::read(router, shard).await;
    let parts = parts.map_err(Fault::from)?;
    let mut parts = parts.map(move |message| translate(shard.0, message?).map(Some));
    let lost = |what: &str| Status::data_loss(format!("shard {shard} was not read: {what}"));
    let Some(Part::Shard(described)) = next(&mut parts).await? else {
        return Err(lost("it has no head"));
    };
    let read = read_shard(&mut parts, &described).await;
    let read = read.map_err(|status| lost(status.message()))?;
    // Its end is when the next may be read.
    match next(&mut parts).await? {
        None => Ok(read),
        Some(_) => Err(lost("it goes on after its end")),
    }
}

async fn read_shard(
    parts: &mut (impl Stream<Item = Result<Option<Part>, Status>> + Unpin),
    described: &pb::BackupShard,
) -> Result<Machine, Status> {
    let (shard, total) = (described.shard, described.total_bytes);
    if total > MAX_SNAPSHOT_BYTES {
        return Err(bad(format!(
            "shard {shard} has {total} bytes, which is over the bound of {MAX_SNAPSHOT_BYTES}"
        )));
    }
    let mut state = BytesMut::new();
    while (state.len() as u64) < total {
        let Some(Part::Chunk(chunk)) = next(parts).await? else {
            return Err(bad(format!("shard {shard} ends before its last chunk")));
        };
        let in_order = chunk.offset == state.len() as u64;
        let fits = chunk.offset.saturating_add(chunk.data.len() as u64) <= total;
        if !in_order || !fits || chunk.data.is_empty() || crc32fast::hash(&chunk.data) != chunk.crc
        {
            return Err(bad(format!(
                "the chunk at {} of shard {shard} is damaged or out of order",
                chunk.offset
            )));
        }
        state.extend_from_slice(&chunk.data);
    }
    let decoded = spawn_blocking(move || Machine::restore(&state)).await;
    decoded
        .map_err(|_| Status::unavailable("the node is stopping"))?
        .map_err(|error| {
            bad(format!(
                "the state of shard {shard} cannot be read: {error}"
            ))
        })
}

#[cfg(test)]
mod tests {
    use lockstep_model::{locks::TOKEN_GAP, shard::Shard};
    use tonic::Code;

    use super::*;

    /// A backup of shards that have given as many tokens as their number, in chunks of a few bytes.
    fn backup(shards: u32) -> Vec<Part> {
        let head = pb::BackupHead {
            shards,
            ..pb::BackupHead::default()
        };
        let mut parts = vec![Part::Head(head)];
        for shard in 1..=shards {
            let given = Shard::new(ShardId(shard)).successor(FencingToken(u64::from(shard)));
            let state = Machine::Data(given).snapshot();
            parts.push(Part::Shard(pb::BackupShard {
                shard,
                total_bytes: state.len() as u64,
                ..pb::BackupShard::default()
            }));
            for (at, data) in state.chunks(4).enumerate() {
                parts.push(Part::Chunk(pb::BackupChunk {
                    offset: 4 * at as u64,
                    crc: crc32fast::hash(data),
                    data: data.to_vec(),
                }));
            }
        }
        parts.push(Part::End(pb::BackupEnd { shards }));
        parts
    }

    async fn check(parts: Vec<Part>) -> Result<FencingToken, Code> {
        let parts = parts.into_iter().map(|part| {
            let part = Some(pb::BackupPart { part: Some(part) });
            Ok(pb::RestoreRequest { part })
        });
        let above = tokens_above(Box::pin(futures::stream::iter(parts))).await;
        above.map_err(|status| status.code())
    }

    #[tokio::test]
    async fn a_restore_acts_on_nothing_but_a_whole_backup() {
        let refused = Err(Code::InvalidArgument);
        let whole = backup(2);
        let above = FencingToken(2 + TOKEN_GAP);
        assert_eq!(check(whole.clone()).await, Ok(above));
        for at in 0..whole.len() {
            assert_eq!(check(whole[..at].to_vec()).await, refused, "cut at {at}");
            let mut missing = whole.clone();
            missing.remove(at);
            assert_eq!(check(missing).await, refused, "without part {at}");
            let mut twice = whole.clone();
            twice.insert(at, whole[at].clone());
            // Nothing after the end is read.
            let last = at + 1 == whole.len();
            let expected = if last { Ok(above) } else { refused };
            assert_eq!(check(twice).await, expected, "part {at} twice");
            let mut damaged = whole.clone();
            if let Part::Chunk(chunk) = &mut damaged[at] {
                chunk.data[0] ^= 1;
                assert_eq!(check(damaged).await, refused, "part {at} damaged");
            }
        }
        for shards in [0, 1, 3] {
            let mut other = whole.clone();
            other[0] = Part::Head(pb::BackupHead {
                shards,
                ..pb::BackupHead::default()
            });
            assert_eq!(check(other).await, refused, "{shards} shards");
        }
        let mut swapped = backup(1);
        swapped.swap(2, 3);
        assert_eq!(check(swapped).await, refused, "out of order");
    }
}
