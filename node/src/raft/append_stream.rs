//! One pipelined AppendEntries stream to a follower.
//!
//! Invariant: answers come in the order of the requests; a follower that owes answers and is silent
//! for [`STALL`] is given up; and no connection is attempted before Raft has something to send,
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

use super::{network::unreachable, types::TypeConfig, wire};
use crate::peer::{PeerClient, hearing::Hearing};

/// How long a follower may be silent while it owes answers. Longer than any fsync that is not a
/// fault, shorter than what a client would wait.
const STALL: Duration = Duration::from_secs(4);

type Failure = RPCError<TypeConfig>;
type Item = Result<StreamAppendResult<TypeConfig>, Failure>;

/// Where a stream is in its life.
enum State<S> {
    /// Nothing was sent yet.
    Idle {
        client: PeerClient,
        hearing: Arc<Hearing>,
        to: pb::Addressee,
        input: S,
    },
    /// Requests go out by themselves; answers are read.
    Open(Answers),
    /// It has failed or ended.
    Over,
}

/// The stream of answers. It opens the connection when Raft has a first request.
pub fn open<'s, S>(
    client: PeerClient,
    hearing: Arc<Hearing>,
    to: pb::Addressee,
    input: S,
    open_timeout: Duration,
) -> BoxStream<'s, Item>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
{
    let idle = State::Idle {
        client,
        hearing,
        to,
        input,
    };
    Box::pin(stream::unfold(idle, move |state| async move {
        let mut answers = match state {
            State::Idle {
                client,
                hearing,
                to,
                input,
            } => match begin(client, hearing, to, input, open_timeout).await? {
                Ok(answers) => answers,
                Err(failure) => return Some((Err(failure), State::Over)),
            },
            State::Open(answers) => answers,
            State::Over => return None,
        };
        match answers.next().await? {
            Ok(result) => Some((Ok(result), State::Open(answers))),
            Err(failure) => Some((Err(failure), State::Over)),
        }
    }))
}

/// Opens the call with the first request; none if there will be none.
async fn begin<S>(
    mut client: PeerClient,
    hearing: Arc<Hearing>,
    to: pb::Addressee,
    mut input: S,
    open_timeout: Duration,
) -> Option<Result<Answers, Failure>>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
{
    let first = input.next().await?;
    hearing.answers().await;
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let mut to = Some(to);
    let requests = stream::iter([first]).chain(input).map(move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        wire::append(to.take(), request)
    });
    Some(match timeout(open_timeout, client.append(requests)).await {
        Ok(Ok(response)) => Ok(Answers {
            answers: response.into_inner(),
            hearing,
            sent,
            got: 0,
        }),
        Ok(Err(status)) => Err(unreachable(status.message())),
        Err(_) => Err(unreachable("the append stream did not open in time")),
    })
}

/// The answers of an open stream.
struct Answers {
    answers: Streaming<pb::AppendResponse>,
    hearing: Arc<Hearing>,
    sent: Arc<AtomicU64>,
    got: u64,
}

impl Answers {
    /// The next answer. Waits for ever while nothing is owed, and [`STALL`] at most while something is.
    async fn next(&mut self) -> Option<Item> {
        loop {
            let owed = self.sent.load(Ordering::Relaxed) > self.got;
            match timeout(STALL, self.answers.message()).await {
                Ok(Ok(Some(answer))) => {
                    self.got += 1;
                    self.hearing.answered();
                    return Some(wire::to_append_result(answer).map_err(unreachable));
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
