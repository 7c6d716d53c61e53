//! One shard's copy on this node: the Raft group member, its state machine, and, while it leads,
//! the queue of commands, the blocked requests and the session clock.
//!
//! Invariant: there is one way to change a shard: [`Replica::execute`] on its leader, through the
//! proposer's batches, through the log.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use lockstep_model::{
    Answer, Command, Effect, Machine, Millis, NodeId, Query, Refusal, Reply, Revision, Serial,
    SessionCommand, SessionId, SessionRefusal, ShardId, ShardTime, locks::change::Change,
    session::EndReason,
};
use openraft::{
    Raft, ReadPolicy, ServerState,
    async_runtime::WatchReceiver as _,
    errors::{Fatal, RaftError},
};
use parking_lot::{Mutex, RwLock};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    boot_time::BootTime,
    raft::types::{TypeConfig, Vote},
    request::{Request, RequestError, Response},
    storage::{EffectSink, Level, MachineStore, Space},
    watch::{history::History, staleness::Pulse},
};

pub mod clock;
pub mod closed;
pub mod eligibility;
pub mod log_keeper;
pub mod members;
pub mod proposer;
pub mod reaper;
pub mod shard_clock;
pub mod tend;
pub mod waiters;

use clock::{KeepAlive, SessionClock};
use eligibility::Eligibility;
use log_keeper::LogKeeper;
use proposer::Proposer;
use shard_clock::ShardClock;
use waiters::Waiters;

/// How long a linearizable read may wait for a quorum to confirm the leader.
const READ_TIMEOUT: Duration = Duration::from_secs(4);

/// A shard without a leader for so long after the start has lost its quorum.
const LEADERLESS_GRACE: Duration = Duration::from_secs(10);

/// The Raft handle of a replica.
pub type Group = Raft<TypeConfig, MachineStore>;

/// One shard's copy on this node.
pub struct Replica {
    /// Which shard.
    pub shard: ShardId,
    /// The group member.
    pub raft: Group,
    /// The state that was applied so far.
    pub machine: Arc<RwLock<Machine>>,
    /// The shard's time.
    pub time: Arc<ShardClock>,
    /// The leader's session clock.
    pub clock: Arc<SessionClock>,
    /// The leader's blocked requests.
    pub waiters: Arc<Waiters>,
    /// The leader's queue.
    pub proposer: Proposer,
    /// What has changed lately, for those who watch.
    pub history: Arc<History>,
    /// Whether it follows its leader, for those who watch.
    pub pulse: Pulse,
    /// Whether it may take part in elections.
    pub eligibility: Eligibility,
    /// Keeps its log within its bytes.
    pub keeper: LogKeeper,
    space: Arc<Space>,
    lease: Duration,
    /// The vote under which the lead was last handed over.
    surrendered: Mutex<Option<Vote>>,
    opened: Instant,
    caught_up: AtomicBool,
}

impl Replica {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        shard: ShardId,
        raft: Group,
        storing: Storing,
        leading: &Leading,
        eligibility: Eligibility,
        lease: Duration,
    ) -> Self {
        Self {
            shard,
            proposer: Proposer::start(shard, raft.clone(), leading),
            raft,
            machine: storing.machine,
            keeper: storing.keeper,
            space: storing.space,
            time: Arc::clone(&leading.time),
            clock: Arc::clone(&leading.clock),
            waiters: Arc::clone(&leading.waiters),
            history: Arc::clone(&leading.history),
            pulse: Pulse::default(),
            eligibility,
            lease,
            surrendered: Mutex::default(),
            opened: Instant::now(),
            caught_up: AtomicBool::new(false),
        }
    }

    /// True while this replica leads and a quorum has confirmed that within the lease: nobody else
    /// can lead now. False from the moment when the lead is handed over. Without the vote of an only voter nobody else ever can; openraft counts
    /// confirmations only when other nodes answer, so there would be none.
    #[must_use]
    pub fn leads(&self) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let confirmed = || {
            let acked = metrics.last_quorum_acked;
            acked.is_some_and(|acked| acked.elapsed() < self.lease)
        };
        let only_voter = || {
            let mut configs = metrics
                .membership_config
                .membership()
                .get_joint_config()
                .iter();
            configs.all(|voters| voters.iter().eq([&metrics.id]))
        };
        metrics.state == ServerState::Leader
            && *self.surrendered.lock() != Some(metrics.vote)
            && (confirmed() || only_voter())
    }

    /// Hands the lead over to another voter. The lease on it is given up first, and for good: the other
    /// one is elected without waiting for its end, and an answer that confirms it late must not bring it
    /// back. Raft proposes nothing more under the same vote either.
    ///
    /// # Errors
    /// If Raft has stopped.
    pub async fn hand_over(&self, to: NodeId) -> Result<(), Fatal<TypeConfig>> {
        let vote = self.raft.metrics().borrow_watched().vote;
        *self.surrendered.lock() = Some(vote);
        self.raft.trigger().transfer_leader(to.0).await
    }

    /// Who leads, as far as this replica knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.raft
            .metrics()
            .borrow_watched()
            .current_leader
            .map(NodeId)
    }

    /// True once this replica has applied all that it knew to be committed while somebody led; it
    /// stays true. A shard that finds no leader for [`LEADERLESS_GRACE`] does not hold the node up.
    #[must_use]
    pub fn caught_up(&self) -> bool {
        if self.caught_up.load(Ordering::Relaxed) {
            return true;
        }
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let led = metrics.current_leader.is_some();
        let applied = led
            && metrics.cluster_committed.is_some()
            && metrics.last_applied >= metrics.cluster_committed;
        let caught_up = applied || (!led && self.opened.elapsed() > LEADERLESS_GRACE);
        if applied {
            self.caught_up.store(true, Ordering::Relaxed);
        }
        caught_up
    }

    /// Why this replica is of no use, if so: Raft has given it up, and it neither votes nor serves, or
    /// its proposer has ended. Only opening it anew helps.
    #[must_use]
    pub fn stopped(&self) -> Option<String> {
        if self.proposer.has_ended() {
            return Some("its proposer has ended".to_owned());
        }
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let fatal = metrics.running_state.as_ref().err()?;
        Some(fatal.to_string())
    }

    fn not_leader(&self) -> RequestError {
        let me = *self.raft.node_id();
        RequestError::NotLeader {
            leader: self.leader().filter(|leader| leader.0 != me),
        }
    }

    /// Serves a request, if this replica leads.
    ///
    /// # Errors
    /// If it does not lead, or loses the lead meanwhile.
    pub async fn execute(&self, request: Request) -> Result<Response, RequestError> {
        if !self.leads() {
            return Err(self.not_leader());
        }
        match request {
            Request::Command(command) if command.grows() && self.space.level() != Level::Ample => {
                Err(RequestError::DiskLow)
            }
            Request::Command(command) => self.proposer.propose(command).await.map(Response::Reply),
            Request::Query(query) => self.read(&query).await.map(Response::Answer),
            Request::KeepAlive(session) => self.keep_alive(session).await.map(Response::KeptAlive),
            Request::AwaitEnd(session) => self.await_end(session).await.map(Response::Reply),
        }
    }

    /// A linearizable read (ReadIndex, Raft dissertation section 6.4).
    async fn read(&self, query: &Query) -> Result<Answer, RequestError> {
        self.confirm_leadership().await?;
        Ok(self.machine.read().query(query))
    }

    /// Returns once a quorum has confirmed, after this call began, that this replica leads, and it
    /// has applied all that was committed then.
    ///
    /// # Errors
    /// If it does not lead, or no quorum answers in time.
    pub async fn confirm_leadership(&self) -> Result<(), RequestError> {
        match timeout(
            READ_TIMEOUT,
            self.raft.ensure_linearizable(ReadPolicy::ReadIndex),
        )
        .await
        {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(_) | RaftError::Fatal(_))) | Err(_) => {
                Err(self.not_leader())
            }
        }
    }

    async fn keep_alive(&self, session: SessionId) -> Result<Millis, RequestError> {
        let revive = || {
            self.proposer
                .enqueue(Command::Session(SessionCommand::Revive { session }))
        };
        match self.clock.keep_alive(session, BootTime::now(), revive) {
            KeepAlive::Alive(ttl) => Ok(ttl),
            KeepAlive::Revived { ttl, proposed } => {
                let mut revival = Revival {
                    clock: &self.clock,
                    session,
                    done: false,
                };
                revival.done = proposed?.wait().await? == Reply::Done;
                if revival.done {
                    Ok(ttl)
                } else {
                    // Its end came first.
                    Err(RequestError::NoSession)
                }
            }
            KeepAlive::Gone => Err(RequestError::NoSession),
            KeepAlive::NotReady => Err(RequestError::NotLeader { leader: None }),
        }
    }

    /// Waits until a session is over, or revoked; the refusal that says so.
    async fn await_end(&self, session: SessionId) -> Result<Reply, RequestError> {
        let (answer, answered) = oneshot::channel();
        // Registered first, so that an end that comes meanwhile is not missed.
        self.waiters.register((session, END), answer);
        // Until the clock runs, what earlier leaders committed may not be applied here.
        let runs = self.clock.runs();
        let end = match &*self.machine.read() {
            Machine::Data(shard) => shard.end_of(session),
            Machine::Meta(_) => Some(Refusal::Session(SessionRefusal::NoSession { session })),
        };
        let over = match (runs, end) {
            (false, _) => Some(Err(RequestError::NotLeader { leader: None })),
            (true, Some(refusal)) => Some(Ok(Reply::Refused(refusal))),
            (true, None) => None,
        };
        if let Some(over) = over {
            self.waiters.finish((session, END), &over);
        }
        answered.await.unwrap_or(Err(RequestError::UnknownOutcome))
    }
}

/// The serial under which a session's end is waited for: no operation has it.
const END: Serial = Serial(0);

/// A keep-alive whose proposal is under way. The clock is told how it ended, also where nobody waits for
/// it any more.
struct Revival<'a> {
    clock: &'a SessionClock,
    session: SessionId,
    done: bool,
}

impl Drop for Revival<'_> {
    fn drop(&mut self) {
        self.clock.revived(self.session, self.done);
    }
}

/// What a replica has on disk and in memory.
pub struct Storing {
    /// The state that was applied so far.
    pub machine: Arc<RwLock<Machine>>,
    /// Keeps its log within its bytes.
    pub keeper: LogKeeper,
    /// The room on its node's volume.
    pub space: Arc<Space>,
}

/// What applying leads to; made before the Raft group, because effects go there.
pub struct Leading {
    /// The shard.
    pub shard: ShardId,
    /// The shard's time.
    pub time: Arc<ShardClock>,
    /// Blocked requests.
    pub waiters: Arc<Waiters>,
    /// Session deadlines.
    pub clock: Arc<SessionClock>,
    /// Changes of holders, on every replica.
    pub history: Arc<History>,
}

impl Leading {
    /// Empty: nothing is led yet.
    #[must_use]
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard,
            time: Arc::new(ShardClock::new(Instant::now())),
            waiters: Arc::new(Waiters::default()),
            clock: Arc::new(SessionClock::default()),
            history: Arc::new(History::default()),
        }
    }
}

/// Carries out effects. On a follower nobody waits and no clock runs, and so they do nothing.
pub struct Effects {
    time: Arc<ShardClock>,
    waiters: Arc<Waiters>,
    clock: Arc<SessionClock>,
    history: Arc<History>,
}

impl Effects {
    /// Effects that go to the leader's parts.
    #[must_use]
    pub fn new(leading: &Leading) -> Self {
        Self {
            time: Arc::clone(&leading.time),
            waiters: Arc::clone(&leading.waiters),
            clock: Arc::clone(&leading.clock),
            history: Arc::clone(&leading.history),
        }
    }
}

impl Effects {
    /// Every stream of the session hears of it at once.
    fn tell_end(&self, session: SessionId, reason: EndReason) {
        let refusal = Refusal::Session(SessionRefusal::SessionEnded { session, reason });
        self.waiters.complete(session, END, Reply::Refused(refusal));
    }
}

impl EffectSink for Effects {
    fn effects(&self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Complete {
                    session,
                    serial,
                    reply,
                } => {
                    self.waiters.complete(session, serial, reply);
                }
                Effect::SessionAlive {
                    session,
                    ttl,
                    epoch: _,
                } => self.clock.alive(session, ttl, BootTime::now()),
                Effect::SessionRevoked { session } => {
                    self.clock.revoke(session);
                    let reason = EndReason::Closed;
                    self.tell_end(session, reason);
                }
                Effect::SessionEnding { session, reason } => {
                    self.clock.ended(session);
                    self.tell_end(session, reason);
                }
                Effect::NextDeadline(_) => self.clock.changed.notify_one(),
            }
        }
    }

    fn changes(&self, changes: Vec<Change>) {
        self.history.append(changes);
    }

    fn time(&self, now: ShardTime) {
        self.time.applied(now, Instant::now());
    }

    fn restored(&self, revision: Revision) {
        self.history.restart(revision);
    }
}

/// All replicas on this node.
pub type Replicas = BTreeMap<ShardId, Arc<Replica>>;
