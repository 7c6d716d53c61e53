//! Sends one snapshot to a follower, in chunks.
//!
//! Invariant: a chunk is at most [`CHUNK_BYTES`] and carries its offset and checksum; at most
//! [`CHUNKS_AHEAD`] are in memory beside the snapshot itself.

use std::{future::Future, time::Duration};

use lockstep_proto::raft::v1 as pb;
use openraft::{
    OptionalSend,
    errors::{NetworkError, ReplicationClosed, StreamingError, Unreachable},
    raft::SnapshotResponse,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::{
    types::{Snapshot, TypeConfig, Vote},
    wire,
};
use crate::peer::PeerClient;

/// Bytes in a chunk: small enough not to hold up heartbeats on the shared connection.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Chunks that wait for the connection.
const CHUNKS_AHEAD: usize = 4;
/// How long the follower may take to take one more chunk, or to install all of them.
const PROGRESS: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
#[error("the snapshot was not sent: {0}")]
struct Failure(String);

/// Sends it; gives up when `cancel` is ready.
///
/// # Errors
/// If the follower cannot be reached or does not take it.
pub async fn send(
    mut client: PeerClient,
    to: pb::Addressee,
    vote: Vote,
    snapshot: Snapshot,
    cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let (parts, outgoing) = mpsc::channel(CHUNKS_AHEAD);
    let feed = async move {
        let head = pb::install_snapshot_request::Part::Head(head(to, &vote, &snapshot));
        if put(&parts, head).await.is_err() {
            return;
        }
        let mut rest = snapshot.snapshot.0;
        let mut offset = 0_u64;
        while !rest.is_empty() {
            let data = rest.split_to(rest.len().min(CHUNK_BYTES));
            let crc = crc32fast::hash(&data);
            let len = data.len() as u64;
            let chunk = pb::SnapshotChunk { offset, data, crc };
            if put(&parts, pb::install_snapshot_request::Part::Chunk(chunk))
                .await
                .is_err()
            {
                return;
            }
            offset += len;
        }
    };
    let exchange = async {
        let (response, ()) =
            tokio::join!(client.install_snapshot(ReceiverStream::new(outgoing)), feed);
        response
    };
    let response = tokio::select! {
        response = exchange => response,
        closed = cancel => return Err(StreamingError::Closed(closed)),
    };
    let response = response.map_err(|status| {
        StreamingError::Unreachable(Unreachable::new(&Failure(status.message().to_owned())))
    })?;
    let vote = wire::to_vote(response.into_inner().vote).map_err(|missing| {
        StreamingError::Network(NetworkError::new(&Failure(missing.to_string())))
    })?;
    Ok(SnapshotResponse::new(vote))
}

async fn put(
    parts: &mpsc::Sender<pb::InstallSnapshotRequest>,
    part: pb::install_snapshot_request::Part,
) -> Result<(), ()> {
    let message = pb::InstallSnapshotRequest { part: Some(part) };
    match timeout(PROGRESS, parts.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(()),
    }
}

fn head(to: pb::Addressee, vote: &Vote, snapshot: &Snapshot) -> pb::SnapshotHead {
    pb::SnapshotHead {
        to: Some(to),
        vote: Some(wire::vote(vote)),
        last_log_id: snapshot.meta.last_log_id.as_ref().map(wire::log_id),
        membership_log_id: snapshot
            .meta
            .last_membership
            .log_id()
            .as_ref()
            .map(wire::log_id),
        membership: Some(wire::membership(snapshot.meta.last_membership.membership())),
        total_bytes: snapshot.snapshot.0.len() as u64,
    }
}
