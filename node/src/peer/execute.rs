//! Requests for shards that one peer leads: many at once on one stream, answered in any order.
//!
//! Invariant: a request that was put on the stream and not answered has an unknown outcome; one
//! that never got there was not done. Each caller is told which.

use std::{collections::HashMap, time::Duration};

use lockstep_model::{Answer, Millis, NodeId, Reply, ShardId};
use lockstep_proto::raft::v1 as pb;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::PeerClient;
use crate::request::{Request, RequestError, Response};

/// Requests that wait for the stream, or to be written to it: beyond that callers are told to
/// come back, instead of memory filling up for a peer that does not keep up.
const MAX_WAITING: usize = 4_096;
/// How long the stream may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// Requests of one peer that may be unanswered, blocked acquisitions among them.
const MAX_PENDING: usize = 262_144;

struct Call {
    shard: ShardId,
    request: Request,
    answer: oneshot::Sender<Result<Response, RequestError>>,
}

/// The requests to one peer.
pub struct Lane {
    node: NodeId,
    calls: mpsc::Sender<Call>,
}

impl Lane {
    pub(super) fn open(
        node: NodeId,
        to: pb::Addressee,
        client: PeerClient,
        stop: CancellationToken,
    ) -> Self {
        let (calls, waiting) = mpsc::channel(MAX_WAITING);
        let worker = Worker {
            node,
            to,
            client,
            waiting,
            pending: HashMap::new(),
            next: 1,
        };
        tokio::spawn(async move {
            let _ = stop.run_until_cancelled_owned(worker.run()).await;
        });
        Self { node, calls }
    }

    /// Sends a request and waits for its answer, for as long as it takes.
    ///
    /// # Errors
    /// As the peer says, or if the stream is lost.
    pub async fn call(&self, shard: ShardId, request: Request) -> Result<Response, RequestError> {
        let (answer, answered) = oneshot::channel();
        match self.calls.try_send(Call {
            shard,
            request,
            answer,
        }) {
            Ok(()) => answered.await.unwrap_or(Err(RequestError::UnknownOutcome)),
            Err(mpsc::error::TrySendError::Full(_)) => Err(RequestError::Busy),
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(RequestError::Unreachable { node: self.node })
            }
        }
    }
}

struct Worker {
    node: NodeId,
    to: pb::Addressee,
    client: PeerClient,
    waiting: mpsc::Receiver<Call>,
    pending: HashMap<u64, oneshot::Sender<Result<Response, RequestError>>>,
    next: u64,
}

impl Worker {
    async fn run(mut self) {
        while let Some(call) = self.waiting.recv().await {
            self.connected(call).await;
            for (_, answer) in self.pending.drain() {
                let _ = answer.send(Err(RequestError::UnknownOutcome));
            }
        }
    }

    /// Opens the stream for a first call and serves until it is lost.
    async fn connected(&mut self, first: Call) {
        let (out, outgoing) = mpsc::channel(MAX_WAITING);
        // The callee answers the call itself at once, so nothing is under way before it is open.
        let opening = self.client.execute(ReceiverStream::new(outgoing));
        let opened = match timeout(OPEN_TIMEOUT, opening).await {
            Ok(opened) => opened.map_err(|status| status.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        let mut incoming = match opened {
            Ok(response) => response.into_inner(),
            Err(words) => {
                tracing::debug!(node = %self.node, words, "peer not reached");
                self.refuse(first);
                return;
            }
        };
        let mut message = encode(self.next, &first);
        message.to = Some(self.to.clone());
        if out.send(message).await.is_err() {
            let _ = first
                .answer
                .send(Err(RequestError::Unreachable { node: self.node }));
            return;
        }
        self.pending.insert(self.next, first.answer);
        self.next += 1;
        loop {
            tokio::select! {
                call = self.waiting.recv() => match call {
                    Some(call) => if !self.send(call, &out).await { return },
                    None => return,
                },
                message = incoming.message() => if !self.receive(message) { return },
            }
        }
    }

    /// Nothing that waits was done, and none of it needs to find that out by itself.
    fn refuse(&mut self, first: Call) {
        let mut call = Some(first);
        while let Some(refused) = call {
            let _ = refused
                .answer
                .send(Err(RequestError::Unreachable { node: self.node }));
            call = self.waiting.try_recv().ok();
        }
    }

    async fn send(&mut self, call: Call, out: &mpsc::Sender<pb::ExecuteRequest>) -> bool {
        if call.answer.is_closed() {
            // Its caller is gone: carrying it out would take what nobody knows of.
            return true;
        }
        if self.pending.len() >= MAX_PENDING {
            self.pending.retain(|_, answer| !answer.is_closed());
            if self.pending.len() >= MAX_PENDING {
                let _ = call.answer.send(Err(RequestError::Busy));
                return true;
            }
        }
        let message = encode(self.next, &call);
        self.pending.insert(self.next, call.answer);
        self.next += 1;
        out.send(message).await.is_ok()
    }

    fn receive(&mut self, message: Result<Option<pb::ExecuteResponse>, tonic::Status>) -> bool {
        let Ok(Some(message)) = message else {
            return false;
        };
        if let Some(answer) = self.pending.remove(&message.id) {
            let _ = answer.send(decode(message.response));
        }
        true
    }
}

fn encode(id: u64, call: &Call) -> pb::ExecuteRequest {
    use pb::execute_request::Request as Wire;
    let request = match &call.request {
        Request::Command(command) => Wire::Command(command.encode().into()),
        Request::Query(query) => Wire::Query(query.encode().into()),
        Request::KeepAlive(session) => Wire::KeepAlive(session.0),
        Request::AwaitEnd(session) => Wire::AwaitEnd(session.0),
    };
    pb::ExecuteRequest {
        id,
        shard: call.shard.0,
        request: Some(request),
        to: None,
    }
}

fn decode(response: Option<pb::execute_response::Response>) -> Result<Response, RequestError> {
    use pb::execute_response::Response as Wire;
    let malformed = |what: String| RequestError::Malformed { what };
    match response {
        Some(Wire::Reply(bytes)) => Reply::decode(&bytes)
            .map(Response::Reply)
            .map_err(|error| malformed(error.to_string())),
        Some(Wire::Answer(bytes)) => Answer::decode(&bytes)
            .map(Response::Answer)
            .map_err(|error| malformed(error.to_string())),
        Some(Wire::KeptAlive(ttl)) => Ok(Response::KeptAlive(Millis(ttl))),
        Some(Wire::Error(error)) => Err(decode_error(error)),
        None => Err(malformed("an empty answer".to_owned())),
    }
}

fn decode_error(error: pb::ExecuteError) -> RequestError {
    use pb::ExecuteErrorKind as Kind;
    match error.kind() {
        Kind::NotLeader => RequestError::NotLeader {
            leader: (error.leader != 0).then_some(NodeId(error.leader)),
        },
        Kind::UnknownOutcome => RequestError::UnknownOutcome,
        Kind::Busy => RequestError::Busy,
        Kind::DiskLow => RequestError::DiskLow,
        Kind::NoSession => RequestError::NoSession,
        Kind::Malformed | Kind::Unspecified => RequestError::Malformed {
            what: error.message,
        },
    }
}
