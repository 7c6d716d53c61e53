//! The gRPC services of one node of the fake.
//!
//! Invariant: faults are made here and nowhere else.

mod cluster;
mod watch;

use std::{collections::HashMap, pin::Pin, sync::Arc, time::Duration};

use lockstep_proto::lock::v1::{
    self as lock, OperationAbandoned, SessionRequest, SessionResponse, StreamAttached,
    StreamKeptAlive, lock_service_server::LockService, operation::Operation as Work,
    session_request::Request, session_response::Response, wait::Wait,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream as AsyncStream, wrappers::ReceiverStream};
use tonic::{Code, Response as Reply, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    FakeSession, Fault, STREAM_QUEUE, Seen, Shared, Stream,
    table::{Push, refusal},
};

/// One node.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) node: u64,
    pub(super) shared: Arc<Shared>,
}

fn status(code: Code, reason: &str, message: &str, facts: HashMap<String, String>) -> Status {
    let details = ErrorDetails::with_error_info(reason, "lockstep.dev", facts);
    Status::with_error_details(code, message, details)
}

fn no_session() -> Status {
    status(
        Code::NotFound,
        "SESSION_NOT_FOUND",
        "there is no such session",
        HashMap::new(),
    )
}

impl Node {
    fn check_up(&self) -> Result<(), Status> {
        if self.shared.state.lock().down.contains(&self.node) {
            return Err(Status::unavailable("the node is down"));
        }
        Ok(())
    }

    /// Takes a message of a stream; an error ends it.
    fn receive(&self, stream: u64, session: u64, request: Request) -> Result<(), ()> {
        let mut state = self.shared.state.lock();
        match request {
            Request::Attach(_) => return Err(()),
            Request::KeepAlive(keep_alive) => {
                let open = state.sessions.get_mut(&session).ok_or(())?;
                open.keep_alives += 1;
                let ttl_ms = open.ttl_ms;
                if !state.mute.contains(&self.node) {
                    let kept = StreamKeptAlive {
                        nonce: keep_alive.nonce,
                        ttl_ms,
                    };
                    let outbound = &state.streams.get(&stream).ok_or(())?.outbound;
                    let _full = outbound.try_send(Ok(SessionResponse {
                        response: Some(Response::KeptAlive(kept)),
                    }));
                }
            }
            Request::Cancel(cancel) => {
                state.seen.push(Seen {
                    node: self.node,
                    session,
                    serial: cancel.serial,
                    acked_below: 0,
                    acked: Vec::new(),
                    kind: "cancel",
                    name: String::new(),
                });
                let answers = state.table.give_up(session, cancel.serial, "CANCELLED");
                state.push(answers);
            }
            Request::Abandon(abandon) => {
                state.seen.push(Seen {
                    node: self.node,
                    session,
                    serial: abandon.serial,
                    acked_below: 0,
                    acked: Vec::new(),
                    kind: "abandon",
                    name: abandon.names.first().cloned().unwrap_or_default(),
                });
                let answers = state.table.abandon(session, abandon.serial);
                state.push(answers);
                let outbound = &state.streams.get(&stream).ok_or(())?.outbound;
                let _full = outbound.try_send(Ok(SessionResponse {
                    response: Some(Response::Abandoned(OperationAbandoned {
                        serial: abandon.serial,
                        error: None,
                    })),
                }));
            }
            Request::Operation(operation) => {
                let work = operation.operation.ok_or(())?;
                let (kind, name, timeout) = describe(&work);
                state.seen.push(Seen {
                    node: self.node,
                    session,
                    serial: operation.serial,
                    acked_below: operation.acked_below,
                    acked: operation.acked.iter().map(|r| (r.first, r.last)).collect(),
                    kind,
                    name,
                });
                let no_leader = Fault::Refuse(Code::Unavailable, "NO_LEADER");
                let cut_off = state.cut_off.contains(&self.node).then_some(no_leader);
                match cut_off.or_else(|| state.faults.pop_front()) {
                    Some(Fault::Ignore) => return Ok(()),
                    Some(Fault::LoseRequest) => return Err(()),
                    Some(Fault::Refuse(code, reason)) => {
                        let result = lock::OperationResult {
                            serial: operation.serial,
                            result: Some(refusal(code, reason)),
                        };
                        state.push(vec![Push { stream, result }]);
                        return Ok(());
                    }
                    Some(Fault::LoseAnswer) => {
                        let _lost = state
                            .table
                            .operate(stream, session, operation.serial, &work);
                        return Err(());
                    }
                    None => {}
                }
                let answers = state
                    .table
                    .operate(stream, session, operation.serial, &work);
                state.push(answers);
                if let Some(timeout) = timeout {
                    self.time_out(session, operation.serial, timeout);
                }
            }
        }
        Ok(())
    }

    fn time_out(&self, session: u64, serial: u64, after: Duration) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let mut state = shared.state.lock();
            let answers = state.table.give_up(session, serial, "WAIT_TIMEOUT");
            state.push(answers);
            drop(state);
            shared.changed();
        });
    }

    async fn read(self, stream: u64, session: u64, mut inbound: Streaming<SessionRequest>) {
        while let Ok(Some(message)) = inbound.message().await {
            let received = message
                .request
                .map_or(Err(()), |request| self.receive(stream, session, request));
            self.shared.changed();
            if received.is_err() {
                break;
            }
        }
        self.shared.state.lock().streams.remove(&stream);
        self.shared.changed();
    }

    /// Registers a stream, and answers its attach.
    fn attach(
        &self,
        attach: lock::AttachStream,
    ) -> Result<(u64, mpsc::Receiver<Result<SessionResponse, Status>>), Status> {
        let mut state = self.shared.state.lock();
        state
            .attaches
            .push((self.node, attach.session_id, attach.resume));
        let session = state
            .sessions
            .get_mut(&attach.session_id)
            .filter(|session| session.ended.is_none())
            .ok_or_else(no_session)?;
        session.epoch += u64::from(attach.resume);
        let attached = StreamAttached {
            ttl_ms: session.ttl_ms,
            epoch: session.epoch,
        };
        let (outbound, outbound_rx) = mpsc::channel(STREAM_QUEUE);
        let _room = outbound.try_send(Ok(SessionResponse {
            response: Some(Response::Attached(attached)),
        }));
        let id = state.next_stream;
        state.next_stream += 1;
        state.streams.insert(
            id,
            Stream {
                node: self.node,
                session: attach.session_id,
                outbound,
                reader: None,
            },
        );
        Ok((id, outbound_rx))
    }
}

/// The kind of an operation, its first lock, and how long it may wait.
fn describe(work: &Work) -> (&'static str, String, Option<Duration>) {
    let limit = |wait: &Option<lock::Wait>| match wait.as_ref().and_then(|wait| wait.wait.as_ref())
    {
        Some(Wait::TimeoutMs(millis)) => Some(Duration::from_millis(*millis)),
        Some(Wait::NoWait(_)) | None => None,
    };
    match work {
        Work::Acquire(acquire) => {
            let first = acquire.locks.first().map(|lock| lock.name.clone());
            ("acquire", first.unwrap_or_default(), limit(&acquire.wait))
        }
        Work::Release(release) => ("release", release.name.clone(), None),
        Work::Renew(renew) => ("renew", renew.name.clone(), None),
        Work::Upgrade(upgrade) => ("upgrade", upgrade.name.clone(), limit(&upgrade.wait)),
        Work::Downgrade(downgrade) => ("downgrade", downgrade.name.clone(), None),
        Work::Proclaim(proclaim) => ("proclaim", proclaim.name.clone(), None),
    }
}

type Answered<T> = Result<Reply<T>, Status>;

fn not_faked<T>() -> Answered<T> {
    Err(Status::unimplemented("the fake serves streams only"))
}

#[tonic::async_trait]
impl LockService for Node {
    type SessionStream =
        Pin<Box<dyn AsyncStream<Item = Result<SessionResponse, Status>> + Send + 'static>>;

    async fn open_session(
        &self,
        request: tonic::Request<lock::OpenSessionRequest>,
    ) -> Answered<lock::OpenSessionResponse> {
        self.check_up()?;
        let request = request.into_inner();
        let mut state = self.shared.state.lock();
        let session_id = state.next_session;
        state.next_session += 1;
        state.sessions.insert(
            session_id,
            FakeSession {
                ttl_ms: request.ttl_ms,
                epoch: 1,
                priority: request.priority,
                labels: request.labels,
                ended: None,
                keep_alives: 0,
            },
        );
        drop(state);
        self.shared.changed();
        Ok(Reply::new(lock::OpenSessionResponse {
            session_id,
            ttl_ms: request.ttl_ms,
            epoch: 1,
        }))
    }

    async fn close_session(
        &self,
        request: tonic::Request<lock::CloseSessionRequest>,
    ) -> Answered<lock::CloseSessionResponse> {
        self.check_up()?;
        let id = request.into_inner().session_id;
        let mut state = self.shared.state.lock();
        if state.sessions.get(&id).is_none_or(|s| s.ended.is_some()) {
            return Err(no_session());
        }
        state.end_session(id, "SESSION_CLOSED");
        drop(state);
        self.shared.changed();
        Ok(Reply::new(lock::CloseSessionResponse { lease_ms: 0 }))
    }

    async fn list_sessions(
        &self,
        request: tonic::Request<lock::ListSessionsRequest>,
    ) -> Answered<lock::ListSessionsResponse> {
        self.check_up()?;
        let request = request.into_inner();
        let after = request.page_token.parse().unwrap_or(0_u64);
        let state = self.shared.state.lock();
        let mut sessions: Vec<_> = state
            .sessions
            .iter()
            .filter(|(id, session)| **id > after && session.ended.is_none())
            .map(|(id, session)| lock::SessionInfo {
                session_id: *id,
                ttl_ms: session.ttl_ms,
                epoch: session.epoch,
                priority: session.priority,
                labels: session.labels.clone(),
                opened_at_ms: 1_700_000_000_000,
                shards: vec![1],
                ending: false,
            })
            .collect();
        let more = sessions.len() > request.page_size as usize;
        sessions.truncate(request.page_size as usize);
        let last = sessions.last().map(|session| session.session_id);
        Ok(Reply::new(lock::ListSessionsResponse {
            next_page_token: last
                .filter(|_| more)
                .map_or_else(String::new, |id| id.to_string()),
            sessions,
        }))
    }

    type WatchStream = watch::Told;

    async fn watch(
        &self,
        request: tonic::Request<lock::WatchRequest>,
    ) -> Answered<Self::WatchStream> {
        self.check_up()?;
        let refusal = self.shared.state.lock().refuse_watches;
        if let Some((code, reason)) = refusal {
            return Err(status(code, reason, "the fake refuses", HashMap::new()));
        }
        Ok(Reply::new(self.tell(request.into_inner())))
    }

    async fn list_deadlocks(
        &self,
        _: tonic::Request<lock::ListDeadlocksRequest>,
    ) -> Answered<lock::ListDeadlocksResponse> {
        self.check_up()?;
        let deadlocks = self.shared.state.lock().deadlocks.clone();
        Ok(Reply::new(lock::ListDeadlocksResponse {
            count: deadlocks.len() as u64,
            deadlocks,
        }))
    }

    async fn session(
        &self,
        request: tonic::Request<Streaming<SessionRequest>>,
    ) -> Answered<Self::SessionStream> {
        self.check_up()?;
        let mut inbound = request.into_inner();
        let first = inbound.message().await?.and_then(|first| first.request);
        let Some(Request::Attach(attach)) = first else {
            return Err(Status::invalid_argument("a stream begins with an attach"));
        };
        let (id, outbound) = self.attach(attach)?;
        let reader = tokio::spawn(self.clone().read(id, attach.session_id, inbound)).abort_handle();
        if let Some(stream) = self.shared.state.lock().streams.get_mut(&id) {
            stream.reader = Some(reader);
        }
        self.shared.changed();
        Ok(Reply::new(Box::pin(ReceiverStream::new(outbound))))
    }

    async fn get_lock(
        &self,
        request: tonic::Request<lock::GetLockRequest>,
    ) -> Answered<lock::GetLockResponse> {
        self.check_up()?;
        let lock = self
            .shared
            .state
            .lock()
            .table
            .show(&request.into_inner().name);
        Ok(Reply::new(lock::GetLockResponse { lock: Some(lock) }))
    }

    async fn list_locks(
        &self,
        request: tonic::Request<lock::ListLocksRequest>,
    ) -> Answered<lock::ListLocksResponse> {
        self.check_up()?;
        let request = request.into_inner();
        let state = self.shared.state.lock();
        let locks = state
            .table
            .names()
            .iter()
            .filter(|name| name.starts_with(&request.prefix))
            .map(|name| state.table.show(name))
            .collect();
        Ok(Reply::new(lock::ListLocksResponse {
            locks,
            next_page_token: String::new(),
        }))
    }

    async fn validate(
        &self,
        request: tonic::Request<lock::ValidateRequest>,
    ) -> Answered<lock::ValidateResponse> {
        self.check_up()?;
        let request = request.into_inner();
        let state = self.shared.state.lock();
        let holders = state.table.holders(&request.name);
        let valid = holders.iter().any(|hold| hold.token == request.token);
        Ok(Reply::new(lock::ValidateResponse { valid }))
    }

    async fn keep_alive(
        &self,
        _: tonic::Request<lock::KeepAliveRequest>,
    ) -> Answered<lock::KeepAliveResponse> {
        not_faked()
    }

    async fn acquire(
        &self,
        _: tonic::Request<lock::AcquireRequest>,
    ) -> Answered<lock::AcquireResponse> {
        not_faked()
    }

    async fn abandon(
        &self,
        _: tonic::Request<lock::AbandonRequest>,
    ) -> Answered<lock::AbandonResponse> {
        not_faked()
    }

    async fn release(
        &self,
        _: tonic::Request<lock::ReleaseRequest>,
    ) -> Answered<lock::ReleaseResponse> {
        not_faked()
    }

    async fn renew(&self, _: tonic::Request<lock::RenewRequest>) -> Answered<lock::RenewResponse> {
        not_faked()
    }

    async fn upgrade(
        &self,
        _: tonic::Request<lock::UpgradeRequest>,
    ) -> Answered<lock::UpgradeResponse> {
        not_faked()
    }

    async fn downgrade(
        &self,
        _: tonic::Request<lock::DowngradeRequest>,
    ) -> Answered<lock::DowngradeResponse> {
        not_faked()
    }

    async fn proclaim(
        &self,
        _: tonic::Request<lock::ProclaimRequest>,
    ) -> Answered<lock::ProclaimResponse> {
        not_faked()
    }
}
