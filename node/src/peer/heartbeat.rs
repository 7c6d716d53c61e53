//! Heartbeats of many shards to one peer, sent together.
//!
//! Invariant: a heartbeat that was asked for is answered or failed within its caller's timeout;
//! none is held back longer than [`GAP`], nor its answer by that of another shard. To a silent peer goes an empty message instead: its answer
//! is heard all the same, and followers that only cannot be heard are free to elect.

use std::{sync::Arc, time::Duration};

use lockstep_proto::raft::v1 as pb;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::PeerClient;
use crate::peer::liveness::Hearing;

/// The least time between two messages, in which heartbeats gather: one that comes alone, as those
/// which confirm a reader's leader do, goes at once.
const GAP: Duration = Duration::from_millis(1);
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

/// What is sent, and who waits for the answers. Those whose heartbeats are not sent learn it at once.
fn message(
    beats: &mut Vec<Beat>,
    hearing: &Hearing,
) -> (
    Vec<pb::AppendRequest>,
    Vec<oneshot::Sender<pb::AppendResponse>>,
) {
    if hearing.is_silent() {
        beats.clear();
    }
    let taken = beats.drain(..);
    taken.map(|beat| (beat.request, beat.answer)).unzip()
}

fn hand_out(
    message: pb::HeartbeatResponse,
    waiting: &mut [Option<oneshot::Sender<pb::AppendResponse>>],
) {
    for pb::HeartbeatAnswer { place, answer } in message.answers {
        let place = usize::try_from(place).ok();
        let waits = place.and_then(|place| waiting.get_mut(place)?.take());
        if let (Some(waits), Some(answer)) = (waits, answer) {
            let _ = waits.send(answer);
        }
    }
}

async fn run(client: PeerClient, hearing: Arc<Hearing>, mut waiting: mpsc::Receiver<Beat>) {
    let mut beats = Vec::new();
    while waiting.recv_many(&mut beats, MAX_WAITING).await > 0 {
        let (heartbeats, answers) = message(&mut beats, &hearing);
        let mut client = client.clone();
        let hearing = Arc::clone(&hearing);
        tokio::spawn(async move {
            hearing.asked();
            let request = pb::HeartbeatRequest { heartbeats };
            let exchange = async {
                let mut messages = client.heartbeat(request).await?.into_inner();
                hearing.answered();
                let mut answers: Vec<_> = answers.into_iter().map(Some).collect();
                while let Some(message) = messages.message().await? {
                    hand_out(message, &mut answers);
                }
                Ok::<(), Status>(())
            };
            // Whoever was not answered learns it when its sender is dropped.
            let _ = timeout(TIMEOUT, exchange).await;
        });
        sleep(GAP).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::error::TryRecvError;

    use super::*;

    /// A deaf leader's heartbeats would keep its followers from electing another.
    #[test]
    fn a_silent_peer_is_asked_but_gets_no_heartbeats() {
        let beats = || {
            let (answer, answered) = oneshot::channel();
            let request = pb::AppendRequest::default();
            (vec![Beat { request, answer }], answered)
        };
        let hearing = Hearing::default();
        let (mut waiting, mut answered) = beats();
        let (sent, _answers) = message(&mut waiting, &hearing);
        assert_eq!(sent.len(), 1);
        assert_eq!(answered.try_recv(), Err(TryRecvError::Empty));

        let (mut waiting, mut answered) = beats();
        let (sent, _answers) = message(&mut waiting, &Hearing::silent());
        assert!(sent.is_empty());
        assert_eq!(answered.try_recv(), Err(TryRecvError::Closed));
    }
}
