//! Has a step carried out by the leader of its shard.
//!
//! Invariant: a node is told of a replica (by the tables) before the shard's leader sends to it, and
//! no longer named in the tables only after it is no member any more.

use lockstep_model::{Command, MetaCommand, NodeId, Reply, ShardId, placement::planner::Step};
use lockstep_proto::raft::v1::{self as pb, change_replicas_request::Change};
use tokio::time::{Duration, timeout};

use super::observe::Observation;
use crate::{
    crash::{self, Point},
    replica::members,
    router::{RouteError, Router},
};

/// How long a step may take, its wait for a quorum included.
const STEP: Duration = Duration::from_secs(12);

/// Why a step was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum StepError {
    #[error("the shard has no leader that is sure of its members")]
    NoLeader,
    #[error("node {0} is not in the registry")]
    NoSuchNode(NodeId),
    #[error("the meta shard refuses: {0}")]
    Refused(lockstep_model::Refusal),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error(transparent)]
    Change(#[from] members::ChangeError),
    #[error("{0}")]
    Peer(String),
    #[error("it took too long")]
    Slow,
}

/// Carries a step out.
pub(super) async fn step(
    router: &Router,
    observation: &Observation,
    step: Step,
) -> Result<(), StepError> {
    let (shard, change) = match step {
        Step::AddLearner { shard, node } => {
            announce(router, observation, shard, node).await?;
            crash::point(Point::LearnerAnnounced);
            let record = router.directory().node(node);
            let record = record.ok_or(StepError::NoSuchNode(node))?;
            let member = pb::Member {
                node_id: node.0,
                peer_address: record.peer_address,
            };
            (shard, Change::AddLearner(member))
        }
        Step::Promote { shard, node } => (shard, Change::Promote(node.0)),
        Step::PromoteAndRemove { shard, add, remove } => {
            let swap = pb::Swap {
                add: add.0,
                remove: remove.0,
            };
            (shard, Change::Swap(swap))
        }
        Step::RemoveReplica { shard, node } => (shard, Change::Remove(node.0)),
        Step::FinishJoint { shard } => (shard, Change::FinishJoint(pb::FinishJoint {})),
        Step::TransferLeader { shard, to } => (shard, Change::TransferLeader(to.0)),
    };
    let seen = observation.observed.shards.get(&shard);
    let leader = seen
        .and_then(|seen| seen.leader)
        .ok_or(StepError::NoLeader)?;
    let index = observation.index(shard).ok_or(StepError::NoLeader)?;
    match timeout(STEP, ask(router, shard, leader, index, change)).await {
        Ok(result) => result?,
        Err(_) => return Err(StepError::Slow),
    }
    crash::point(match step {
        Step::AddLearner { .. } => Point::LearnerAdded,
        Step::Promote { .. } => Point::Promoted,
        Step::PromoteAndRemove { .. } | Step::FinishJoint { .. } => Point::Swapped,
        Step::RemoveReplica { .. } => Point::ReplicaRemoved,
        Step::TransferLeader { .. } => Point::LeadTransferred,
    });
    Ok(())
}

/// Puts a coming learner into the tables, so that its node opens the replica.
async fn announce(
    router: &Router,
    observation: &Observation,
    shard: ShardId,
    node: NodeId,
) -> Result<(), StepError> {
    let members = observation.members.get(&shard).ok_or(StepError::NoLeader)?;
    let mut learners = members.learners.clone();
    learners.push(node);
    let command = MetaCommand::SetReplicas {
        shard,
        voters: members.voters.clone(),
        learners,
        as_of: members.index,
    };
    if let Reply::Refused(refusal) = tell_meta(router, command).await? {
        return Err(StepError::Refused(refusal));
    }
    Ok(())
}

async fn ask(
    router: &Router,
    shard: ShardId,
    leader: NodeId,
    members_index: u64,
    change: Change,
) -> Result<(), StepError> {
    if leader == router.directory().me {
        let replica = router.replica(shard).ok_or(StepError::NoLeader)?;
        return Ok(members::change(&replica, members_index, Some(change)).await?);
    }
    let record = router.directory().node(leader);
    let record = record.ok_or(StepError::NoSuchNode(leader))?;
    let peer = router
        .peers()
        .get(leader, &record.peer_address)
        .map_err(|error| StepError::Peer(error.to_string()))?;
    let request = pb::ChangeReplicasRequest {
        to: Some(router.peers().addressee(leader, shard)),
        members_index,
        change: Some(change),
    };
    let asked = peer.client().change_replicas(request).await;
    asked
        .map(|_| ())
        .map_err(|status| StepError::Peer(status.message().to_owned()))
}

/// Changes the meta shard's tables.
pub(super) async fn tell_meta(router: &Router, command: MetaCommand) -> Result<Reply, RouteError> {
    router.command(ShardId::META, Command::Meta(command)).await
}
