//! Sends one snapshot to a follower, in chunks, or what the follower lacks of it.
//!
//! Invariants: a chunk is at most [`CHUNK_BYTES`] and carries its offset and checksum; at most
//! [`CHUNKS_AHEAD`] and one piece of the snapshot are in memory; to each peer one snapshot is sent at
//! a time, and to all together no faster than the [`Pace`].

use std::{future::Future, io, pin::pin, sync::Arc, time::Duration};

use lockstep_proto::raft::v1 as pb;
use openraft::{
    OptionalSend, StorageError,
    errors::{NetworkError, ReplicationClosed, StreamingError, Unreachable},
    raft::SnapshotResponse,
    type_config::TypeConfigExt as _,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::{
    snapshot_content::SnapshotContent,
    snapshot_pace::Pace,
    types::{Snapshot, TypeConfig, Vote},
    wire,
};
use crate::{
    metrics,
    peer::{Peer, PeerClient},
};

/// Bytes in a chunk: small enough not to hold up heartbeats on the shared connection.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for the connection.
const CHUNKS_AHEAD: usize = 4;
/// How long the follower may take to take one more chunk, or to say what it has.
const PROGRESS: Duration = Duration::from_secs(30);
/// How long the follower may take to decode and store all of the largest snapshot.
const INSTALL: Duration = Duration::from_secs(120);

type Failed = StreamingError<TypeConfig>;

#[derive(Debug, thiserror::Error)]
#[error("the snapshot was not sent: {0}")]
struct Failure(String);

fn unreachable(words: impl ToString) -> Failed {
    StreamingError::Unreachable(Unreachable::new(&Failure(words.to_string())))
}

fn unreadable(error: io::Error) -> Failed {
    let source = TypeConfig::err_from_error(&error);
    StreamingError::StorageError(StorageError::read_snapshot(None, source))
}

/// The way to a follower.
pub struct Route {
    /// Its node.
    pub peer: Arc<Peer>,
    /// Its replica.
    pub to: pb::Addressee,
    /// For all that this node sends.
    pub pace: Arc<Pace>,
}

/// Sends it; gives up when `cancel` is ready.
///
/// # Errors
/// If the snapshot cannot be read, or the follower cannot be reached or does not take it.
pub async fn send(
    route: Route,
    vote: Vote,
    snapshot: Snapshot,
    cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
) -> Result<SnapshotResponse<TypeConfig>, Failed> {
    tokio::select! {
        sent = transfer(route, vote, snapshot) => sent,
        closed = cancel => Err(StreamingError::Closed(closed)),
    }
}

async fn transfer(
    route: Route,
    vote: Vote,
    snapshot: Snapshot,
) -> Result<SnapshotResponse<TypeConfig>, Failed> {
    let _turn = route.peer.snapshot_turns.acquire().await;
    let content = &snapshot.snapshot;
    let mut head = head(route.to, &vote, &snapshot).await.map_err(unreadable)?;
    let mut client = route.peer.client();
    head.offset = offset(&mut client, &head).await?;
    tracing::info!(
        to = head.to.as_ref().map(|to| to.node_id),
        shard = head.to.as_ref().map(|to| to.shard),
        bytes = head.total_bytes,
        from = head.offset,
        "sending a snapshot"
    );
    let (parts, outgoing) = mpsc::channel(CHUNKS_AHEAD);
    let mut exchange = pin!(client.install_snapshot(ReceiverStream::new(outgoing)));
    let answer = tokio::select! {
        // It answers before all was sent: it does not want the rest.
        answer = &mut exchange => answer,
        fed = feed(head, content, parts, &route.pace) => {
            fed?;
            timeout(INSTALL, exchange)
                .await
                .map_err(|_| unreachable("the follower did not install it in time"))?
        }
    };
    let answer = answer.map_err(|status| unreachable(status.message()))?;
    content.progressed();
    metrics::get().snapshots.all_sent();
    let vote = wire::to_vote(answer.into_inner().vote).map_err(|missing| {
        StreamingError::Network(NetworkError::new(&Failure(missing.to_string())))
    })?;
    Ok(SnapshotResponse::new(vote))
}

/// How much the follower has already. One of an older version keeps nothing, and does not know the
/// question.
async fn offset(client: &mut PeerClient, head: &pb::SnapshotHead) -> Result<u64, Failed> {
    let question = pb::GetSnapshotOffsetRequest {
        head: Some(head.clone()),
    };
    match timeout(PROGRESS, client.get_snapshot_offset(question)).await {
        Ok(Ok(answer)) => Ok(answer.into_inner().offset),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Ok(0),
        Ok(Err(status)) => Err(unreachable(status.message())),
        Err(_) => Err(unreachable("the follower does not say what it has of it")),
    }
}

/// Puts head and chunks on their way. Ends early, without an error, if nobody takes them: the answer
/// says why.
async fn feed(
    head: pb::SnapshotHead,
    content: &SnapshotContent,
    parts: mpsc::Sender<pb::InstallSnapshotRequest>,
    pace: &Pace,
) -> Result<(), Failed> {
    use pb::install_snapshot_request::Part;
    let mut offset = head.offset;
    let put = async |part| {
        let message = pb::InstallSnapshotRequest { part: Some(part) };
        match timeout(PROGRESS, parts.send(message)).await {
            Ok(taken) => Ok(taken.is_ok()),
            Err(_) => Err(unreachable("the follower takes no more of it")),
        }
    };
    if !put(Part::Head(head)).await? {
        return Ok(());
    }
    loop {
        let mut piece = content.read(offset).await.map_err(unreadable)?;
        if piece.is_empty() {
            return Ok(());
        }
        while !piece.is_empty() {
            let data = piece.split_to(piece.len().min(CHUNK_BYTES));
            let (crc, len) = (crc32fast::hash(&data), data.len());
            pace.take(len).await;
            let chunk = pb::SnapshotChunk { offset, data, crc };
            if !put(Part::Chunk(chunk)).await? {
                return Ok(());
            }
            content.progressed();
            metrics::get().snapshots.sent(len);
            offset += len as u64;
        }
    }
}

async fn head(
    to: pb::Addressee,
    vote: &Vote,
    snapshot: &Snapshot,
) -> Result<pb::SnapshotHead, io::Error> {
    let Snapshot {
        meta,
        snapshot: content,
    } = snapshot;
    let decided = meta.last_membership.log_id().as_ref();
    Ok(pb::SnapshotHead {
        to: Some(to),
        vote: Some(wire::vote(vote)),
        last_log_id: meta.last_log_id.as_ref().map(wire::log_id),
        membership_log_id: decided.map(wire::log_id),
        membership: Some(wire::membership(meta.last_membership.membership())),
        total_bytes: content.size(),
        checksum: content.checksum().await?,
        offset: 0,
    })
}
