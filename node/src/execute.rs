//! Serves requests that other nodes forward to the shards led here.
//!
//! Invariant: every request on the stream gets exactly one answer, in any order; at most
//! [`MAX_PENDING`] of one stream are unanswered.

use std::{future::Future, pin::Pin, sync::Arc};

use futures::{StreamExt as _, stream::FuturesUnordered};
use lockstep_model::{Command, Query, SessionId, ShardId};
use lockstep_proto::raft::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    request::{Request, RequestError, Response},
    router::Router,
};

/// Answers that wait for the connection.
const ANSWERS_AHEAD: usize = 1_024;
/// Unanswered requests of one peer, blocked acquisitions among them: as many as it may send.
const MAX_PENDING: usize = 262_144;

type Pending = Pin<Box<dyn Future<Output = pb::ExecuteResponse> + Send>>;

/// Serves one stream; `check` judges the addressee in its first message.
pub fn serve(
    router: Arc<Router>,
    check: impl Fn(Option<pb::Addressee>) -> Result<(), Status> + Send + 'static,
    mut requests: Streaming<pb::ExecuteRequest>,
) -> ReceiverStream<Result<pb::ExecuteResponse, Status>> {
    let (answers, outgoing) = mpsc::channel(ANSWERS_AHEAD);
    tokio::spawn(async move {
        let mut pending: FuturesUnordered<Pending> = FuturesUnordered::new();
        let mut first = true;
        let mut open = true;
        while open || !pending.is_empty() {
            tokio::select! {
                message = requests.message(), if open && pending.len() < MAX_PENDING => {
                    let Ok(Some(mut message)) = message else {
                        // The caller is gone, and with it everyone who waits for an answer.
                        return;
                    };
                    if first {
                        first = false;
                        if let Err(status) = check(message.to.take()) {
                            let _ = answers.send(Err(status)).await;
                            open = false;
                            continue;
                        }
                    }
                    pending.push(Box::pin(answer(Arc::clone(&router), message)));
                }
                Some(answer) = pending.next() => {
                    if answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    ReceiverStream::new(outgoing)
}

async fn answer(router: Arc<Router>, message: pb::ExecuteRequest) -> pb::ExecuteResponse {
    use pb::execute_response::Response as Wire;
    let id = message.id;
    let result = match decode(message.request) {
        Ok(request) => match router.replica(ShardId(message.shard)) {
            Some(replica) => replica.execute(request).await,
            None => Err(RequestError::NotLeader { leader: None }),
        },
        Err(error) => Err(error),
    };
    let response = match result {
        Ok(Response::Reply(reply)) => Wire::Reply(reply.encode().into()),
        Ok(Response::Answer(answer)) => Wire::Answer(answer.encode().into()),
        Ok(Response::KeptAlive(ttl)) => Wire::KeptAlive(ttl.0),
        Err(error) => Wire::Error(encode_error(&error)),
    };
    pb::ExecuteResponse {
        id,
        response: Some(response),
    }
}

fn decode(request: Option<pb::execute_request::Request>) -> Result<Request, RequestError> {
    use pb::execute_request::Request as Wire;
    let malformed = |what: String| RequestError::Malformed { what };
    match request {
        Some(Wire::Command(bytes)) => Command::decode(&bytes)
            .map(Request::Command)
            .map_err(|error| malformed(error.to_string())),
        Some(Wire::Query(bytes)) => Query::decode(&bytes)
            .map(Request::Query)
            .map_err(|error| malformed(error.to_string())),
        Some(Wire::KeepAlive(session)) => Ok(Request::KeepAlive(SessionId(session))),
        Some(Wire::AwaitEnd(session)) => Ok(Request::AwaitEnd(SessionId(session))),
        None => Err(malformed("an empty request".to_owned())),
    }
}

fn encode_error(error: &RequestError) -> pb::ExecuteError {
    use pb::ExecuteErrorKind as Kind;
    let (kind, leader) = match error {
        RequestError::NotLeader { leader } => {
            (Kind::NotLeader, leader.map_or(0, |leader| leader.0))
        }
        RequestError::Unreachable { .. } => (Kind::NotLeader, 0),
        RequestError::UnknownOutcome => (Kind::UnknownOutcome, 0),
        RequestError::Busy => (Kind::Busy, 0),
        RequestError::DiskLow => (Kind::DiskLow, 0),
        RequestError::NoSession => (Kind::NoSession, 0),
        RequestError::Malformed { .. } => (Kind::Malformed, 0),
    };
    pb::ExecuteError {
        kind: kind.into(),
        leader,
        message: error.to_string(),
    }
}
