//! `lockstep.cluster.v1.ClusterService`.
//!
//! Invariant: every call is answered from what this node knows, without waiting for a quorum.

use std::sync::Arc;

use lockstep_proto::cluster::v1::{self as pb, cluster_service_server::ClusterService};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{directory::Directory, entry::Entry, router::Router, status};

/// Placements that wait for a slow reader; it gets the newest when it reads on.
const AHEAD: usize = 1;

/// Serves what the cluster is made of.
#[derive(Clone)]
pub struct ClusterServer {
    /// The way in.
    pub entry: Entry,
    /// Cancelled when the node stops.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl ClusterService for ClusterServer {
    type WatchPlacementStream = ReceiverStream<Result<pb::WatchPlacementResponse, Status>>;

    async fn get_status(
        &self,
        _request: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        let router = self.entry.router()?;
        Ok(Response::new(status::cluster(&router).await))
    }

    async fn watch_placement(
        &self,
        _request: Request<pb::WatchPlacementRequest>,
    ) -> Result<Response<Self::WatchPlacementStream>, Status> {
        let router = self.entry.router()?;
        let (placements, outgoing) = mpsc::channel(AHEAD);
        let stop = self.stop.child_token();
        tokio::spawn(async move {
            let _ = stop
                .run_until_cancelled_owned(watch(router, placements))
                .await;
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

async fn watch(
    router: Arc<Router>,
    placements: mpsc::Sender<Result<pb::WatchPlacementResponse, Status>>,
) {
    let mut changes = router.directory().watch_changes();
    loop {
        changes.mark_unchanged();
        if placements
            .send(Ok(placement(router.directory())))
            .await
            .is_err()
        {
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = placements.closed() => return,
        }
    }
}

fn placement(directory: &Directory) -> pb::WatchPlacementResponse {
    pb::WatchPlacementResponse {
        cluster_id: directory.cluster.to_string(),
        nodes: directory
            .nodes()
            .into_iter()
            .map(|node| pb::NodeEndpoint {
                node_id: node.node.0,
                client_address: node.client_address,
            })
            .collect(),
        shards: directory
            .shards()
            .map(|shard| pb::ShardPlacement {
                shard: shard.0,
                leader: directory.leader(shard).map_or(0, |leader| leader.0),
                replicas: directory
                    .replicas(shard)
                    .into_iter()
                    .map(|node| node.0)
                    .collect(),
            })
            .collect(),
        ring_version: directory.settings.ring_version,
    }
}
