//! The peer service: what other nodes ask of this one.
//!
//! Invariant: a message is carried out only if it is addressed to this cluster, this node and a
//! replica that is here.

use std::{pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use lockstep_model::{NodeId, Revision, ShardId};
use lockstep_proto::raft::v1::{self as pb, peer_service_server::PeerService};
use openraft::async_runtime::WatchReceiver as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    snapshot_partial::{LIFE, Partials},
    snapshot_receive,
    together::together,
    wire,
};
use crate::{
    api::nodes,
    boot_time::BootTime,
    entry::Entry,
    execute, follow,
    formation::{Lobby, joining},
    replica::{Replica, eligibility::Withheld, members},
    request::RequestError,
    router::Router,
    shard_state, status,
    watch::{relay, target::Target},
};

/// Answers of an append stream that wait for the connection: openraft's own pipeline holds 64.
const ANSWERS_AHEAD: usize = 64;

/// How long answers to heartbeats gather for one message: shards answer within microseconds, unless
/// one of them installs a snapshot.
const TOGETHER: Duration = Duration::from_millis(5);

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Serves peers: before there is a cluster only [`Lobby`]'s calls, then all.
#[derive(Clone)]
pub struct PeerServer {
    lobby: Arc<Lobby>,
    entry: Entry,
    partials: Arc<Partials>,
}

impl PeerServer {
    /// A server at this way in.
    #[must_use]
    pub fn new(lobby: Arc<Lobby>, entry: Entry) -> Self {
        Self {
            lobby,
            entry,
            partials: Arc::new(Partials::new(LIFE)),
        }
    }

    fn router(&self) -> Result<Arc<Router>, Status> {
        Ok(self.entry.router()?)
    }

    /// Checks whom a message is for.
    fn addressed(&self, to: Option<pb::Addressee>) -> Result<ShardId, Status> {
        let to = to.ok_or_else(|| Status::invalid_argument("the message names no addressee"))?;
        let router = self.router()?;
        let directory = router.directory();
        if to.cluster_id.as_ref() != directory.cluster.0 || NodeId(to.node_id) != directory.me {
            return Err(Status::failed_precondition(format!(
                "the message is for node {} of another cluster or address; this is node {} of {}",
                to.node_id, directory.me, directory.cluster
            )));
        }
        Ok(ShardId(to.shard))
    }

    fn replica(&self, to: Option<pb::Addressee>) -> Result<Arc<Replica>, Status> {
        let shard = self.addressed(to)?;
        let router = self.router()?;
        router.replica(shard).ok_or_else(|| {
            if router.is_opened() {
                Status::not_found(format!("shard {shard} has no replica on this node"))
            } else {
                Status::unavailable("this node's replicas are being opened")
            }
        })
    }

    async fn heartbeat_one(&self, mut request: pb::AppendRequest) -> pb::AppendResponse {
        let replica = match self.replica(request.to.take()) {
            Ok(replica) => replica,
            Err(status) => return wire::unavailable(status.message()),
        };
        let request = match wire::to_append(request) {
            Ok(request) => request,
            Err(missing) => return wire::unavailable(&missing.to_string()),
        };
        let (prev, last) = (
            request.prev_log_id,
            request
                .entries
                .last()
                .map(|entry| entry.log_id)
                .or(request.prev_log_id),
        );
        match replica.raft.append_entries(request).await {
            Ok(openraft::raft::AppendEntriesResponse::Conflict) if prev.is_none() => {
                wire::unavailable("a conflict without a position")
            }
            Ok(response) => wire::append_result(&response.into_stream_result(prev, last)),
            Err(error) => wire::unavailable(&error.to_string()),
        }
    }
}

#[tonic::async_trait]
impl PeerService for PeerServer {
    type AppendStream = Answers<pb::AppendResponse>;
    type HeartbeatStream = Answers<pb::HeartbeatResponse>;
    type ExecuteStream = ReceiverStream<Result<pb::ExecuteResponse, Status>>;
    type ReadShardStream = shard_state::Parts;
    type WatchShardStream = ReceiverStream<Result<pb::WatchShardResponse, Status>>;
    type FollowStream = ReceiverStream<Result<pb::FollowResponse, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<pb::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let mut requests = request.into_inner();
        let server = self.clone();
        let (answers, outgoing) = mpsc::channel(ANSWERS_AHEAD);
        // The first message names the replica, and the caller may send it only once this call is
        // open; so the stream is answered at once and read by a task.
        tokio::spawn(async move {
            if let Err(status) = append(&server, &mut requests, &answers).await {
                let _ = answers.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    async fn heartbeat(
        &self,
        request: Request<pb::HeartbeatRequest>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        let server = self.clone();
        let heartbeats = request.into_inner().heartbeats.into_iter();
        let answers = (0_u32..).zip(heartbeats).map(move |(place, heartbeat)| {
            let server = server.clone();
            async move {
                let answer = Some(server.heartbeat_one(heartbeat).await);
                pb::HeartbeatAnswer { place, answer }
            }
        });
        let answers = together(answers.collect(), TOGETHER);
        let messages = answers.map(|answers| Ok(pb::HeartbeatResponse { answers }));
        Ok(Response::new(Box::pin(messages)))
    }

    async fn vote(
        &self,
        request: Request<pb::VoteRequest>,
    ) -> Result<Response<pb::VoteResponse>, Status> {
        let mut request = request.into_inner();
        let replica = self.replica(request.to.take())?;
        let pre_vote = request.pre_vote;
        let request = wire::to_vote_request(request).map_err(malformed)?;
        if let Some(withheld) = replica.eligibility.refuses(&request, BootTime::now()) {
            let (vote, mut last) = {
                let metrics = replica.raft.metrics();
                let metrics = metrics.borrow_watched();
                (metrics.vote, metrics.last_applied)
            };
            tracing::info!(shard = %replica.shard, candidate = %request.vote, "no vote: {withheld}");
            if let Withheld::Shorter(reach) = withheld {
                last = Some(reach);
            }
            let refusal = openraft::raft::VoteResponse::new(vote, last, false);
            return Ok(Response::new(wire::vote_response(&refusal)));
        }
        let response = if pre_vote {
            replica.raft.pre_vote(request).await
        } else {
            replica.raft.vote(request).await
        };
        let response = response.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(wire::vote_response(&response)))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let mut request = request.into_inner();
        let replica = self.replica(request.to.take())?;
        let request = wire::to_transfer(request).map_err(malformed)?;
        if !replica.eligibility.may_take_over() {
            return Ok(Response::new(pb::TransferLeaderResponse {
                accepted: false,
            }));
        }
        let result = replica
            .raft
            .handle_transfer_leader(request)
            .await
            .map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        Ok(Response::new(pb::TransferLeaderResponse {
            accepted: result.is_ok(),
        }))
    }

    async fn get_snapshot_offset(
        &self,
        request: Request<pb::GetSnapshotOffsetRequest>,
    ) -> Result<Response<pb::GetSnapshotOffsetResponse>, Status> {
        let head = request.into_inner().head;
        let head = head.ok_or_else(|| malformed(wire::Missing("head")))?;
        let replica = self.replica(head.to.clone())?;
        let offset = self.partials.offset(replica.shard, &head);
        Ok(Response::new(pb::GetSnapshotOffsetResponse { offset }))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::InstallSnapshotRequest>>,
    ) -> Result<Response<pb::InstallSnapshotResponse>, Status> {
        let mut parts = request.into_inner();
        let head = snapshot_receive::head(&mut parts).await?;
        let replica = self.replica(head.to.clone())?;
        let vote = wire::to_vote(head.vote).map_err(malformed)?;
        let known = replica.raft.metrics().borrow_watched().vote;
        if known > vote {
            // From a leader that was deposed: it must not displace what its successor sends.
            return Ok(Response::new(pb::InstallSnapshotResponse {
                vote: Some(wire::vote(&known)),
            }));
        }
        let (from, bytes) = (head.offset, head.total_bytes);
        let receiving = self.partials.begin(replica.shard, &head)?;
        let data = snapshot_receive::chunks(&mut parts, receiving).await?;
        let snapshot = snapshot_receive::assemble(head, data).map_err(malformed)?;
        tracing::info!(shard = %replica.shard, bytes, from, "snapshot received");
        let response = replica
            .raft
            .install_full_snapshot(vote, snapshot)
            .await
            .map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        Ok(Response::new(pb::InstallSnapshotResponse {
            vote: Some(wire::vote(&response.vote)),
        }))
    }

    async fn execute(
        &self,
        request: Request<Streaming<pb::ExecuteRequest>>,
    ) -> Result<Response<Self::ExecuteStream>, Status> {
        let router = self.router()?;
        let server = self.clone();
        let check = move |to| server.addressed(to).map(|_| ());
        let answers = execute::serve(router, check, request.into_inner());
        Ok(Response::new(answers))
    }

    async fn probe(
        &self,
        request: Request<pb::ProbeRequest>,
    ) -> Result<Response<pb::ProbeResponse>, Status> {
        let not_ready = self.entry.ready().err().unwrap_or_default();
        let caller = NodeId(request.into_inner().node_id);
        let removed = self.router().is_ok_and(|router| {
            let view = router.directory().view();
            let known = view.nodes.iter().any(|node| node.node == caller);
            caller.0 > 0 && caller <= view.last_node && !known
        });
        Ok(Response::new(pb::ProbeResponse {
            removed,
            ..self.lobby.probe(not_ready)
        }))
    }

    async fn found(
        &self,
        request: Request<pb::FoundRequest>,
    ) -> Result<Response<pb::FoundResponse>, Status> {
        self.lobby.found(request.into_inner()).await?;
        Ok(Response::new(pb::FoundResponse {}))
    }

    async fn replica_status(
        &self,
        _request: Request<pb::ReplicaStatusRequest>,
    ) -> Result<Response<pb::ReplicaStatusResponse>, Status> {
        let router = self.router()?;
        Ok(Response::new(pb::ReplicaStatusResponse {
            replicas: status::local(&router),
            placement: router.placement.present(),
            node_id: router.directory().me.0,
        }))
    }

    async fn join(
        &self,
        request: Request<pb::JoinRequest>,
    ) -> Result<Response<pb::JoinResponse>, Status> {
        let router = self.router()?;
        let joined = joining::admit(&router, request.into_inner()).await?;
        Ok(Response::new(joined))
    }

    async fn follow(
        &self,
        request: Request<pb::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let news = follow::serve(self.router()?, request.into_inner().revision);
        Ok(Response::new(news))
    }

    async fn change_replicas(
        &self,
        request: Request<pb::ChangeReplicasRequest>,
    ) -> Result<Response<pb::ChangeReplicasResponse>, Status> {
        let request = request.into_inner();
        let replica = self.replica(request.to)?;
        members::change(&replica, request.members_index, request.change)
            .await
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        Ok(Response::new(pb::ChangeReplicasResponse {}))
    }

    async fn hand_over(
        &self,
        request: Request<pb::HandOverRequest>,
    ) -> Result<Response<pb::HandOverResponse>, Status> {
        let request = request.into_inner();
        let done = nodes::here(&*self.router()?, request.shard, request.to_node_id).await;
        Ok(Response::new(pb::HandOverResponse {
            transferred: nodes::numbers(&done.transferred),
            kept: nodes::numbers(&done.kept),
        }))
    }

    async fn read_shard(
        &self,
        request: Request<pb::ReadShardRequest>,
    ) -> Result<Response<Self::ReadShardStream>, Status> {
        let replica = self.replica(request.into_inner().to)?;
        let router = self.router()?;
        let parts = shard_state::of_replica(&replica, &router.states).await;
        let parts = parts.map_err(|error| match error {
            RequestError::Busy => Status::resource_exhausted(error.to_string()),
            RequestError::NotLeader { .. }
            | RequestError::Unreachable { .. }
            | RequestError::UnknownOutcome
            | RequestError::DiskLow
            | RequestError::NoSession
            | RequestError::Malformed { .. } => Status::unavailable(error.to_string()),
        })?;
        Ok(Response::new(parts))
    }

    async fn watch_shard(
        &self,
        request: Request<pb::WatchShardRequest>,
    ) -> Result<Response<Self::WatchShardStream>, Status> {
        let request = request.into_inner();
        let replica = self.replica(request.to)?;
        let target = Target::from_wire(request.target)
            .ok_or_else(|| Status::invalid_argument("a watch without a target"))?;
        let after = request.after.map(Revision);
        let floor = Revision(request.at_least);
        let news = relay::serve(self.router()?, replica, target, after, floor);
        Ok(Response::new(news))
    }
}

/// Reads an append stream to its end.
async fn append(
    server: &PeerServer,
    requests: &mut Streaming<pb::AppendRequest>,
    answers: &mpsc::Sender<Result<pb::AppendResponse, Status>>,
) -> Result<(), Status> {
    let Some(mut first) = requests.message().await? else {
        return Ok(());
    };
    let replica = server.replica(first.to.take())?;
    let first = wire::to_append(first).map_err(malformed)?;
    let (feed, decoded) = mpsc::channel(1);
    let mut results = Box::pin(replica.raft.stream_append(ReceiverStream::new(decoded)));
    let read = async move {
        let feed = feed;
        let mut next = Some(first);
        while let Some(request) = next {
            if feed.send(request).await.is_err() {
                break;
            }
            next = match requests.message().await? {
                Some(message) => Some(wire::to_append(message).map_err(malformed)?),
                None => None,
            };
        }
        Ok::<(), Status>(())
    };
    let write = async {
        while let Some(result) = results.next().await {
            let result = result.map_err(|fatal| Status::unavailable(fatal.to_string()))?;
            if answers
                .send(Ok(wire::append_result(&result)))
                .await
                .is_err()
            {
                return Ok(());
            }
        }
        Ok::<(), Status>(())
    };
    tokio::select! {
        ended = write => ended,
        failed = async {
            match read.await {
                Ok(()) => std::future::pending().await,
                Err(status) => status,
            }
        } => Err(failed),
    }
}

fn malformed(missing: wire::Missing) -> Status {
    Status::invalid_argument(missing.to_string())
}
