//! One pipelined AppendEntries stream to a follower. Requests without entries that come first, as
//! heartbeats do, go with those of other shards instead.
//!
//! Invariant: answers come in the order of the requests; a follower that owes answers and is silent
//! for [`STALL`] is given up, as is one that lacks what the log is about to lose ([`super::log_floor`]); and no connection is attempted before Raft has something to send,
//! because its pause after a failure is taken there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
use lockstep_proto::raft::v1 as pb;
use openraft::{
    OptionalSend,
    base::BoxStream,
    errors::RPCError,
    raft::{AppendEntriesRequest, StreamAppendResult},
};
use tokio::time::timeout;
use tonic::Streaming;

use super::{
    log_floor::Watched,
    network::{network, unreachable},
    types::TypeConfig,
    wire,
};
use crate::peer::{Peer, liveness::Hearing};

/// How long a follower may be silent while it owes answers. Longer than any fsync that is not a
/// fault, shorter than what a client would wait.
const STALL: Duration = Duration::from_secs(4);

type Failure = RPCError<TypeConfig>;
type Item = Result<StreamAppendResult<TypeConfig>, Failure>;

/// Where a stream is in its life.
enum State<S> {
    /// No entries were sent yet.
    Idle {
        peer: Arc<Peer>,
        to: pb::Addressee,
        input: S,
        /// A request without entries was sent before.
        has_beaten: bool,
    },
    /// Requests go out by themselves; answers are read.
    Open(Box<Answers>),
    /// It has failed or ended.
    Over,
}

/// The stream of answers. It opens the connection when Raft has first entries.
pub fn open<'s, S>(
    peer: Arc<Peer>,
    to: pb::Addressee,
    input: S,
    open_timeout: Duration,
    floor: Watched,
) -> BoxStream<'s, Item>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
{
    let idle = State::Idle {
        peer,
        to,
        input,
        has_beaten: false,
    };
    Box::pin(stream::unfold(idle, move |state| {
        let floor = floor.clone();
        async move {
            let mut answers = match state {
                State::Idle {
                    peer,
                    to,
                    mut input,
                    has_beaten,
                } => {
                    let first = input.next().await?;
                    if first.entries.is_empty() {
                        // Raft may take up an order again that is older than its last purge. It then finds
                        // nothing to send, and would go on to say so for ever instead of looking at newer
                        // orders. A stream that only tells what is committed ends after one request.
                        let matched = first.prev_log_id.map_or(0, |id| id.index);
                        if has_beaten && floor.is_above_now(matched) {
                            let words = "what the follower lacks is not in the log any more";
                            return Some((Err(network(words)), State::Over));
                        }
                        return Some(match beat(&peer, &to, first).await {
                            Ok(answer) => {
                                let idle = State::Idle {
                                    peer,
                                    to,
                                    input,
                                    has_beaten: true,
                                };
                                (Ok(answer), idle)
                            }
                            Err(failure) => (Err(failure), State::Over),
                        });
                    }
                    match begin(&peer, to, first, input, open_timeout, floor).await {
                        Ok(answers) => Box::new(answers),
                        Err(failure) => return Some((Err(failure), State::Over)),
                    }
                }
                State::Open(answers) => answers,
                State::Over => return None,
            };
            match answers.next().await? {
                Ok(result) => Some((Ok(result), State::Open(answers))),
                Err(failure) => Some((Err(failure), State::Over)),
            }
        }
    }))
}

/// Sends a request without entries together with those of other shards.
pub async fn beat(
    peer: &Peer,
    to: &pb::Addressee,
    request: AppendEntriesRequest<TypeConfig>,
) -> Item {
    let request = wire::append(Some(to.clone()), request);
    let answer = peer.heartbeats.beat(request).await;
    let answer = answer.ok_or_else(|| unreachable("the follower did not answer a heartbeat"))?;
    wire::to_append_result(answer).map_err(unreachable)
}

/// Opens the call with the first entries.
async fn begin<S>(
    peer: &Peer,
    to: pb::Addressee,
    first: AppendEntriesRequest<TypeConfig>,
    input: S,
    open_timeout: Duration,
    floor: Watched,
) -> Result<Answers, Failure>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
{
    if !peer.hearing.answers().await {
        return Err(unreachable("the follower is silent"));
    }
    let matched = first.prev_log_id.map_or(0, |id| id.index);
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let mut to = Some(to);
    let requests = stream::iter([first]).chain(input).map(move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        wire::append(to.take(), request)
    });
    match timeout(open_timeout, peer.client().append(requests)).await {
        Ok(Ok(response)) => Ok(Answers {
            answers: response.into_inner(),
            hearing: Arc::clone(&peer.hearing),
            sent,
            got: 0,
            matched,
            floor,
        }),
        Ok(Err(status)) => Err(unreachable(status.message())),
        Err(_) => Err(unreachable("the append stream did not open in time")),
    }
}

/// The answers of an open stream.
struct Answers {
    answers: Streaming<pb::AppendResponse>,
    hearing: Arc<Hearing>,
    sent: Arc<AtomicU64>,
    got: u64,
    /// The follower has the log up to here, as far as this stream knows.
    matched: u64,
    floor: Watched,
}

impl Answers {
    /// The next answer. Waits for ever while nothing is owed, and [`STALL`] at most while something is.
    async fn next(&mut self) -> Option<Item> {
        loop {
            let owed = self.sent.load(Ordering::Relaxed) > self.got;
            let answered = tokio::select! {
                biased;
                answered = timeout(STALL, self.answers.message()) => answered,
                () = self.floor.is_above(self.matched) => {
                    return Some(Err(network(
                        "the follower lags behind what the log may keep: it is sent the snapshot",
                    )));
                }
            };
            match answered {
                Ok(Ok(Some(answer))) => {
                    self.got += 1;
                    self.hearing.answered();
                    let result = wire::to_append_result(answer);
                    if let Ok(Ok(Some(matched))) = &result {
                        self.matched = self.matched.max(matched.index);
                    }
                    return Some(result.map_err(unreachable));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => return Some(Err(unreachable(status.message()))),
                Err(_) if owed => {
                    return Some(Err(unreachable("the follower owes answers and is silent")));
                }
                Err(_) => {}
            }
        }
    }
}
