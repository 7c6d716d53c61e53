//! How nodes keep up with the cluster's tables and with who leads what: each follows every other.
//!
//! Nodes that hold the meta shard see its tables change; the others hear of it here, and so does a
//! node of the leaders of shards that it does not hold. Invariant: news only say where to ask, so
//! lost or late ones cost a hop; newer tables replace older ones, never the reverse.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use lockstep_model::{Answer, MetaAnswer, NodeId, ShardId};
use lockstep_proto::raft::v1 as pb;
use openraft::async_runtime::WatchReceiver as _;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::router::Router;

/// News are sent this often even when nothing has changed: a stream that is silent for
/// [`SILENCE`] is dead.
const PERIOD: Duration = Duration::from_secs(2);
/// How long a peer's stream may be silent.
const SILENCE: Duration = Duration::from_secs(6);
/// Pause before a peer's stream is opened again.
const PAUSE: Duration = Duration::from_millis(500);
/// News that wait for a slow reader; it gets the newest when it reads on.
const AHEAD: usize = 1;

/// Tells a peer what this node knows: at once, when it changes, and every [`PERIOD`].
#[must_use]
pub fn serve(
    router: Arc<Router>,
    revision: u64,
) -> ReceiverStream<Result<pb::FollowResponse, Status>> {
    let (news, outgoing) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let mut revision = revision;
        let mut changes = router.directory().watch_changes();
        loop {
            changes.mark_unchanged();
            if news.send(Ok(tell(&router, &mut revision))).await.is_err() {
                return;
            }
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                () = sleep(PERIOD) => {}
                () = news.closed() => return,
            }
        }
    });
    ReceiverStream::new(outgoing)
}

fn tell(router: &Router, revision: &mut u64) -> pb::FollowResponse {
    let view = router.directory().view();
    let tables = if view.revision > *revision {
        *revision = view.revision;
        Bytes::from(Answer::Meta(MetaAnswer::Cluster(Some(view))).encode())
    } else {
        Bytes::new()
    };
    let leads = router.replicas();
    let leads = leads.iter().filter_map(|replica| {
        let metrics = replica.raft.metrics();
        let metrics = metrics.borrow_watched();
        Some(pb::Lead {
            shard: replica.shard.0,
            term: metrics.current_term,
            node_id: metrics.current_leader?,
        })
    });
    pb::FollowResponse {
        tables,
        leads: leads.collect(),
    }
}

/// Follows every other node of the registry until cancelled.
pub async fn follow(router: Arc<Router>, stop: CancellationToken) {
    let mut changes = router.directory().watch_changes();
    let mut followed: BTreeMap<NodeId, CancellationToken> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let me = router.directory().me;
        let nodes: Vec<_> = router
            .directory()
            .nodes()
            .into_iter()
            .map(|record| record.node)
            .filter(|node| *node != me)
            .collect();
        followed.retain(|node, one| {
            let stays = nodes.contains(node);
            if !stays {
                one.cancel();
            }
            stays
        });
        for node in nodes {
            followed.entry(node).or_insert_with(|| {
                let one = stop.child_token();
                let following = follow_one(Arc::clone(&router), node);
                tokio::spawn(one.clone().run_until_cancelled_owned(following));
                one
            });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

async fn follow_one(router: Arc<Router>, node: NodeId) {
    loop {
        // How it ends is of no interest: it is opened again.
        if let Err(status) = listen(&router, node).await {
            tracing::debug!(%node, %status, "not following");
        }
        sleep(PAUSE).await;
    }
}

async fn listen(router: &Router, node: NodeId) -> Result<(), Status> {
    let directory = router.directory();
    let Some(record) = directory.node(node) else {
        return Ok(());
    };
    let peer = router
        .peers()
        .get(node, &record.peer_address)
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    let silent = |_| Status::deadline_exceeded("silent");
    let request = pb::FollowRequest {
        revision: directory.revision(),
    };
    let mut news = timeout(SILENCE, peer.client().follow(request))
        .await
        .map_err(silent)??
        .into_inner();
    while let Some(told) = timeout(SILENCE, news.message()).await.map_err(silent)?? {
        hear(router, told);
    }
    Ok(())
}

fn hear(router: &Router, told: pb::FollowResponse) {
    if !told.tables.is_empty() {
        match Answer::decode(&told.tables) {
            Ok(Answer::Meta(MetaAnswer::Cluster(Some(view))))
                if view.cluster == router.directory().cluster =>
            {
                router.directory().update(view);
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "a peer's tables cannot be read"),
        }
    }
    for lead in told.leads {
        let shard = ShardId(lead.shard);
        if router.replica(shard).is_none() {
            let leader = NodeId(lead.node_id);
            router.directory().hear_leader(shard, lead.term, leader);
        }
    }
}
