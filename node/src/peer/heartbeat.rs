//! Heartbeats of many shards to one peer, sent together.
//!
//! Invariant: a heartbeat that was asked for is answered or failed within its caller's timeout;
//! none is held back longer than [`LINGER`].

use std::{sync::Arc, time::Duration};

use lockstep_proto::raft::v1 as pb;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{PeerClient, hearing::Hearing};

/// How long the first heartbeat waits for others: small against any heartbeat interval.
const LINGER: Duration = Duration::from_millis(5);
/// How long one exchange may take before its heartbeats count as failed.
const TIMEOUT: Duration = Duration::from_millis(1_000);
/// Most heartbeats that wait, and most in a message: one a shard, and shards are bounded by 1,024.
const MAX_WAITING: usize = 1_024;

struct Beat {
    request: pb::AppendRequest,
    answer: oneshot::Sender<pb::AppendResponse>,
}

/// The heartbeats to one peer.
pub struct Lane {
    beats: mpsc::Sender<Beat>,
}

impl Lane {
    pub(super) fn open(client: PeerClient, hearing: Arc<Hearing>, stop: CancellationToken) -> Self {
        let (beats, waiting) = mpsc::channel(MAX_WAITING);
        tokio::spawn(async move {
            let _ = stop
                .run_until_cancelled_owned(run(client, hearing, waiting))
                .await;
        });
        Self { beats }
    }

    /// Sends one; none if the peer did not answer.
    pub async fn beat(&self, request: pb::AppendRequest) -> Option<pb::AppendResponse> {
        let (answer, answered) = oneshot::channel();
        self.beats.send(Beat { request, answer }).await.ok()?;
        answered.await.ok()
    }
}

async fn run(client: PeerClient, hearing: Arc<Hearing>, mut waiting: mpsc::Receiver<Beat>) {
    let mut beats = Vec::new();
    while waiting.recv_many(&mut beats, MAX_WAITING).await > 0 {
        sleep(LINGER).await;
        while beats.len() < MAX_WAITING
            && let Ok(beat) = waiting.try_recv()
        {
            beats.push(beat);
        }
        let (heartbeats, answers): (Vec<_>, Vec<_>) = beats
            .drain(..)
            .map(|beat| (beat.request, beat.answer))
            .unzip();
        let mut client = client.clone();
        let hearing = Arc::clone(&hearing);
        tokio::spawn(async move {
            hearing.asked();
            let exchange = client.heartbeat(pb::HeartbeatRequest { heartbeats });
            if let Ok(Ok(response)) = timeout(TIMEOUT, exchange).await {
                hearing.answered();
                for (answer, response) in answers.into_iter().zip(response.into_inner().answers) {
                    let _ = answer.send(response);
                }
            }
        });
    }
}
