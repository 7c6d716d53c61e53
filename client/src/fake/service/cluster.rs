//! The cluster service of one node of the fake.
//!
//! Invariant: it tells the placement that the test has made, and changes nothing.

use std::pin::Pin;

use lockstep_proto::cluster::v1::{self as cluster, cluster_service_server::ClusterService};
use tokio_stream::{Stream as AsyncStream, StreamExt as _, wrappers::WatchStream};
use tonic::{Response as Reply, Status, Streaming};

use super::{Answered, Node, not_faked};

#[tonic::async_trait]
impl ClusterService for Node {
    type WatchStatusStream =
        Pin<Box<dyn AsyncStream<Item = Result<cluster::WatchStatusResponse, Status>> + Send>>;
    type BackupStream = WatchStream<Result<cluster::BackupResponse, Status>>;
    type WatchPlacementStream = Pin<
        Box<
            dyn AsyncStream<Item = Result<cluster::WatchPlacementResponse, Status>>
                + Send
                + 'static,
        >,
    >;

    async fn get_status(
        &self,
        _: tonic::Request<cluster::GetStatusRequest>,
    ) -> Answered<cluster::GetStatusResponse> {
        self.check_up()?;
        let placement = self.shared.placement.borrow().clone();
        let led = |node| placement.shards.iter().filter(|s| s.leader == node).count();
        let nodes = placement.nodes.iter().map(|node| cluster::NodeStatus {
            node_id: node.node_id,
            name: format!("node-{}", node.node_id),
            client_address: node.client_address.clone(),
            peer_address: "127.0.0.1:7401".to_owned(),
            version: "0.1.0".to_owned(),
            reachable: true,
            ready: true,
            not_ready: String::new(),
            disk_low: String::new(),
            shards_led: u32::try_from(led(node.node_id)).unwrap_or(u32::MAX),
            shards_held: u32::try_from(placement.shards.len()).unwrap_or(u32::MAX),
            zone: String::new(),
            lifecycle: cluster::NodeLifecycle::Active.into(),
            shards_placed: u32::try_from(placement.shards.len()).unwrap_or(u32::MAX),
        });
        let shards = placement.shards.iter().map(|shard| cluster::ShardStatus {
            shard: shard.shard,
            leader: shard.leader,
            term: 3,
            replicas: shard
                .replicas
                .iter()
                .map(|node_id| cluster::ReplicaStatus {
                    node_id: *node_id,
                    voter: true,
                    matched_index: 42,
                    lag: 0,
                })
                .collect(),
            last_index: 42,
            committed_index: 42,
        });
        Ok(Reply::new(cluster::GetStatusResponse {
            cluster_id: placement.cluster_id.clone(),
            nodes: nodes.collect(),
            shards: shards.collect(),
            answered_by: self.node,
            revision: 1,
            obstacles: Vec::new(),
            settled: true,
            replication_factor: 3,
        }))
    }

    async fn watch_status(
        &self,
        _: tonic::Request<cluster::WatchStatusRequest>,
    ) -> Answered<Self::WatchStatusStream> {
        not_faked()
    }

    async fn drain_node(
        &self,
        _: tonic::Request<cluster::DrainNodeRequest>,
    ) -> Answered<cluster::DrainNodeResponse> {
        not_faked()
    }

    async fn remove_node(
        &self,
        _: tonic::Request<cluster::RemoveNodeRequest>,
    ) -> Answered<cluster::RemoveNodeResponse> {
        not_faked()
    }

    async fn replace_node(
        &self,
        _: tonic::Request<cluster::ReplaceNodeRequest>,
    ) -> Answered<cluster::ReplaceNodeResponse> {
        not_faked()
    }

    async fn activate_node(
        &self,
        _: tonic::Request<cluster::ActivateNodeRequest>,
    ) -> Answered<cluster::ActivateNodeResponse> {
        not_faked()
    }

    async fn backup(
        &self,
        _: tonic::Request<cluster::BackupRequest>,
    ) -> Answered<Self::BackupStream> {
        not_faked()
    }

    async fn restore(
        &self,
        _: tonic::Request<Streaming<cluster::RestoreRequest>>,
    ) -> Answered<cluster::RestoreResponse> {
        not_faked()
    }

    async fn transfer_leaders(
        &self,
        _: tonic::Request<cluster::TransferLeadersRequest>,
    ) -> Answered<cluster::TransferLeadersResponse> {
        not_faked()
    }

    async fn watch_placement(
        &self,
        _: tonic::Request<cluster::WatchPlacementRequest>,
    ) -> Answered<Self::WatchPlacementStream> {
        self.check_up()?;
        let placement = WatchStream::new(self.shared.placement.subscribe());
        Ok(Reply::new(Box::pin(placement.map(Ok))))
    }
}
