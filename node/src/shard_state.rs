//! A shard's whole state, read from its leader: for backups.
//!
//! Invariants: it is the state of one moment, and has all that was acknowledged before it was asked
//! for; a chunk carries its offset and checksum, and at most [`CHUNKS_AHEAD`] are in memory beside
//! the state itself. A node has [`MAX_AT_ONCE`] such states in memory, and none for longer than its
//! reader makes progress.

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
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::{
    raft::{snapshot_send::CHUNK_BYTES, wire},
    replica::Replica,
    request::RequestError,
    router::{RouteError, Router},
};

/// States that a node gives out at once: each may have gigabytes, beside the machine itself.
const MAX_AT_ONCE: usize = 1;
/// How long the reader may take to take one more part: for the slowest line that a backup is worth
/// waiting for, at 8 KiB a second.
pub const PROGRESS: Duration = Duration::from_secs(30);
/// Chunks that wait for the connection.
const CHUNKS_AHEAD: usize = 4;
/// How long a leader may take until it has its state as bytes: for 4 GiB, at 200 MB a second.
const ENCODE: Duration = Duration::from_secs(20);
/// For how long a leader is looked for: longer than an election.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before the next one is asked.
const PAUSE: Duration = Duration::from_millis(100);

/// The right of a node's readers to have a state in memory.
pub struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_AT_ONCE)))
    }
}

impl Turns {
    fn take(&self) -> Result<OwnedSemaphorePermit, RequestError> {
        let turn = Arc::clone(&self.0).try_acquire_owned();
        turn.map_err(|_| RequestError::Busy)
    }
}

/// A head and chunks.
pub type Parts = Pin<Box<dyn Stream<Item = Result<pb::ReadShardResponse, Status>> + Send>>;

/// Reads the state of a shard, wherever it is led.
///
/// # Errors
/// If no leader answers in time, or it has others to answer.
pub async fn read(router: &Router, shard: ShardId) -> Result<Parts, RouteError> {
    let since = Instant::now();
    loop {
        match attempt(router, shard).await {
            Ok(parts) => return Ok(parts),
            Err(Missed { error, words }) => {
                tracing::debug!(%shard, words, "the shard's state was not read");
                if since.elapsed() > PATIENCE {
                    return Err(error);
                }
            }
        }
        sleep(PAUSE).await;
    }
}

/// Why an attempt came to nothing.
struct Missed {
    error: RouteError,
    words: String,
}

async fn attempt(router: &Router, shard: ShardId) -> Result<Parts, Missed> {
    let no_leader = |words: String| Missed {
        error: RouteError::NoLeader { shard },
        words,
    };
    let busy = |words: String| Missed {
        error: RouteError::Overloaded { shard },
        words,
    };
    if let Some(replica) = router.replica(shard)
        && replica.leads()
    {
        let parts = of_replica(&replica, &router.states).await;
        return parts.map_err(|error| {
            if error == RequestError::Busy {
                busy(error.to_string())
            } else {
                no_leader(error.to_string())
            }
        });
    }
    let directory = router.directory();
    let leader = directory
        .leader(shard)
        .filter(|leader| *leader != directory.me)
        .and_then(|leader| directory.node(leader))
        .ok_or_else(|| no_leader("no leader is known".to_owned()))?;
    let peer = router
        .peers()
        .get(leader.node, &leader.peer_address)
        .map_err(|error| no_leader(error.to_string()))?;
    let request = pb::ReadShardRequest {
        to: Some(router.peers().addressee(leader.node, shard)),
    };
    match timeout(ENCODE, peer.client().read_shard(request)).await {
        Ok(Ok(parts)) => Ok(Box::pin(parts.into_inner())),
        Ok(Err(status)) if status.code() == Code::ResourceExhausted => {
            Err(busy(status.message().to_owned()))
        }
        Ok(Err(status)) => Err(no_leader(status.message().to_owned())),
        Err(_) => Err(no_leader(format!(
            "node {} did not answer in time",
            leader.node
        ))),
    }
}

/// Reads the state of a replica.
///
/// # Errors
/// If it does not lead, or there is no turn left.
pub async fn of_replica(replica: &Replica, turns: &Turns) -> Result<Parts, RequestError> {
    let turn = turns.take()?;
    replica.confirm_leadership().await?;
    let applied = replica.raft.metrics().borrow_watched().last_applied;
    let machine = Arc::clone(&replica.machine);
    let state = spawn_blocking(move || {
        // The lock is held only for setting the state aside.
        let point = machine.write().point();
        point.snapshot()
    });
    // It fails only when the node stops.
    let mut rest = bytes::Bytes::from(state.await.map_err(|_| RequestError::UnknownOutcome)?);
    let (parts, outgoing) = mpsc::channel(CHUNKS_AHEAD);
    tokio::spawn(async move {
        use pb::read_shard_response::Part;
        let _turn = turn;
        // False when nobody listens any more.
        let put = async |part| {
            let message = pb::ReadShardResponse { part: Some(part) };
            let sent = timeout(PROGRESS, parts.send(Ok(message))).await;
            sent.is_ok_and(|sent| sent.is_ok())
        };
        let head = pb::ShardHead {
            applied: applied.as_ref().map(wire::log_id),
            total_bytes: rest.len() as u64,
        };
        let mut going = put(Part::Head(head)).await;
        let mut offset = 0;
        while going && !rest.is_empty() {
            let data = rest.split_to(rest.len().min(CHUNK_BYTES));
            let crc = crc32fast::hash(&data);
            let len = data.len() as u64;
            going = put(Part::Chunk(pb::SnapshotChunk { offset, data, crc })).await;
            offset += len;
        }
    });
    Ok(Box::pin(ReceiverStream::new(outgoing)))
}
