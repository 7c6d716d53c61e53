//! The task that looks after one replica: it follows who leads, and does the leader's chores.
//!
//! Invariant: chores (expiry, checkpoints, ended waits) are proposed only by a replica that a
//! quorum has just confirmed as leader, after its state has caught up with its own log.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use lockstep_model::{
    Answer, Command, Machine, MetaAnswer, MetaQuery, Query, Reply, SessionCommand, ShardId,
    ShardTime, session::EndReason,
};
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{Replica, clock, reaper::Reaper};
use crate::{
    boot_time::BootTime,
    directory::Directory,
    request::{Request, RequestError},
    router::Router,
};

/// How often deadlines are looked at: an expiry is late by this at most.
const TICK: Duration = Duration::from_millis(200);

/// Looks after a replica until cancelled.
pub async fn tend(replica: Arc<Replica>, router: Arc<Router>, stop: CancellationToken) {
    let mut metrics = replica.raft.server_metrics();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lead = Lead::Follows;
    let reaper = Reaper::new(Arc::clone(&replica), Arc::clone(&router));
    let directory = router.directory();
    let waits = WaitExpiry::default();
    loop {
        let over = waits.next(&replica, lead);
        let wake = tokio::select! {
            () = stop.cancelled() => return,
            () = over => Wake::Deadline,
            changed = metrics.changed() => {
                if changed.is_err() { return }
                Wake::Raft
            }
            _ = ticks.tick() => Wake::Tick,
            () = replica.clock.changed.notified() => Wake::Changed,
        };
        let (state, leader) = {
            let seen = metrics.borrow_watched();
            (seen.state, seen.current_leader)
        };
        if !replica.eligibility.is_admitted() {
            admit(&replica);
        }
        directory.set_leader(replica.shard, leader.map(lockstep_model::NodeId));
        if replica.shard == ShardId::META {
            follow_tables(&replica, directory);
        }
        if wake == Wake::Tick {
            let replicas = router.replicas().len();
            replica
                .keeper
                .look(&replica.raft, &router.storage.space(), replicas);
        }
        let leads = state == ServerState::Leader;
        lead = match (lead, leads) {
            (Lead::Follows, true) => begin(&replica).await,
            (Lead::Leads, true) => {
                match wake {
                    // With every batch: nothing may be done here that grows with what the shard holds.
                    Wake::Raft => {}
                    Wake::Deadline => waits.expire(&replica),
                    Wake::Changed => {
                        waits.expire(&replica);
                        reaper.wake();
                    }
                    Wake::Tick => {
                        waits.expire(&replica);
                        look_after_sessions(&replica);
                        reaper.wake();
                    }
                }
                Lead::Leads
            }
            (Lead::Leads, false) => {
                tracing::info!(shard = %replica.shard, "lost the lead");
                replica.clock.stop();
                replica.waiters.clear();
                Lead::Follows
            }
            (Lead::Follows, false) => Lead::Follows,
        };
    }
}

/// What there is to look at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wake {
    /// The earliest deadline of a wait has come.
    Deadline,
    /// What Raft says of the replica has changed.
    Raft,
    /// A moment has passed.
    Tick,
    /// The earliest deadline of a wait has changed, or a session has ended.
    Changed,
}

/// Lets a replica stand for election once nothing from before binds it any more.
fn admit(replica: &Replica) {
    let metrics = replica.raft.metrics();
    let last = metrics.borrow_watched().last_applied;
    if replica.eligibility.admits(last, BootTime::now()) {
        tracing::debug!(shard = %replica.shard, "nothing from before this start binds the replica any more: it stands for election");
        replica.raft.runtime_config().elect(true);
    }
}

/// Whether the leader's chores have begun.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lead {
    Follows,
    Leads,
}

/// Starts the session clock once all that earlier leaders committed is applied here.
async fn begin(replica: &Replica) -> Lead {
    if replica.confirm_leadership().await.is_err() {
        return Lead::Follows;
    }
    if let Machine::Data(shard) = &*replica.machine.read() {
        let sessions = shard.home_sessions().map(|session| clock::Start {
            session: session.session,
            ttl: session.ttl,
            left: session.checkpoint,
            revoked: session.revoked,
        });
        replica.clock.start(sessions, BootTime::now());
    }
    tracing::info!(shard = %replica.shard, "leads");
    Lead::Leads
}

/// Ends waits whose time is over.
#[derive(Default)]
struct WaitExpiry {
    under_way: Arc<AtomicBool>,
}

impl WaitExpiry {
    /// Returns when the earliest deadline of the shard's waits has come, if this replica leads.
    fn next(&self, replica: &Replica, lead: Lead) -> impl Future<Output = ()> + use<> {
        let until = match lead {
            Lead::Leads if !self.under_way.load(Ordering::Acquire) => {
                deadline(replica).map(|deadline| replica.time.until(deadline))
            }
            Lead::Leads | Lead::Follows => None,
        };
        async move {
            match until {
                Some(until) => sleep(until).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Proposes to end the waits that are over; one proposal at a time.
    fn expire(&self, replica: &Arc<Replica>) {
        let over = deadline(replica).is_some_and(|deadline| deadline <= replica.time.now());
        if !over || self.under_way.swap(true, Ordering::AcqRel) {
            return;
        }
        let (replica, under_way) = (Arc::clone(replica), Arc::clone(&self.under_way));
        tokio::spawn(async move {
            propose(&replica, Command::Expire).await;
            under_way.store(false, Ordering::Release);
            replica.clock.changed.notify_one();
        });
    }
}

fn deadline(replica: &Replica) -> Option<ShardTime> {
    match &*replica.machine.read() {
        Machine::Data(shard) => shard.next_deadline(),
        Machine::Meta(_) => None,
    }
}

/// Every meta replica tells its node what the tables say.
fn follow_tables(replica: &Replica, directory: &Directory) {
    if let Answer::Meta(MetaAnswer::Cluster(Some(view))) = replica
        .machine
        .read()
        .query(&Query::Meta(MetaQuery::Cluster))
    {
        directory.update(view);
    }
}

/// Ends what is over, and writes down what is silent: in the order in which the clock decides.
fn look_after_sessions(replica: &Arc<Replica>) {
    let write_down = |remaining| {
        let checkpoint = Command::Session(SessionCommand::Checkpoint { remaining });
        if let Err(error) = replica.proposer.enqueue(checkpoint) {
            tracing::debug!(shard = %replica.shard, %error, "checkpoint not written; the next one is");
        }
    };
    let expired = replica.clock.tick(BootTime::now(), write_down);
    if !expired.is_empty() {
        let replica = Arc::clone(replica);
        tokio::spawn(async move { expire(&replica, expired).await });
    }
}

async fn propose(replica: &Replica, command: Command) {
    if let Err(error) = replica.execute(Request::Command(command)).await {
        tracing::debug!(shard = %replica.shard, %error, "a chore was not done; it comes again");
    }
}

/// Ends sessions whose time is over, if a quorum confirms that it is for this replica to say.
async fn expire(replica: &Replica, sessions: Vec<lockstep_model::SessionId>) {
    if replica.confirm_leadership().await.is_err() {
        replica.clock.not_expired(&sessions);
        return;
    }
    for session in sessions {
        let command = Command::Session(SessionCommand::End {
            session,
            reason: EndReason::Expired,
        });
        let ended: Result<Reply, RequestError> = replica.proposer.propose(command).await;
        match ended {
            Ok(_) => tracing::info!(%session, shard = %replica.shard, "session expired"),
            Err(error) => {
                tracing::debug!(%session, %error, "expiry not committed");
                replica.clock.not_expired(&[session]);
            }
        }
    }
}
