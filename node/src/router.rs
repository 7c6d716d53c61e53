//! The way from a request to the leader of its shard: here, or one hop away.
//!
//! Invariant: a request is repeated only when the failure says that nothing was done, or when the
//! state machine de-duplicates it. What cannot be repeated safely is reported as unknown.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lockstep_model::{
    Command, Millis, NodeId, Query, Refusal, Reply, SessionCommand, SessionId, SessionRefusal,
    SessionReply, ShardId,
};
use parking_lot::RwLock;
use rand::{Rng as _, seq::IndexedRandom as _};
use tokio::{sync::watch, time::sleep};

use crate::{
    directory::Directory,
    peer::Peers,
    placement::Progress,
    replica::{Replica, Replicas, closed::Closed},
    request::{Request, RequestError, Response},
    shard_state,
    storage::Storage,
};

/// How long a request looks for a leader before it is refused. Longer than an election, short
/// enough that a client in a minority is told within a bounded time.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before the first repetition; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause between repetitions.
const MAX_PAUSE: Duration = Duration::from_millis(200);
/// An attempt that lasted this long was blocked at a leader, not looking for one: patience starts
/// anew. Longer than it takes to notice a cut connection.
const LONG_ATTEMPT: Duration = Duration::from_secs(10);

/// How often a session is attached for one request: once is enough unless leaders change, or thousands
/// of sessions end while the attach is under way.
const MAX_ATTACHES: usize = 5;

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No leader could be asked in time. Nothing was done.
    #[error("shard {shard} has no leader that can be reached; try again")]
    NoLeader {
        /// Which.
        shard: ShardId,
    },
    /// The answer was lost, and the request cannot be repeated safely.
    #[error(
        "the leader of shard {shard} was lost before it answered: the request may or may not have been carried out; look before you repeat it"
    )]
    UnknownOutcome {
        /// Which.
        shard: ShardId,
    },
    /// The leader has too much to do. Nothing was done.
    #[error("shard {shard} has too many requests queued; try again later")]
    Overloaded {
        /// Which.
        shard: ShardId,
    },
    /// The leader's disk is nearly full, and the request needs room. Nothing was done.
    #[error(
        "the disk of the node that leads shard {shard} is nearly full, and it takes on nothing that needs more room: free some space on its volume or enlarge it, or release locks and close sessions, then try again"
    )]
    DiskLow {
        /// Which.
        shard: ShardId,
    },
    /// Keep-alive of a session that is not there.
    #[error("the session does not exist: it has ended, or was never opened; open another")]
    NoSession,
    /// The nodes' versions differ too much.
    #[error("the leader does not understand the request: {what}")]
    Incompatible {
        /// What it said.
        what: String,
    },
}

/// Routes requests.
pub struct Router {
    directory: Arc<Directory>,
    peers: Arc<Peers>,
    replicas: RwLock<Replicas>,
    /// False while those that the node starts with are being opened.
    opened: AtomicBool,
    /// What the placement driver last saw, if it runs here.
    pub placement: Progress,
    /// For whoever reads a shard's whole state from here.
    pub states: shard_state::Turns,
    /// Replicas that should be open here and are not.
    pub closed: Closed,
    /// What this node keeps on disk.
    pub storage: Arc<Storage>,
}

impl Router {
    /// A router without local replicas; they are added as they are opened.
    #[must_use]
    pub fn new(directory: Arc<Directory>, peers: Arc<Peers>, storage: Arc<Storage>) -> Self {
        Self {
            directory,
            peers,
            replicas: RwLock::default(),
            opened: AtomicBool::new(false),
            placement: Progress::default(),
            states: shard_state::Turns::default(),
            closed: Closed::default(),
            storage,
        }
    }

    /// Adds a replica: from now on it is reached.
    pub fn add(&self, replica: Arc<Replica>) {
        self.replicas.write().insert(replica.shard, replica);
    }

    /// Of the replicas that the node starts with, each is open, or known to stay closed.
    pub fn set_opened(&self) {
        self.opened.store(true, Ordering::Release);
    }

    /// False while the replicas that the node starts with are being opened.
    #[must_use]
    pub fn is_opened(&self) -> bool {
        self.opened.load(Ordering::Acquire)
    }

    /// Takes a replica out: no further request reaches it.
    pub fn remove(&self, shard: ShardId) -> Option<Arc<Replica>> {
        self.replicas.write().remove(&shard)
    }

    /// The replicas that are open on this node.
    #[must_use]
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.read().values().cloned().collect()
    }

    /// The replica of a shard on this node.
    #[must_use]
    pub fn replica(&self, shard: ShardId) -> Option<Arc<Replica>> {
        self.replicas.read().get(&shard).cloned()
    }

    /// Where things are.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The other nodes.
    #[must_use]
    pub fn peers(&self) -> &Peers {
        &self.peers
    }

    /// Serves a request at the shard's leader, and tries again while that is safe.
    ///
    /// # Errors
    /// If no leader answers in time, or the outcome is unknown and the request not repeatable.
    pub async fn execute(&self, shard: ShardId, request: Request) -> Result<Response, RouteError> {
        let mut since = Instant::now();
        let mut pause = MIN_PAUSE;
        let mut hint = None;
        loop {
            let began = Instant::now();
            let error = match self.attempt(shard, request.clone(), hint.take()).await {
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            if began.elapsed() > LONG_ATTEMPT {
                since = Instant::now();
                pause = MIN_PAUSE;
            }
            match error {
                RequestError::NotLeader { leader } => hint = leader,
                RequestError::Unreachable { .. } => {}
                RequestError::UnknownOutcome if repeatable(&request) => {}
                RequestError::UnknownOutcome => {
                    return Err(RouteError::UnknownOutcome { shard });
                }
                RequestError::Busy => return Err(RouteError::Overloaded { shard }),
                RequestError::DiskLow => return Err(RouteError::DiskLow { shard }),
                RequestError::NoSession => return Err(RouteError::NoSession),
                RequestError::Malformed { what } => {
                    return Err(RouteError::Incompatible { what });
                }
            }
            if since.elapsed() > PATIENCE {
                return Err(RouteError::NoLeader { shard });
            }
            if hint.is_none() {
                let jitter = rand::rng().random_range(0.5..1.0);
                sleep(pause.mul_f64(jitter)).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
        }
    }

    /// One attempt, at the node that is thought to lead.
    async fn attempt(
        &self,
        shard: ShardId,
        request: Request,
        hint: Option<NodeId>,
    ) -> Result<Response, RequestError> {
        let me = self.directory.me;
        let leader = hint
            .or_else(|| self.directory.leader(shard))
            .or_else(|| self.replica(shard).map(|_| me))
            .or_else(|| {
                let voters = self.directory.replicas(shard);
                voters.choose(&mut rand::rng()).copied()
            })
            .ok_or(RequestError::NotLeader { leader: None })?;
        if leader == me {
            return match self.replica(shard) {
                Some(replica) => replica.execute(request).await,
                None => Err(RequestError::NotLeader { leader: None }),
            };
        }
        let node = self
            .directory
            .node(leader)
            .ok_or(RequestError::Unreachable { node: leader })?;
        let peer = self
            .peers
            .get(leader, &node.peer_address)
            .map_err(|_| RequestError::Unreachable { node: leader })?;
        let follow = self
            .directory
            .watch_leader(shard)
            .ok_or(RequestError::NotLeader { leader: None })?;
        let replaced = replaced(follow, leader);
        tokio::select! {
            answer = peer.execute.call(shard, request) => answer,
            // The one that was asked has been deposed; its answer may never come.
            _ = replaced => Err(RequestError::UnknownOutcome),
        }
    }

    /// Changes a shard.
    ///
    /// # Errors
    /// As [`Router::execute`].
    pub async fn command(&self, shard: ShardId, command: Command) -> Result<Reply, RouteError> {
        match self.execute(shard, Request::Command(command)).await? {
            Response::Reply(reply) => Ok(reply),
            other @ (Response::Answer(_) | Response::KeptAlive(_)) => Err(mismatch(&other)),
        }
    }

    /// Reads from a shard, linearizably.
    ///
    /// # Errors
    /// As [`Router::execute`].
    pub async fn query(
        &self,
        shard: ShardId,
        query: Query,
    ) -> Result<lockstep_model::Answer, RouteError> {
        match self.execute(shard, Request::Query(query)).await? {
            Response::Answer(answer) => Ok(answer),
            other @ (Response::Reply(_) | Response::KeptAlive(_)) => Err(mismatch(&other)),
        }
    }

    /// Extends a session; its TTL.
    ///
    /// # Errors
    /// As [`Router::execute`], and if there is no such session.
    pub async fn keep_alive(&self, session: SessionId) -> Result<Millis, RouteError> {
        let home = self.directory.home_of(session);
        match self.execute(home, Request::KeepAlive(session)).await? {
            Response::KeptAlive(ttl) => Ok(ttl),
            other @ (Response::Reply(_) | Response::Answer(_)) => Err(mismatch(&other)),
        }
    }

    /// Waits until a session is over, or revoked; the refusal that says so.
    ///
    /// # Errors
    /// As [`Router::execute`].
    pub async fn await_end(&self, session: SessionId) -> Result<Refusal, RouteError> {
        let home = self.directory.home_of(session);
        match self.execute(home, Request::AwaitEnd(session)).await? {
            Response::Reply(Reply::Refused(refusal)) => Ok(refusal),
            other @ (Response::Reply(_) | Response::Answer(_) | Response::KeptAlive(_)) => {
                Err(mismatch(&other))
            }
        }
    }

    /// Changes a shard on behalf of a session, and makes the session known there first if need be.
    ///
    /// # Errors
    /// As [`Router::execute`]. That the session is gone is a reply, not an error.
    pub async fn session_command(
        &self,
        session: SessionId,
        shard: ShardId,
        command: Command,
    ) -> Result<Reply, RouteError> {
        for _ in 0..MAX_ATTACHES {
            let reply = self.command(shard, command.clone()).await?;
            if !matches!(
                reply,
                Reply::Refused(Refusal::Session(SessionRefusal::NotAttached { .. }))
            ) {
                return Ok(reply);
            }
            if let Some(refused) = self.attach(session, shard).await? {
                return Ok(Reply::Refused(refused));
            }
        }
        Err(RouteError::Overloaded { shard })
    }

    /// Records at the session's home that it uses the shard, then tells the shard. A refusal if the
    /// session is gone.
    async fn attach(
        &self,
        session: SessionId,
        shard: ShardId,
    ) -> Result<Option<Refusal>, RouteError> {
        let home = self.directory.home_of(session);
        if home == shard {
            return Ok(Some(Refusal::Session(SessionRefusal::NoSession {
                session,
            })));
        }
        for _ in 0..MAX_ATTACHES {
            let touch = Command::Session(SessionCommand::TouchShard { session, shard });
            let (touch, priority, opened) = match self.command(home, touch).await? {
                Reply::Session(SessionReply::Touched {
                    touch,
                    priority,
                    opened,
                }) => (touch, priority, opened),
                Reply::Refused(refusal) => return Ok(Some(refusal)),
                other => return Err(unexpected(&other)),
            };
            let attach = Command::Session(SessionCommand::Attach {
                session,
                priority,
                opened,
                touch,
            });
            match self.command(shard, attach).await? {
                Reply::Done => return Ok(None),
                Reply::Refused(Refusal::Session(SessionRefusal::AttachTooOld { .. })) => {}
                Reply::Refused(refusal) => return Ok(Some(refusal)),
                other => return Err(unexpected(&other)),
            }
        }
        tracing::warn!(%session, %shard, "attaches are overtaken by ends again and again");
        Err(RouteError::Overloaded { shard })
    }
}

/// Returns once somebody else than `leader` is seen to have taken the lead.
async fn replaced(mut follow: watch::Receiver<Option<NodeId>>, leader: NodeId) {
    follow.mark_unchanged();
    while follow.changed().await.is_ok() {
        if follow.borrow_and_update().is_some_and(|now| now != leader) {
            return;
        }
    }
    // The directory is gone, and so is the node: nothing more will be seen.
    std::future::pending::<()>().await;
}

fn mismatch(response: &Response) -> RouteError {
    RouteError::Incompatible {
        what: format!("it answered {response:?}"),
    }
}

/// A reply that does not belong to its command.
#[must_use]
pub fn unexpected(reply: &Reply) -> RouteError {
    RouteError::Incompatible {
        what: format!("it replied {reply:?}"),
    }
}

/// True if doing it twice is the same as doing it once.
fn repeatable(request: &Request) -> bool {
    match request {
        Request::Query(_) | Request::KeepAlive(_) | Request::AwaitEnd(_) => true,
        Request::Command(command) => command.repeatable(),
    }
}
