//! The members' side of the world: the service that a pod's address leads to.

use std::{net::Ipv4Addr, sync::Arc};

use futures::stream::Empty;
use lockstep_operator::cluster::build::CLIENT_PORT;
use lockstep_proto::cluster::v1::{
    ActivateNodeRequest, ActivateNodeResponse, BackupRequest, BackupResponse, DrainNodeRequest,
    DrainNodeResponse, GetStatusRequest, GetStatusResponse, NodeLifecycle, RemoveNodeRequest,
    RemoveNodeResponse, ReplaceNodeRequest, ReplaceNodeResponse, RestoreRequest, RestoreResponse,
    TransferLeadersRequest, TransferLeadersResponse, WatchPlacementRequest, WatchPlacementResponse,
    WatchStatusRequest, WatchStatusResponse,
    cluster_service_server::{ClusterService, ClusterServiceServer},
};
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::world::{Shared, World};

/// Pods that have an address of their own.
pub(crate) const DOORS: u32 = 6;

/// What answers at a pod's address.
struct Door {
    world: Shared,
    ordinal: u32,
}

/// Where a pod is asked, in the network of its cluster.
pub(crate) fn address(network: Ipv4Addr, ordinal: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(network.to_bits() + ordinal + 1)
}

/// Serves the pods of this network.
pub(crate) async fn serve(world: Shared, network: Ipv4Addr) -> JoinHandle<()> {
    let mut servers = Vec::new();
    for ordinal in 0..DOORS {
        let address = address(network, ordinal);
        let listener = tokio::net::TcpListener::bind((address, CLIENT_PORT))
            .await
            .unwrap();
        let world = Arc::clone(&world);
        let door = ClusterServiceServer::new(Door { world, ordinal });
        let incoming = tonic::transport::server::TcpIncoming::from(listener);
        let server = Server::builder().add_service(door);
        servers.push(server.serve_with_incoming(incoming));
    }
    tokio::spawn(async move {
        futures::future::try_join_all(servers).await.unwrap();
    })
}

impl Door {
    /// Changes a member, under the revision that this was decided by.
    async fn change(
        &self,
        expected: Option<u64>,
        change: impl FnOnce(&mut World) + Send,
    ) -> Result<u64, Status> {
        let (revision, is_killed) = {
            let mut world = self.world.lock();
            if world.is_foreign(self.ordinal) {
                world.report_harm("another cluster is asked for a change".to_owned());
            }
            if !world.serves(self.ordinal) {
                return Err(Status::unavailable("the pod does not serve"));
            }
            if expected != Some(world.revision) {
                return Err(Status::failed_precondition("the revision is another"));
            }
            change(&mut world);
            (world.revision, world.is_killed())
        };
        if is_killed {
            std::future::pending::<()>().await;
        }
        Ok(revision)
    }
}

#[tonic::async_trait]
impl ClusterService for Door {
    type BackupStream = Empty<Result<BackupResponse, Status>>;
    type WatchPlacementStream = Empty<Result<WatchPlacementResponse, Status>>;
    type WatchStatusStream = Empty<Result<WatchStatusResponse, Status>>;

    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let world = self.world.lock();
        let status = world.status(self.ordinal);
        status
            .map(Response::new)
            .ok_or_else(|| Status::unavailable("the pod does not serve"))
    }

    async fn watch_placement(
        &self,
        _: Request<WatchPlacementRequest>,
    ) -> Result<Response<Self::WatchPlacementStream>, Status> {
        Err(Status::unimplemented("the operator does not watch"))
    }

    async fn watch_status(
        &self,
        _: Request<WatchStatusRequest>,
    ) -> Result<Response<Self::WatchStatusStream>, Status> {
        Err(Status::unimplemented("the operator does not watch"))
    }

    async fn backup(
        &self,
        _: Request<BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented("the operator makes no backups"))
    }

    async fn restore(
        &self,
        _: Request<Streaming<RestoreRequest>>,
    ) -> Result<Response<RestoreResponse>, Status> {
        Err(Status::unimplemented("the operator restores nothing"))
    }

    async fn drain_node(
        &self,
        request: Request<DrainNodeRequest>,
    ) -> Result<Response<DrainNodeResponse>, Status> {
        let DrainNodeRequest {
            node_id,
            expected_revision,
        } = request.into_inner();
        let change = |world: &mut World| world.set_lifecycle(node_id, NodeLifecycle::Draining);
        let revision = self.change(expected_revision, change).await?;
        Ok(Response::new(DrainNodeResponse { revision }))
    }

    async fn activate_node(
        &self,
        request: Request<ActivateNodeRequest>,
    ) -> Result<Response<ActivateNodeResponse>, Status> {
        let ActivateNodeRequest {
            node_id,
            expected_revision,
        } = request.into_inner();
        let change = |world: &mut World| world.set_lifecycle(node_id, NodeLifecycle::Active);
        let revision = self.change(expected_revision, change).await?;
        Ok(Response::new(ActivateNodeResponse { revision }))
    }

    async fn replace_node(
        &self,
        request: Request<ReplaceNodeRequest>,
    ) -> Result<Response<ReplaceNodeResponse>, Status> {
        let ReplaceNodeRequest {
            node_id,
            expected_revision,
        } = request.into_inner();
        let change = |world: &mut World| world.set_lifecycle(node_id, NodeLifecycle::Lost);
        let revision = self.change(expected_revision, change).await?;
        Ok(Response::new(ReplaceNodeResponse { revision }))
    }

    async fn remove_node(
        &self,
        request: Request<RemoveNodeRequest>,
    ) -> Result<Response<RemoveNodeResponse>, Status> {
        let RemoveNodeRequest {
            node_id,
            expected_revision,
        } = request.into_inner();
        let revision = self
            .change(expected_revision, |world| world.remove(node_id))
            .await?;
        Ok(Response::new(RemoveNodeResponse { revision }))
    }

    async fn transfer_leaders(
        &self,
        _: Request<TransferLeadersRequest>,
    ) -> Result<Response<TransferLeadersResponse>, Status> {
        self.world.lock().transfers += 1;
        Ok(Response::new(TransferLeadersResponse::default()))
    }
}
