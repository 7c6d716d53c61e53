//! The placement driver: on the meta shard's leader, it moves replicas and leads to where they
//! should be.
//!
//! Each round it looks at what every shard's leader reports, records who holds what, plans, and has
//! the leaders carry the steps out. Invariants: the plan follows from what is observed alone, so a
//! driver that dies at any point is replaced by the next leader's; a round ends only when its steps
//! are done or given up, so none is planned upon another that is still under way; and only a leader
//! that a quorum has just confirmed is believed.

mod carry_out;
mod observe;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use lockstep_model::{
    MetaCommand, NodeId, Reply, ShardId,
    meta::{ClusterView, Lifecycle},
    placement::planner::{Plan, Step, plan},
};
use lockstep_proto::raft::v1 as pb;
use observe::{Observation, Witness};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    crash::{self, Point},
    router::Router,
};

/// How often the driver looks. A move takes a few rounds.
const ROUND: Duration = Duration::from_millis(500);
/// Shards that may have a replica on the move at once: bounds the disk and network that moves take
/// from clients.
const MAX_MOVES: usize = 4;
/// How long leads must have been uneven, and all else calm, before they are spread: longer than a
/// node takes to come up and catch up, so that one that keeps failing is not handed leads.
const SETTLE: Duration = Duration::from_secs(5);

/// What the driver last saw, for those who ask.
#[derive(Default)]
pub struct Progress {
    last: Mutex<Option<(Instant, pb::PlacementProgress)>>,
}

impl Progress {
    /// What is to be said about the placement; none unless the driver runs here.
    #[must_use]
    pub fn present(&self) -> Option<pb::PlacementProgress> {
        let last = self.last.lock();
        let (at, progress) = last.as_ref()?;
        (at.elapsed() < ROUND * 10).then(|| progress.clone())
    }

    fn set(&self, plan: &Plan) {
        let progress = pb::PlacementProgress {
            obstacles: plan.obstacles.iter().map(ToString::to_string).collect(),
            settled: plan.steps.is_empty() && plan.obstacles.is_empty(),
        };
        *self.last.lock() = Some((Instant::now(), progress));
    }
}

/// Drives the placement whenever this node leads the meta shard, until cancelled.
///
/// `replace_lost_after`: a node that has not answered for so long is declared lost; none: only an
/// operator does that.
pub async fn drive(
    router: Arc<Router>,
    replace_lost_after: Option<Duration>,
    stop: CancellationToken,
) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut driver: Option<Driver> = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = rounds.tick() => {}
        }
        let leads = match router.replica(ShardId::META) {
            Some(replica) => replica.leads() && replica.confirm_leadership().await.is_ok(),
            None => false,
        };
        if !leads {
            driver = None;
            continue;
        }
        let driver = driver.get_or_insert_with(|| Driver {
            router: Arc::clone(&router),
            witness: Witness::default(),
            uneven_since: None,
            replace_lost_after,
        });
        tokio::select! {
            () = stop.cancelled() => return,
            () = driver.round() => {}
        }
    }
}

struct Driver {
    router: Arc<Router>,
    witness: Witness,
    uneven_since: Option<Instant>,
    replace_lost_after: Option<Duration>,
}

impl Driver {
    async fn round(&mut self) {
        let Some(view) = observe::own_tables(&self.router) else {
            return;
        };
        let observation = self.witness.look(&self.router, &view, MAX_MOVES).await;
        self.record(&view, &observation).await;
        self.give_up_the_lost(&view).await;
        self.forget_the_replaced(&view).await;
        let mut plan = plan(&observation.observed);
        self.router.placement.set(&plan);
        self.hold_back(&view, &observation, &mut plan);
        if !plan.steps.is_empty() {
            crash::point(Point::StepsPlanned);
        }
        let (router, observation) = (&*self.router, &observation);
        let steps = plan.steps.iter().map(|step| async move {
            tracing::info!(?step, "placement step");
            if let Err(error) = carry_out::step(router, observation, *step).await {
                tracing::warn!(?step, %error, "the step was not carried out");
            }
        });
        join_all(steps).await;
    }

    /// Leads are spread only when that has been wanted for [`SETTLE`]; those of nodes that are
    /// being emptied move at once.
    fn hold_back(&mut self, view: &ClusterView, observation: &Observation, plan: &mut Plan) {
        let spreads = |step: &Step| match step {
            Step::TransferLeader { shard, .. } => {
                let shard = observation.observed.shards.get(shard);
                let leader = shard.and_then(|shard| shard.leader);
                leader.is_some_and(|leader| view.lifecycle(leader) == Lifecycle::Active)
            }
            Step::AddLearner { .. }
            | Step::Promote { .. }
            | Step::PromoteAndRemove { .. }
            | Step::RemoveReplica { .. }
            | Step::FinishJoint { .. } => false,
        };
        if plan.steps.is_empty() || !plan.steps.iter().all(spreads) {
            self.uneven_since = None;
            return;
        }
        let since = self.uneven_since.get_or_insert_with(Instant::now);
        if since.elapsed() < SETTLE || !plan.obstacles.is_empty() {
            plan.steps.clear();
        } else {
            self.uneven_since = None;
        }
    }

    /// Brings the tables in line with what the shards' leaders report.
    async fn record(&self, view: &ClusterView, observation: &Observation) {
        for (shard, members) in &observation.members {
            let placement = &view.placement;
            let sorted = |nodes: Option<&Vec<NodeId>>| {
                let mut nodes = nodes.cloned().unwrap_or_default();
                nodes.sort_unstable();
                nodes
            };
            let same = sorted(placement.shards.get(shard)) == members.voters
                && sorted(placement.learners.get(shard)) == members.learners;
            if !same {
                let voters = members.voters.clone();
                let learners = members.learners.clone();
                self.set_replicas(*shard, voters, learners, members.index)
                    .await;
                crash::point(Point::MembersRecorded);
            }
        }
    }

    async fn set_replicas(
        &self,
        shard: ShardId,
        voters: Vec<NodeId>,
        learners: Vec<NodeId>,
        as_of: u64,
    ) {
        let command = MetaCommand::SetReplicas {
            shard,
            voters,
            learners,
            as_of,
        };
        self.tell_meta(command).await;
    }

    /// Declares nodes lost that have been silent for too long. The meta shard refuses where a
    /// majority would be lost with them.
    async fn give_up_the_lost(&self, view: &ClusterView) {
        let Some(limit) = self.replace_lost_after else {
            return;
        };
        for node in self.witness.silent_for(limit) {
            if view.lifecycle(node) != Lifecycle::Lost {
                tracing::warn!(%node, "declared lost: it has not answered for {limit:?}");
                let command = MetaCommand::SetLifecycle {
                    node,
                    lifecycle: Lifecycle::Lost,
                    expected: None,
                };
                self.tell_meta(command).await;
            }
        }
    }

    /// Takes lost nodes out of the registry that hold nothing any more, and whose name another node
    /// has: their directories are gone, so they can never come back.
    async fn forget_the_replaced(&self, view: &ClusterView) {
        for (at, old) in view.nodes.iter().enumerate() {
            let replaced = view
                .nodes
                .iter()
                .skip(at + 1)
                .any(|new| new.name == old.name);
            if replaced
                && view.lifecycle(old.node) == Lifecycle::Lost
                && view.placement.replicas_on(old.node) == 0
            {
                tracing::info!(node = %old.node, "removed: it was replaced, and holds nothing");
                let command = MetaCommand::RemoveNode {
                    node: old.node,
                    expected: None,
                };
                self.tell_meta(command).await;
            }
        }
    }

    async fn tell_meta(&self, command: MetaCommand) {
        let what = format!("{command:?}");
        match carry_out::tell_meta(&self.router, command).await {
            Ok(Reply::Refused(refusal)) => tracing::warn!(what, %refusal, "not recorded"),
            Ok(_) => {}
            Err(error) => tracing::warn!(what, %error, "not recorded"),
        }
    }
}
