//! Takes one snapshot from a leader.
//!
//! Invariant: a snapshot is handed on whole, in order, with every chunk's checksum and its own right,
//! or not at all.

use std::time::Duration;

use bytes::Bytes;
use lockstep_model::snapshot;
use lockstep_proto::raft::v1 as pb;
use tokio::{task::spawn_blocking, time::timeout};
use tonic::{Status, Streaming};

use super::{
    snapshot_content::SnapshotContent,
    snapshot_partial::{MAX_SNAPSHOT_BYTES, Receiving},
    types::{Snapshot, SnapshotMeta, StoredMembership},
    wire,
};
use crate::metrics;

/// How long a leader may take for one more chunk. Longer than many transfers at the lowest rate take
/// for a turn each.
const PROGRESS: Duration = Duration::from_secs(60);

type Parts = Streaming<pb::InstallSnapshotRequest>;

async fn next(parts: &mut Parts) -> Result<Option<pb::install_snapshot_request::Part>, Status> {
    let message = timeout(PROGRESS, parts.message()).await;
    let message = message.map_err(|_| Status::deadline_exceeded("no chunk came in time"))?;
    Ok(message?.and_then(|message| message.part))
}

/// Reads the head; the chunks follow by [`chunks`].
///
/// # Errors
/// If the first message is no valid head.
pub async fn head(parts: &mut Parts) -> Result<pb::SnapshotHead, Status> {
    use pb::install_snapshot_request::Part;
    match next(parts).await? {
        Some(Part::Head(head)) if head.total_bytes <= MAX_SNAPSHOT_BYTES => Ok(head),
        Some(Part::Head(head)) => Err(Status::resource_exhausted(format!(
            "a snapshot of {} bytes is over the bound of {MAX_SNAPSHOT_BYTES}",
            head.total_bytes
        ))),
        Some(Part::Chunk(_)) | None => {
            Err(Status::invalid_argument("a snapshot begins with its head"))
        }
    }
}

/// Reads the chunks, and gives out the whole snapshot.
///
/// # Errors
/// If one is missing, out of order, or damaged. What has come by then is kept for a while.
pub async fn chunks(parts: &mut Parts, receiving: Receiving) -> Result<Bytes, Status> {
    use pb::install_snapshot_request::Part;
    while !receiving.is_whole()? {
        let Some(Part::Chunk(chunk)) = next(parts).await? else {
            return Err(Status::data_loss("the snapshot ends before its last chunk"));
        };
        receiving.add(&chunk)?;
        metrics::get().snapshots.received(chunk.data.len());
    }
    let whole = receiving.finish()?;
    let checked = whole.clone();
    spawn_blocking(move || snapshot::check(&checked))
        .await
        .map_err(|_| Status::unavailable("the node is stopping"))?
        .map_err(|error| Status::data_loss(error.to_string()))?;
    metrics::get().snapshots.all_received();
    Ok(whole)
}

/// Puts head and chunks together.
///
/// # Errors
/// If the head lacks a part.
pub fn assemble(head: pb::SnapshotHead, data: Bytes) -> Result<Snapshot, wire::Missing> {
    let membership = wire::to_membership(head.membership.ok_or(wire::Missing("membership"))?)?;
    let last_membership =
        StoredMembership::new(head.membership_log_id.map(wire::to_log_id), membership);
    Ok(Snapshot {
        meta: SnapshotMeta {
            last_log_id: head.last_log_id.map(wire::to_log_id),
            last_membership,
        },
        snapshot: SnapshotContent::Held(data),
    })
}
