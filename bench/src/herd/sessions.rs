//! The sessions of a herd, which speak the plain protocol rather than the SDK's.
//!
//! Invariant: every message that a session gets is counted here, and none comes that is not about
//! the lock: the sessions' TTL allows them to send no keep-alives.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lockstep_drill::poll::until;
use lockstep_proto::lock::v1::{
    AcquireOperation, AttachStream, Grant, LockMode, LockSpec, OpenSessionRequest, Operation,
    ReleaseOperation, SessionRequest, SessionResponse, lock_service_client::LockServiceClient,
    operation::Operation as Work, operation_result::Result as Answer, session_request::Request,
    session_response::Response,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use super::Part;
use crate::{
    peer::{CLIENTS_PER_CONNECTION, Lockstep, Peer as _},
    usage::Usage,
};

/// The lock.
const LOCK: &str = "bench/herd";
/// Longer than the whole takes, so that no session needs to be kept alive.
const TTL: Duration = Duration::from_secs(900);
/// Sessions that are opened at a time.
const OPENING: usize = 64;
/// Messages that one session may have under way: it sends three in all.
const OUTBOUND: usize = 3;
/// How long it may take until all sessions wait: each costs a command, of which some thousands are
/// done in a second.
const QUEUE_LIMIT: Duration = Duration::from_secs(60);
/// How long one message may take: a grant takes a millisecond.
const MESSAGE_LIMIT: Duration = Duration::from_secs(10);

/// What came on the stream of a session.
type Heard = (usize, anyhow::Result<Response>);

/// The sessions and their streams.
pub(super) struct Sessions {
    /// In the order of their numbers.
    ids: Vec<u64>,
    channels: Vec<Channel>,
    /// What each stream sends; empty until it is open.
    outbound: Vec<mpsc::Sender<SessionRequest>>,
    hear: mpsc::Sender<Heard>,
    heard: mpsc::Receiver<Heard>,
    streams: JoinSet<()>,
    /// Who holds the lock, and with which token.
    holder: Option<(usize, u64)>,
    /// Streams that the server has taken.
    attached: usize,
    /// Sessions that wait.
    waiting: usize,
    /// Messages that came since this was last set to 0.
    messages: u64,
}

impl Sessions {
    /// Opens the sessions.
    pub(super) async fn open(lockstep: &Lockstep, count: usize) -> anyhow::Result<Self> {
        let leader = format!("http://{}", lockstep.leader_of(LOCK).await?);
        let mut channels = Vec::new();
        for _ in 0..count.div_ceil(CLIENTS_PER_CONNECTION) {
            channels.push(Endpoint::from_shared(leader.clone())?.connect().await?);
        }
        let opening = stream::iter(0..count).map(|number| {
            let channel = channels.get(number / CLIENTS_PER_CONNECTION).cloned();
            async move {
                let mut service = LockServiceClient::new(channel.context("no connection")?);
                let asked = OpenSessionRequest {
                    ttl_ms: TTL.as_millis() as u64,
                    ..OpenSessionRequest::default()
                };
                anyhow::Ok(service.open_session(asked).await?.into_inner().session_id)
            }
        });
        let ids = opening.buffered(OPENING).try_collect().await?;
        // Room for all that can come: nothing is lost and no stream waits while counters are read.
        let (hear, heard) = mpsc::channel(OUTBOUND * count);
        Ok(Self {
            ids,
            channels,
            outbound: Vec::with_capacity(count),
            hear,
            heard,
            streams: JoinSet::new(),
            holder: None,
            attached: 0,
            waiting: 0,
            messages: 0,
        })
    }

    /// Has all sessions ask for the lock: the first holds it, all others wait.
    pub(super) async fn queue(&mut self, lockstep: &Lockstep) -> anyhow::Result<()> {
        self.ask(0).await?;
        while self.holder.is_none() {
            self.hear_one().await?;
        }
        for number in 1..self.ids.len() {
            self.ask(number).await?;
        }
        let client = lockstep.client().await?;
        let all = self.ids.len() - 1;
        until("all sessions wait", QUEUE_LIMIT, || async {
            match client.get_lock(LOCK).await {
                Ok(lock) if lock.waiter_count as usize == all => Ok(()),
                Ok(lock) => Err(format!("{} wait", lock.waiter_count)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        self.waiting = all;
        while self.attached < self.ids.len() {
            self.hear_one().await?;
        }
        Ok(())
    }

    /// Opens the stream of the next session and asks for the lock on it.
    async fn ask(&mut self, number: usize) -> anyhow::Result<()> {
        let id = *self.ids.get(number).context("no such session")?;
        let channel = self.channels.get(number / CLIENTS_PER_CONNECTION);
        let channel = channel.context("no connection")?.clone();
        let (outbound, requests) = mpsc::channel(OUTBOUND);
        let attach = AttachStream {
            session_id: id,
            resume: false,
        };
        let acquire = AcquireOperation {
            locks: vec![LockSpec {
                name: LOCK.to_owned(),
                mode: LockMode::Exclusive.into(),
                ..LockSpec::default()
            }],
            owner: String::new(),
            wait: None,
            ..AcquireOperation::default()
        };
        for request in [
            Request::Attach(attach),
            operation(1, Work::Acquire(acquire)),
        ] {
            outbound.send(wire(request)).await?;
        }
        self.outbound.push(outbound);
        let hear = self.hear.clone();
        self.streams.spawn(async move {
            if let Err(error) = listen(channel, requests, number, &hear).await {
                let _nobody_listens = hear.send((number, Err(error))).await;
            }
        });
        Ok(())
    }

    /// Releases so often, and counts what that cost. There must be as many waiters.
    pub(super) async fn release_part(
        &mut self,
        lockstep: &Lockstep,
        releases: usize,
    ) -> anyhow::Result<Part> {
        let waiting = self.waiting;
        let counters = lockstep.counters().await?;
        let usage = Usage::now(lockstep.servers())?;
        let begin = Instant::now();
        self.messages = 0;
        let mut released = 0;
        for _ in 0..releases {
            self.release().await?;
            while self.holder.is_none() {
                released += usize::from(self.hear_one().await?);
            }
        }
        while released < releases {
            released += usize::from(self.hear_one().await?);
        }
        Ok(Part {
            waiting,
            releases,
            seconds: begin.elapsed().as_secs_f64(),
            messages: self.messages,
            usage: Usage::now(lockstep.servers())?.since(usage),
            counters: lockstep.counters().await?.since(counters),
        })
    }

    async fn release(&mut self) -> anyhow::Result<()> {
        let (number, token) = self.holder.take().context("nobody holds the lock")?;
        let release = ReleaseOperation {
            name: LOCK.to_owned(),
            token,
        };
        let outbound = self.outbound.get(number).context("no such session")?;
        let request = wire(operation(2, Work::Release(release)));
        outbound.send(request).await?;
        Ok(())
    }

    /// Takes one message; true if it is the answer to a release.
    async fn hear_one(&mut self) -> anyhow::Result<bool> {
        let heard = timeout(MESSAGE_LIMIT, self.heard.recv()).await;
        let heard = heard.with_context(|| format!("no message for {MESSAGE_LIMIT:?}"))?;
        let (number, response) = heard.context("all streams have ended")?;
        self.take(number, response?)
    }

    fn take(&mut self, number: usize, response: Response) -> anyhow::Result<bool> {
        self.messages += 1;
        let result = match response {
            Response::Attached(_) => {
                self.attached += 1;
                return Ok(false);
            }
            Response::Result(result) => result.result,
            other @ (Response::KeptAlive(_) | Response::Ended(_) | Response::Abandoned(_)) => {
                bail!("session {number} of the herd got {other:?}")
            }
        };
        match result {
            Some(Answer::Granted(grants)) => {
                let [Grant { token, .. }] = grants.grants.as_slice() else {
                    bail!("{} grants at once", grants.grants.len());
                };
                ensure!(self.holder.is_none(), "two sessions hold the lock");
                self.holder = Some((number, *token));
                self.waiting = self.waiting.saturating_sub(1);
                Ok(false)
            }
            Some(Answer::Released(_)) => Ok(true),
            other => bail!("session {number} of the herd got {other:?}"),
        }
    }
}

/// Hands on what comes on a stream until it ends.
async fn listen(
    channel: Channel,
    requests: mpsc::Receiver<SessionRequest>,
    number: usize,
    hear: &mpsc::Sender<Heard>,
) -> anyhow::Result<()> {
    let mut service = LockServiceClient::new(channel);
    let answers = service.session(ReceiverStream::new(requests)).await?;
    let mut answers = answers.into_inner();
    while let Some(SessionResponse { response }) = answers.message().await? {
        let response = response.context("a message that this version does not know");
        hear.send((number, response)).await?;
    }
    bail!("the stream of session {number} has ended")
}

const fn operation(serial: u64, work: Work) -> Request {
    Request::Operation(Operation {
        serial,
        acked_below: serial,
        acked: Vec::new(),
        operation: Some(work),
    })
}

const fn wire(request: Request) -> SessionRequest {
    SessionRequest {
        request: Some(request),
    }
}
