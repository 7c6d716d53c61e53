//! The session stream: keep-alives, pipelined operations, pushed grants.
//!
//! Invariant: operations are proposed in the order in which they arrive; answers go out as they
//! come. A stream that ends takes nothing with it: what was blocked stays blocked, and its answer
//! is given to whoever repeats the operation.

use std::{
    collections::{BTreeSet, HashMap},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures::{Future, StreamExt as _, stream::FuturesUnordered};
use lockstep_model::{
    Command, LockName, Reply, Serial, SessionCommand, SessionId, SessionReply, ShardId,
    request::{AckedRanges, MAX_RANGES_PER_REQUEST, RequestId, SerialRange},
};
use lockstep_proto::lock::v1 as pb;
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::error::Fault;
use crate::locks::operation;
use crate::router::{RouteError, Router, unexpected};

/// Operations of one stream that may be unanswered: what the state machine keeps answers for.
const MAX_PENDING: usize = 4_096;
/// Answers that wait for the connection.
const ANSWERS_AHEAD: usize = 256;

/// Pause before the home's leader is asked anew to tell of the session's end.
const ASK_AGAIN: Duration = Duration::from_secs(1);

type Pending = Pin<Box<dyn Future<Output = Event> + Send>>;

/// Something that a future of this stream has finished with.
enum Event {
    Answer(pb::session_response::Response),
    Ended(Fault),
    Nothing,
}

/// Serves one stream until it ends or the node stops.
#[must_use]
pub fn serve(
    router: Arc<Router>,
    requests: Streaming<pb::SessionRequest>,
    stop: CancellationToken,
) -> ReceiverStream<Result<pb::SessionResponse, Status>> {
    let (answers, outgoing) = mpsc::channel(ANSWERS_AHEAD);
    tokio::spawn(async move {
        let mut stream = SessionStream {
            router,
            requests,
            answers: answers.clone(),
            pending: FuturesUnordered::new(),
            blocked_in: HashMap::new(),
            open: true,
        };
        let served = tokio::select! {
            served = stream.run() => served,
            () = stop.cancelled() => {
                Err(Fault::unavailable("SHUTTING_DOWN", "this node is stopping: use another").into())
            }
        };
        if let Err(status) = served {
            let _ = answers.send(Err(status)).await;
        }
    });
    ReceiverStream::new(outgoing)
}

struct SessionStream {
    router: Arc<Router>,
    requests: Streaming<pb::SessionRequest>,
    answers: mpsc::Sender<Result<pb::SessionResponse, Status>>,
    pending: FuturesUnordered<Pending>,
    /// Where waits can be, so that a cancel need not ask every shard.
    blocked_in: HashMap<Serial, BTreeSet<ShardId>>,
    open: bool,
}

impl SessionStream {
    async fn run(&mut self) -> Result<(), Status> {
        let Some(session) = self.attach().await? else {
            return Ok(());
        };
        let ended = end(Arc::clone(&self.router), session);
        tokio::pin!(ended);
        loop {
            let live = self.open || !self.pending.is_empty();
            tokio::select! {
                message = self.requests.message(), if self.open => match message {
                    Ok(Some(message)) => self.take(session, message)?,
                    // Half-closed: what is pending is still answered.
                    Ok(None) => self.open = false,
                    Err(status) => return undecodable(&status).map_or(Ok(()), Err),
                },
                Some(event) = self.pending.next() => match event {
                    Event::Answer(response) => if !self.answer(response).await { return Ok(()) },
                    Event::Ended(fault) => return self.say_ended(fault).await,
                    Event::Nothing => {}
                },
                fault = &mut ended, if live => return self.say_ended(fault).await,
                else => return Ok(()),
            }
        }
    }

    async fn say_ended(&mut self, fault: Fault) -> Result<(), Status> {
        let ended = pb::SessionEnded {
            reason: fault.reason.to_owned(),
            message: fault.message,
        };
        self.answer(pb::session_response::Response::Ended(ended))
            .await;
        Ok(())
    }

    async fn answer(&mut self, response: pb::session_response::Response) -> bool {
        self.answers
            .send(Ok(pb::SessionResponse {
                response: Some(response),
            }))
            .await
            .is_ok()
    }

    /// The first message names the session.
    async fn attach(&mut self) -> Result<Option<SessionId>, Status> {
        use pb::session_request::Request;
        let first = self.requests.message().await;
        let first = first.map_err(|status| undecodable(&status).unwrap_or(status))?;
        let Some(message) = first else {
            return Ok(None);
        };
        let Some(Request::Attach(attach)) = message.request else {
            return Err(Fault::invalid("request", "the first message must be attach").into());
        };
        let session = session_id(attach.session_id)?;
        let attached = if attach.resume {
            resume(&self.router, session).await?
        } else {
            let ttl = self.router.keep_alive(session).await.map_err(Fault::from)?;
            pb::StreamAttached {
                ttl_ms: ttl.0,
                epoch: 0,
            }
        };
        self.answer(pb::session_response::Response::Attached(attached))
            .await;
        Ok(Some(session))
    }

    fn take(&mut self, session: SessionId, message: pb::SessionRequest) -> Result<(), Status> {
        use pb::session_request::Request;
        if self.pending.len() >= MAX_PENDING {
            return Err(Fault::too_many_in_flight(MAX_PENDING).into());
        }
        let router = Arc::clone(&self.router);
        match message.request {
            Some(Request::Operation(operation)) => self.operate(session, operation)?,
            Some(Request::KeepAlive(keep_alive)) => {
                self.pending
                    .push(Box::pin(keep(router, session, keep_alive.nonce)));
            }
            Some(Request::Cancel(cancel)) => {
                let serial = serial(cancel.serial)?;
                let shards = self.blocked_in.get(&serial).cloned();
                self.pending
                    .push(Box::pin(give_up(router, session, serial, shards)));
            }
            Some(Request::Abandon(abandon)) => {
                let serial = serial(abandon.serial)?;
                self.pending.push(Box::pin(async move {
                    let names = &abandon.names;
                    let undone = operation::abandon(&router, session, serial, names).await;
                    Event::Answer(pb::session_response::Response::Abandoned(
                        pb::OperationAbandoned {
                            serial: serial.0,
                            error: undone.err().map(Fault::into_operation_error),
                        },
                    ))
                }));
            }
            Some(Request::Attach(_)) => {
                return Err(Fault::invalid("request", "the stream is attached already").into());
            }
            None => {
                return Err(
                    Fault::invalid("request", "must be one that this version knows").into(),
                );
            }
        }
        Ok(())
    }

    fn operate(&mut self, session: SessionId, operation: pb::Operation) -> Result<(), Status> {
        let serial = serial(operation.serial)?;
        let acked_below = acked_below(operation.acked_below, serial)?;
        let request = RequestId {
            session,
            serial,
            acked_below,
            acked: acked(&operation.acked, acked_below, serial)?,
        };
        if self.blocked_in.len() >= MAX_PENDING {
            self.blocked_in.clear();
        }
        let shards = shards_of(&self.router, &operation);
        if !shards.is_empty() {
            self.blocked_in.insert(serial, shards);
        }
        let router = Arc::clone(&self.router);
        self.pending.push(Box::pin(async move {
            let result = operation::carry_out(&router, request, operation.operation)
                .await
                .unwrap_or_else(|fault| {
                    crate::metrics::get().refused(fault.reason);
                    pb::operation_result::Result::Error(fault.into_operation_error())
                });
            let result = pb::OperationResult {
                serial: serial.0,
                result: Some(result),
            };
            Event::Answer(pb::session_response::Response::Result(result))
        }));
        Ok(())
    }
}

/// The refusal of bytes that are no message; none if the connection failed.
fn undecodable(status: &Status) -> Option<Status> {
    Fault::undecodable(status.message()).map(Status::from)
}

/// Returns when the session is over, so that its client hears of it in a round trip, and not by its next
/// keep-alive.
async fn end(router: Arc<Router>, session: SessionId) -> Fault {
    loop {
        match router.await_end(session).await {
            Ok(refusal) => return refusal.into(),
            Err(error) => {
                tracing::debug!(%session, %error, "the session's end is not waited for now");
                sleep(ASK_AGAIN).await;
            }
        }
    }
}

async fn keep(router: Arc<Router>, session: SessionId, nonce: u64) -> Event {
    match router.keep_alive(session).await {
        Ok(ttl) => Event::Answer(pb::session_response::Response::KeptAlive(
            pb::StreamKeptAlive {
                nonce,
                ttl_ms: ttl.0,
            },
        )),
        Err(error @ RouteError::NoSession) => Event::Ended(error.into()),
        // Not confirmed, which the client sees by the answer's absence.
        Err(error) => {
            tracing::debug!(%session, %error, "keep-alive not confirmed");
            Event::Nothing
        }
    }
}

async fn give_up(
    router: Arc<Router>,
    session: SessionId,
    serial: Serial,
    shards: Option<BTreeSet<ShardId>>,
) -> Event {
    let shards = shards.unwrap_or_else(|| router.directory().data_shards().collect());
    let cancelled = operation::cancel(&router, session, serial, shards).await;
    if let Err(fault) = cancelled {
        tracing::debug!(%session, %serial, reason = fault.reason, "cancel not carried out");
    }
    Event::Nothing
}

/// Where an operation can be blocked.
fn shards_of(router: &Router, operation: &pb::Operation) -> BTreeSet<ShardId> {
    use pb::operation::Operation;
    let names: Vec<&String> = match &operation.operation {
        Some(Operation::Acquire(acquire)) => acquire.locks.iter().map(|lock| &lock.name).collect(),
        Some(Operation::Upgrade(upgrade)) => vec![&upgrade.name],
        Some(
            Operation::Release(_)
            | Operation::Renew(_)
            | Operation::Downgrade(_)
            | Operation::Proclaim(_),
        )
        | None => Vec::new(),
    };
    let names = names
        .into_iter()
        .filter_map(|name| LockName::new(name).ok());
    names
        .map(|name| router.directory().shard_of_lock(&name))
        .collect()
}

async fn resume(router: &Router, session: SessionId) -> Result<pb::StreamAttached, Fault> {
    let home = router.directory().home_of(session);
    match router
        .command(home, Command::Session(SessionCommand::Resume { session }))
        .await?
    {
        Reply::Session(SessionReply::Opened {
            session: _,
            ttl,
            epoch,
        }) => Ok(pb::StreamAttached {
            ttl_ms: ttl.0,
            epoch: epoch.0,
        }),
        Reply::Refused(refusal) => Err(refusal.into()),
        other => Err(unexpected(&other).into()),
    }
}

/// A session's id.
///
/// # Errors
/// If it is 0.
pub fn session_id(id: u64) -> Result<SessionId, Fault> {
    match id {
        0 => Err(Fault::invalid(
            "session_id",
            "must be an id that OpenSession gave",
        )),
        id => Ok(SessionId(id)),
    }
}

/// A serial that a client gave.
///
/// # Errors
/// If it is 0, or in the range that nodes give out.
pub fn serial(serial: u64) -> Result<Serial, Fault> {
    match Serial(serial) {
        Serial(0) => Err(Fault::invalid("serial", "must be 1 or more")),
        serial if serial.is_ephemeral() => Err(Fault::invalid(
            "serial",
            format!("must be below {}", Serial::FIRST_EPHEMERAL),
        )),
        serial => Ok(serial),
    }
}

/// What the client has the answers of: at most all before this operation.
///
/// # Errors
/// If it is beyond the operation's own serial.
pub fn acked_below(bound: u64, serial: Serial) -> Result<Serial, Fault> {
    if bound > serial.0 {
        return Err(Fault::invalid(
            "acked_below",
            format!("is {bound}; must be at most the operation's own serial, {serial}"),
        ));
    }
    Ok(Serial(bound))
}

/// What else the client has the answers of: ranges after the bound, without the operation itself.
///
/// # Errors
/// If they are not so, or too many.
pub fn acked(
    ranges: &[pb::SerialRange],
    below: Serial,
    serial: Serial,
) -> Result<AckedRanges, Fault> {
    let sound = ranges
        .iter()
        .all(|range| range.first >= below.0 && !(range.first..=range.last).contains(&serial.0));
    let ranges = ranges.iter().map(|range| SerialRange {
        from: Serial(range.first),
        below: Serial(range.last.saturating_add(1)),
    });
    let ranges = AckedRanges::new(ranges).filter(|_| sound);
    ranges.ok_or_else(|| {
        let words = format!(
            "must be at most {MAX_RANGES_PER_REQUEST} ranges, ascending, after acked_below, and without the operation's own serial"
        );
        Fault::invalid("acked", words)
    })
}

/// A unary call's serial: the client's, or one that is good for this call alone.
///
/// # Errors
/// If it is in the range that nodes give out.
pub fn unary_serial(given: u64) -> Result<Serial, Fault> {
    match given {
        0 => Ok(Serial(Serial::FIRST_EPHEMERAL.0 | rand::random::<u64>())),
        given => serial(given),
    }
}
