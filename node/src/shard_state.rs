//! A shard's whole state, read from its leader: for backups.
//!
//! Invariants: it is the state of one moment, and has all that was acknowledged before it was asked
//! for; a chunk carries its offset and checksum, and at most [`CHUNKS_AHEAD`] are in memory beside
//! the state itself.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::Stream;
use lockstep_model::ShardId;
use lockstep_proto::raft::v1 as pb;
use openraft::async_runtime::WatchReceiver as _;
use tokio::{
    sync::mpsc,
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    raft::{snapshot_send::CHUNK_BYTES, wire},
    replica::Replica,
    request::RequestError,
    router::{RouteError, Router},
};

/// Chunks that wait for the connection.
const CHUNKS_AHEAD: usize = 4;
/// How long a leader may take until it has its state as bytes: for 4 GiB, at 200 MB a second.
const ENCODE: Duration = Duration::from_secs(20);
/// For how long a leader is looked for: longer than an election.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before the next one is asked.
const PAUSE: Duration = Duration::from_millis(100);

/// A head and chunks.
pub type Parts = Pin<Box<dyn Stream<Item = Result<pb::ReadShardResponse, Status>> + Send>>;

/// Reads the state of a shard, wherever it is led.
///
/// # Errors
/// If no leader answers in time.
pub async fn read(router: &Router, shard: ShardId) -> Result<Parts, RouteError> {
    let since = Instant::now();
    loop {
        match attempt(router, shard).await {
            Ok(parts) => return Ok(parts),
            Err(words) => tracing::debug!(%shard, words, "the shard's state was not read"),
        }
        if since.elapsed() > PATIENCE {
            return Err(RouteError::NoLeader { shard });
        }
        sleep(PAUSE).await;
    }
}

async fn attempt(router: &Router, shard: ShardId) -> Result<Parts, String> {
    if let Some(replica) = router.replica(shard)
        && replica.leads()
    {
        let parts = of_replica(&replica).await;
        return parts.map_err(|error| error.to_string());
    }
    let directory = router.directory();
    let leader = directory
        .leader(shard)
        .filter(|leader| *leader != directory.me)
        .and_then(|leader| directory.node(leader))
        .ok_or_else(|| "no leader is known".to_owned())?;
    let peer = router
        .peers()
        .get(leader.node, &leader.peer_address)
        .map_err(|error| error.to_string())?;
    let request = pb::ReadShardRequest {
        to: Some(router.peers().addressee(leader.node, shard)),
    };
    match timeout(ENCODE, peer.client().read_shard(request)).await {
        Ok(Ok(parts)) => Ok(Box::pin(parts.into_inner())),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err(format!("node {} did not answer in time", leader.node)),
    }
}

/// Reads the state of a replica.
///
/// # Errors
/// If it does not lead.
pub async fn of_replica(replica: &Replica) -> Result<Parts, RequestError> {
    replica.confirm_leadership().await?;
    let applied = replica.raft.metrics().borrow_watched().last_applied;
    let machine = Arc::clone(&replica.machine);
    let state = spawn_blocking(move || machine.read().snapshot());
    // It fails only when the node stops.
    let mut rest = bytes::Bytes::from(state.await.map_err(|_| RequestError::UnknownOutcome)?);
    let (parts, outgoing) = mpsc::channel(CHUNKS_AHEAD);
    tokio::spawn(async move {
        use pb::read_shard_response::Part;
        let put = async |part| {
            let message = pb::ReadShardResponse { part: Some(part) };
            parts.send(Ok(message)).await
        };
        let head = pb::ShardHead {
            applied: applied.as_ref().map(wire::log_id),
            total_bytes: rest.len() as u64,
        };
        put(Part::Head(head)).await?;
        let mut offset = 0;
        while !rest.is_empty() {
            let data = rest.split_to(rest.len().min(CHUNK_BYTES));
            let crc = crc32fast::hash(&data);
            let len = data.len() as u64;
            put(Part::Chunk(pb::SnapshotChunk { offset, data, crc })).await?;
            offset += len;
        }
        // An error means that nobody listens any more.
        Ok::<(), mpsc::error::SendError<_>>(())
    });
    Ok(Box::pin(ReceiverStream::new(outgoing)))
}
