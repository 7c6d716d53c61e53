//! What the driver sees of nodes and shards.
//!
//! Invariant: a shard's members and progress are believed only from a leader that a quorum has just
//! confirmed; of the others nothing is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use futures::future::join_all;
use lockstep_model::{
    Answer, LockAnswer, MetaAnswer, MetaQuery, NodeId, Query, SessionAnswer, ShardId,
    meta::{ClusterView, NodeRecord},
    placement::planner::{NodeState, Observed, ShardView},
};
use lockstep_proto::raft::v1 as pb;
use tokio::time::timeout;

use crate::{router::Router, status};

/// How long a node may take to answer.
const ANSWER: Duration = Duration::from_millis(700);
/// A node that has not answered for so long counts as out of reach: longer than a restart's first
/// moments and an overloaded minute's pauses.
const OUT_OF_REACH: Duration = Duration::from_secs(5);
/// Entries that a replica may be behind and still counts as caught up: what is under way when writes
/// never pause.
const NEARLY: u64 = 64;

/// One round's picture.
pub(super) struct Observation {
    /// For the planner.
    pub(super) observed: Observed,
    /// The members of each shard whose leader is sure of them and changes nothing just now.
    pub(super) members: BTreeMap<ShardId, Members>,
    /// The log index that made each shard's members what they are, joint ones included.
    indexes: BTreeMap<ShardId, u64>,
}

impl Observation {
    /// The log index that made a shard's members what they are.
    pub(super) fn index(&self, shard: ShardId) -> Option<u64> {
        self.indexes.get(&shard).copied()
    }
}

/// A shard's members as its leader has them, in ascending order.
pub(super) struct Members {
    pub(super) voters: Vec<NodeId>,
    pub(super) learners: Vec<NodeId>,
    /// The log index that made them so.
    pub(super) index: u64,
}

/// The tables as the replica on this node has them.
pub(super) fn own_tables(router: &Router) -> Option<ClusterView> {
    let replica = router.replica(ShardId::META)?;
    match replica
        .machine
        .read()
        .query(&Query::Meta(MetaQuery::Cluster))
    {
        Answer::Meta(MetaAnswer::Cluster(view)) => view,
        Answer::Lock(LockAnswer::Lock(_))
        | Answer::Lock(LockAnswer::Locks(_))
        | Answer::Lock(LockAnswer::Valid(_))
        | Answer::Session(SessionAnswer::Sessions(_))
        | Answer::Session(SessionAnswer::Touched(_))
        | Answer::Lock(LockAnswer::Waits(_))
        | Answer::Lock(LockAnswer::Stand(_))
        | Answer::Lock(LockAnswer::Deadlocks { .. })
        | Answer::Lock(LockAnswer::Revision(_))
        | Answer::WrongShard => None,
    }
}

/// Remembers when each node answered last.
#[derive(Default)]
pub(super) struct Witness {
    answered: BTreeMap<NodeId, Instant>,
}

impl Witness {
    /// Asks every node.
    pub(super) async fn look(
        &mut self,
        router: &Router,
        view: &ClusterView,
        limit: usize,
    ) -> Observation {
        let asked = view.nodes.iter().map(|record| ask(router, record));
        let reports = join_all(asked).await;
        let now = Instant::now();
        self.answered
            .retain(|node, _| view.nodes.iter().any(|record| record.node == *node));
        for (record, report) in view.nodes.iter().zip(&reports) {
            let last = self.answered.entry(record.node).or_insert(now);
            if report.is_some() {
                *last = now;
            }
        }
        let reports = view.nodes.iter().zip(reports);
        let reports: Vec<_> = reports
            .filter_map(|(record, report)| Some((record.node, report?)))
            .collect();
        let shards = view.placement.shards.keys();
        let leading: BTreeMap<ShardId, (NodeId, &pb::Replica)> = shards
            .filter_map(|shard| Some((*shard, leading(*shard, &reports)?)))
            .collect();
        Observation {
            observed: Observed {
                settings: view.settings,
                nodes: self.nodes(view),
                shards: view
                    .placement
                    .shards
                    .iter()
                    .map(|(shard, voters)| {
                        let view = match leading.get(shard) {
                            Some((leader, replica)) => shard_view(*leader, replica),
                            // Nothing is done without a leader, so these are only counted.
                            None => ShardView {
                                voters: voters.iter().copied().collect(),
                                ..ShardView::default()
                            },
                        };
                        (*shard, view)
                    })
                    .collect(),
                limit,
            },
            indexes: leading
                .iter()
                .map(|(shard, (_, replica))| (*shard, replica.members_index))
                .collect(),
            members: leading
                .into_iter()
                .filter(|(_, (_, replica))| !replica.joint)
                .map(|(shard, (_, replica))| (shard, members(replica)))
                .collect(),
        }
    }

    fn nodes(&self, view: &ClusterView) -> BTreeMap<NodeId, NodeState> {
        let state = |record: &NodeRecord| NodeState {
            zone: record.zone.clone(),
            lifecycle: view.lifecycle(record.node),
            reachable: self
                .answered
                .get(&record.node)
                .is_some_and(|last| last.elapsed() < OUT_OF_REACH),
        };
        let nodes = view.nodes.iter();
        nodes.map(|record| (record.node, state(record))).collect()
    }

    /// The nodes that have not answered for so long.
    pub(super) fn silent_for(&self, limit: Duration) -> Vec<NodeId> {
        let silent = |(node, last): (&NodeId, &Instant)| (last.elapsed() > limit).then_some(*node);
        self.answered.iter().filter_map(silent).collect()
    }
}

async fn ask(router: &Router, record: &NodeRecord) -> Option<Vec<pb::Replica>> {
    if record.node == router.directory().me {
        return Some(status::local(router));
    }
    let peer = router.peers().get(record.node, &record.peer_address).ok()?;
    let mut client = peer.client();
    let asked = client.replica_status(pb::ReplicaStatusRequest {});
    let answer = timeout(ANSWER, asked).await.ok()?.ok()?.into_inner();
    // Another node may have taken over the address.
    (answer.node_id == record.node.0).then_some(answer.replicas)
}

/// The leader of a shard, if one is sure to be.
fn leading(
    shard: ShardId,
    reports: &[(NodeId, Vec<pb::Replica>)],
) -> Option<(NodeId, &pb::Replica)> {
    let all = reports.iter().flat_map(|(node, replicas)| {
        let of_shard = replicas.iter().filter(|replica| replica.shard == shard.0);
        of_shard.map(move |replica| (*node, replica))
    });
    all.filter(|(node, replica)| replica.leader == node.0 && replica.authoritative)
        .max_by_key(|(_, replica)| replica.term)
}

fn members(replica: &pb::Replica) -> Members {
    let sorted = |nodes: &[u64]| {
        let mut nodes: Vec<_> = nodes.iter().copied().map(NodeId).collect();
        nodes.sort_unstable();
        nodes
    };
    Members {
        voters: sorted(&replica.voters),
        learners: sorted(&replica.learners),
        index: replica.members_index,
    }
}

fn shard_view(leader: NodeId, replica: &pb::Replica) -> ShardView {
    let nodes = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect();
    let near = |progress: &&pb::Progress| {
        progress.matched_index > 0 && progress.matched_index + NEARLY >= replica.last_index
    };
    let followers = replica.progress.iter().filter(near);
    let mut caught_up: BTreeSet<_> = followers.map(|progress| NodeId(progress.node_id)).collect();
    caught_up.insert(leader);
    ShardView {
        voters: nodes(&replica.voters),
        learners: nodes(&replica.learners),
        caught_up,
        leader: Some(leader),
        joint: replica.joint,
    }
}
