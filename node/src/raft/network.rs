//! Raft's outgoing messages: pipelined AppendEntries, coalesced heartbeats, votes, hand-overs.
//!
//! Invariant: nothing here blocks Raft for longer than it asked for: every exchange has a timeout,
//! and a stream that stops making progress is given up.

use std::{future::Future, sync::Arc, time::Duration};

use futures::Stream;
use lockstep_model::{NodeId, ShardId};
use lockstep_proto::raft::v1 as pb;
use openraft::{
    OptionalSend,
    base::{BoxFuture, BoxStream},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{RPCOption, RaftNetworkFactory, RaftNetworkV2},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use tokio::time::timeout;

use super::{
    append_stream,
    log_floor::{LogFloor, Watched},
    snapshot_content::SnapshotContent,
    snapshot_send,
    types::{PeerAddress, Snapshot, TypeConfig, Vote},
    wire,
};
use crate::{peer::Peer, router::Router};

/// How long an append stream may take to open at the least: a connection may have to be made.
const OPEN_TIMEOUT: Duration = Duration::from_secs(1);

/// A message did not get through, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

pub(super) fn unreachable(words: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&Failure(words.to_string())))
}

pub(super) fn network(words: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&Failure(words.to_string())))
}

/// Makes the outgoing side of one shard's replica.
#[derive(Clone)]
pub struct Network {
    /// Who is where.
    pub router: Arc<Router>,
    /// The shard.
    pub shard: ShardId,
    /// How far its log is about to be purged.
    pub floor: Arc<LogFloor>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &PeerAddress) -> Link {
        Link {
            to: self.router.peers().addressee(NodeId(target), self.shard),
            router: Arc::clone(&self.router),
            node: NodeId(target),
            address: node.0.clone(),
            floor: self.floor.watch(),
        }
    }
}

/// The way to one replica of a shard.
pub struct Link {
    to: pb::Addressee,
    router: Arc<Router>,
    node: NodeId,
    /// As the group's members have it; the registry's is newer.
    address: String,
    floor: Watched,
}

impl Link {
    fn peer(&self) -> Result<Arc<Peer>, RPCError<TypeConfig>> {
        let known = self.router.directory().node(self.node);
        let address = known.map_or_else(|| self.address.clone(), |record| record.peer_address);
        let peer = self.router.peers().get(self.node, &address);
        peer.map_err(unreachable)
    }

    async fn ask_vote(
        &self,
        request: &VoteRequest<TypeConfig>,
        pre_vote: bool,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut client = self.peer()?.client();
        let asked = client.vote(wire::vote_request(self.to.clone(), request, pre_vote));
        let response = timeout(option.soft_ttl(), asked)
            .await
            .map_err(|_| unreachable("no answer to a vote request in time"))?
            .map_err(|status| unreachable(status.message()))?;
        wire::to_vote_response(response.into_inner()).map_err(network)
    }
}

impl RaftNetworkV2<TypeConfig> for Link {
    type SnapshotData = SnapshotContent;

    /// openraft sends everything by [`RaftNetworkV2::stream_append`]; this is for completeness.
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let peer = self.peer()?;
        let answer = append_stream::beat(&peer, &self.to, request);
        let answer = timeout(option.soft_ttl(), answer).await;
        answer
            .map_err(|_| unreachable("no answer in time"))?
            .map(Into::into)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let open_timeout = option.soft_ttl().max(OPEN_TIMEOUT);
            let to = self.to.clone();
            let floor = self.floor.clone();
            let peer = self.peer()?;
            Ok(append_stream::open(peer, to, input, open_timeout, floor))
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(&request, false, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(&request, true, &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let route = snapshot_send::Route {
            peer: self.peer()?,
            to: self.to.clone(),
            pace: self.router.peers().snapshot_pace(),
        };
        snapshot_send::send(route, vote, snapshot, cancel).await
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let mut client = self.peer()?.client();
        let asked = client.transfer_leader(wire::transfer(self.to.clone(), &request));
        let response = timeout(option.soft_ttl(), asked)
            .await
            .map_err(|_| unreachable("no answer to a hand-over in time"))?
            .map_err(|status| unreachable(status.message()))?;
        if response.into_inner().accepted {
            Ok(Ok(()))
        } else {
            Err(network(
                "the peer refused the hand-over: its log or vote differs",
            ))
        }
    }
}
