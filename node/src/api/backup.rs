//! Backups: giving out the state of all data shards, and going on from such a state.
//!
//! Invariants: a backup ends with its end or with an error; a restore changes nothing before all of
//! the backup has come and is whole; and what it changes can be repeated.

use std::{pin::Pin, sync::Arc};

use bytes::BytesMut;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use lockstep_model::{Command, FencingToken, Machine, Reply, ShardId};
use lockstep_proto::{
    cluster::v1::{self as pb, backup_part::Part},
    raft::v1 as raft_pb,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::error::Fault;
use crate::{
    VERSION, clock,
    raft::snapshot_receive::MAX_SNAPSHOT_BYTES,
    router::{Router, unexpected},
    shard_state,
};

/// Backups and restores that a node has under way at once: each may hold a shard's whole state.
const MAX_AT_ONCE: usize = 1;
/// Parts that wait for the connection.
const PARTS_AHEAD: usize = 4;

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

/// Gives out the state of all data shards.
pub fn save(router: Arc<Router>, turn: OwnedSemaphorePermit) -> Parts {
    let (parts, outgoing) = mpsc::channel(PARTS_AHEAD);
    tokio::spawn(async move {
        let _turn = turn;
        if let Err(status) = save_all(&router, &parts).await {
            // Whoever is gone need not be told.
            let _ = parts.send(Err(status)).await;
        }
    });
    ReceiverStream::new(outgoing)
}

type Sender = mpsc::Sender<Result<pb::BackupResponse, Status>>;

async fn put(parts: &Sender, part: Part) -> Result<(), Status> {
    let part = Some(pb::BackupPart { part: Some(part) });
    parts
        .send(Ok(pb::BackupResponse { part }))
        .await
        .map_err(|_| Status::cancelled("nobody takes the backup"))
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

/// Reads a backup, and then raises the tokens of every data shard above all that its cluster gave.
///
/// # Errors
/// If the backup is not whole, a shard is in use, or has no leader.
pub async fn restore(router: &Router, parts: Incoming) -> Result<pb::RestoreResponse, Status> {
    let above = tokens_above(parts).await?;
    let shards = router.directory().settings.shards;
    for shard in (1..=shards).map(ShardId) {
        let raise = Command::RaiseTokens { above };
        match router.command(shard, raise).await.map_err(Fault::from)? {
            Reply::Done => {}
            Reply::Refused(refusal) => return Err(Fault::from(refusal).into()),
            other @ (Reply::Session { .. }
            | Reply::Touched { .. }
            | Reply::Granted(_)
            | Reply::Released { .. }
            | Reply::Downgraded { .. }
            | Reply::Joined { .. }
            | Reply::Changed { .. }) => return Err(Fault::from(unexpected(&other)).into()),
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
    let bad = |what: String| Status::from(Fault::invalid("part", what));
    let Some(Part::Head(head)) = parts.try_next().await?.flatten() else {
        return Err(bad("a backup begins with its head".to_owned()));
    };
    let mut above = FencingToken(0);
    for shard in 1..=head.shards {
        let described = match parts.try_next().await?.flatten() {
            Some(Part::Shard(described)) if described.shard == shard => described,
            _ => return Err(bad(format!("shard {shard} must come next"))),
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
    match parts.try_next().await?.flatten() {
        Some(Part::End(end)) if end.shards == head.shards && end.shards > 0 => Ok(above),
        _ => Err(bad("the backup has no end: it was cut short".to_owned())),
    }
}

async fn read_shard(
    parts: &mut (impl Stream<Item = Result<Option<Part>, Status>> + Unpin),
    described: &pb::BackupShard,
) -> Result<Machine, Status> {
    let (shard, total) = (described.shard, described.total_bytes);
    let bad = |what: String| Status::from(Fault::invalid("part", what));
    if total > MAX_SNAPSHOT_BYTES {
        return Err(bad(format!(
            "shard {shard} has {total} bytes, which is over the bound of {MAX_SNAPSHOT_BYTES}"
        )));
    }
    let mut state = BytesMut::new();
    while (state.len() as u64) < total {
        let Some(Part::Chunk(chunk)) = parts.try_next().await?.flatten() else {
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
