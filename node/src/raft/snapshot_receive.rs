//! Takes one snapshot from a leader.
//!
//! Invariant: a snapshot is handed on whole, in order, with every chunk's checksum right, or not at all.

use bytes::{Bytes, BytesMut};
use lockstep_proto::raft::v1 as pb;
use tonic::{Status, Streaming};

use super::{
    types::{Snapshot, SnapshotBytes, SnapshotMeta, StoredMembership, Vote},
    wire,
};

/// Largest snapshot that is taken: it is held in memory while it arrives.
pub const MAX_SNAPSHOT_BYTES: u64 = 4 << 30;

/// What has arrived.
pub struct Received {
    /// Whom it is for.
    pub to: pb::Addressee,
    /// The leader.
    pub vote: Vote,
    /// The snapshot.
    pub snapshot: Snapshot,
}

/// Reads the head; the chunks follow by [`chunks`].
///
/// # Errors
/// If the first message is no valid head.
pub async fn head(
    parts: &mut Streaming<pb::InstallSnapshotRequest>,
) -> Result<pb::SnapshotHead, Status> {
    use pb::install_snapshot_request::Part;
    match parts.message().await?.and_then(|message| message.part) {
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

/// Reads the chunks.
///
/// # Errors
/// If one is missing, out of order, or damaged.
pub async fn chunks(
    parts: &mut Streaming<pb::InstallSnapshotRequest>,
    total: u64,
) -> Result<Bytes, Status> {
    use pb::install_snapshot_request::Part;
    let mut data = BytesMut::new();
    while (data.len() as u64) < total {
        let Some(Part::Chunk(chunk)) = parts.message().await?.and_then(|message| message.part)
        else {
            return Err(Status::data_loss("the snapshot ends before its last chunk"));
        };
        let in_order = chunk.offset == data.len() as u64;
        let fits = chunk.offset.saturating_add(chunk.data.len() as u64) <= total;
        if !in_order || !fits || crc32fast::hash(&chunk.data) != chunk.crc {
            return Err(Status::data_loss(format!(
                "the chunk at {} is damaged or out of order",
                chunk.offset
            )));
        }
        data.extend_from_slice(&chunk.data);
    }
    Ok(data.freeze())
}

/// Puts head and chunks together.
///
/// # Errors
/// If the head lacks a part.
pub fn assemble(head: pb::SnapshotHead, data: Bytes) -> Result<Received, wire::Missing> {
    let membership = wire::to_membership(head.membership.ok_or(wire::Missing("membership"))?)?;
    let last_membership =
        StoredMembership::new(head.membership_log_id.map(wire::to_log_id), membership);
    Ok(Received {
        to: head.to.ok_or(wire::Missing("addressee"))?,
        vote: wire::to_vote(head.vote)?,
        snapshot: Snapshot {
            meta: SnapshotMeta {
                last_log_id: head.last_log_id.map(wire::to_log_id),
                last_membership,
            },
            snapshot: SnapshotBytes(data),
        },
    })
}
