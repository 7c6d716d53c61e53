//! `lockstep.cluster.v1.ClusterService`.
//!
//! Invariant: what only describes is answered from what this node knows, without waiting for a quorum.

use std::{sync::Arc, time::Duration};

use lockstep_model::meta::Lifecycle;
use lockstep_proto::cluster::v1::{self as pb, cluster_service_server::ClusterService};
use tokio::{sync::mpsc, time::sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::{backup, nodes};
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
    /// For backups and restores.
    pub turns: Arc<backup::Turns>,
}

#[tonic::async_trait]
impl ClusterService for ClusterServer {
    type WatchPlacementStream = ReceiverStream<Result<pb::WatchPlacementResponse, Status>>;
    type BackupStream = backup::Parts;
    type WatchStatusStream = ReceiverStream<Result<pb::WatchStatusResponse, Status>>;

    async fn get_status(
        &self,
        _request: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        let router = self.entry.router()?;
        let status = status::cluster(&router, self.entry.ready()).await;
        Ok(Response::new(status))
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

    async fn watch_status(
        &self,
        _request: Request<pb::WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        let entry = self.entry.clone();
        let router = self.entry.router()?;
        let (statuses, outgoing) = mpsc::channel(AHEAD);
        let stop = self.stop.child_token();
        tokio::spawn(async move {
            let _ = stop
                .run_until_cancelled_owned(watch_status(entry, router, statuses))
                .await;
        });
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }

    async fn drain_node(
        &self,
        request: Request<pb::DrainNodeRequest>,
    ) -> Result<Response<pb::DrainNodeResponse>, Status> {
        let revision = self
            .set(
                request.get_ref().node_id,
                Lifecycle::Draining,
                request.get_ref().expected_revision,
            )
            .await?;
        Ok(Response::new(pb::DrainNodeResponse { revision }))
    }

    async fn remove_node(
        &self,
        request: Request<pb::RemoveNodeRequest>,
    ) -> Result<Response<pb::RemoveNodeResponse>, Status> {
        let request = request.into_inner();
        let router = self.entry.router()?;
        let revision = nodes::remove(&router, request.node_id, request.expected_revision).await?;
        Ok(Response::new(pb::RemoveNodeResponse { revision }))
    }

    async fn replace_node(
        &self,
        request: Request<pb::ReplaceNodeRequest>,
    ) -> Result<Response<pb::ReplaceNodeResponse>, Status> {
        let revision = self
            .set(
                request.get_ref().node_id,
                Lifecycle::Lost,
                request.get_ref().expected_revision,
            )
            .await?;
        Ok(Response::new(pb::ReplaceNodeResponse { revision }))
    }

    async fn activate_node(
        &self,
        request: Request<pb::ActivateNodeRequest>,
    ) -> Result<Response<pb::ActivateNodeResponse>, Status> {
        let revision = self
            .set(
                request.get_ref().node_id,
                Lifecycle::Active,
                request.get_ref().expected_revision,
            )
            .await?;
        Ok(Response::new(pb::ActivateNodeResponse { revision }))
    }

    async fn transfer_leaders(
        &self,
        request: Request<pb::TransferLeadersRequest>,
    ) -> Result<Response<pb::TransferLeadersResponse>, Status> {
        let router = self.entry.router()?;
        let done = nodes::transfer(&router, request.into_inner()).await?;
        Ok(Response::new(done))
    }

    async fn backup(
        &self,
        _request: Request<pb::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let router = self.entry.router()?;
        let parts = backup::save(router, self.turns.take()?, self.stop.clone());
        Ok(Response::new(parts))
    }

    async fn restore(
        &self,
        request: Request<Streaming<pb::RestoreRequest>>,
    ) -> Result<Response<pb::RestoreResponse>, Status> {
        let router = self.entry.router()?;
        let _turn = self.turns.take()?;
        let restoring = backup::restore(&router, Box::pin(request.into_inner()));
        let restored = self.stop.run_until_cancelled(restoring).await;
        Ok(Response::new(restored.ok_or_else(backup::stopping)??))
    }
}

impl ClusterServer {
    async fn set(
        &self,
        node: u64,
        lifecycle: Lifecycle,
        expected: Option<u64>,
    ) -> Result<u64, Status> {
        let router = self.entry.router()?;
        Ok(nodes::set_lifecycle(&router, node, lifecycle, expected).await?)
    }
}

/// How often a watched status is looked at: what peers say is not pushed.
const STATUS_PERIOD: Duration = Duration::from_millis(500);

async fn watch_status(
    entry: Entry,
    router: Arc<Router>,
    statuses: mpsc::Sender<Result<pb::WatchStatusResponse, Status>>,
) {
    let mut last = None;
    loop {
        let status = Some(status::cluster(&router, entry.ready()).await);
        if status != last {
            last.clone_from(&status);
            let changed = pb::WatchStatusResponse { status };
            if statuses.send(Ok(changed)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = sleep(STATUS_PERIOD) => {}
            () = statuses.closed() => return,
        }
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
