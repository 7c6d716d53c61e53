//! Raft's outgoing messages: pipelined AppendEntries, coalesced heartbeats, votes, hand-overs.
//!
//! Invariant: nothing here blocks Raft for longer than it asked for: every exchange has a timeout,
//! and a stream that stops making progress is given up.

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream};
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
use tonic::Streaming;

use super::{
    snapshot_send,
    types::{PeerAddress, Snapshot, SnapshotBytes, TypeConfig, Vote},
    wire,
};
use crate::peer::{Peer, Peers};

/// How long a follower may be silent while it owes answers. Longer than any fsync that is not a
/// fault, shorter than what a client would wait.
const STALL: Duration = Duration::from_secs(4);

/// A message did not get through, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

fn unreachable(words: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(&Failure(words.to_string())))
}

fn network(words: impl ToString) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&Failure(words.to_string())))
}

/// Makes the outgoing side of one shard's replica.
#[derive(Clone)]
pub struct Network {
    /// The links.
    pub peers: Arc<Peers>,
    /// The shard.
    pub shard: ShardId,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Link;

    async fn new_client(&mut self, target: u64, node: &PeerAddress) -> Link {
        let peer = self.peers.get(NodeId(target), &node.0);
        if let Err(error) = &peer {
            tracing::error!(node = target, shard = %self.shard, %error, "peer has no usable address");
        }
        Link {
            to: self.peers.addressee(NodeId(target), self.shard),
            peer: peer.ok(),
        }
    }
}

/// The way to one replica of a shard.
pub struct Link {
    to: pb::Addressee,
    peer: Option<Arc<Peer>>,
}

impl Link {
    fn peer(&self) -> Result<&Arc<Peer>, RPCError<TypeConfig>> {
        self.peer
            .as_ref()
            .ok_or_else(|| unreachable("the peer's address is malformed"))
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
    type SnapshotData = SnapshotBytes;

    /// Heartbeats come this way; entries go by [`RaftNetworkV2::stream_append`].
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let request = wire::append(Some(self.to.clone()), request);
        let answer = timeout(option.soft_ttl(), self.peer()?.heartbeats.beat(request))
            .await
            .ok()
            .flatten()
            .ok_or_else(|| unreachable("no answer to a heartbeat in time"))?;
        wire::to_append_result(answer)
            .map(Into::into)
            .map_err(unreachable)
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
            let mut client = self.peer()?.client();
            let sent = Arc::new(AtomicU64::new(0));
            let counted = Arc::clone(&sent);
            let mut to = Some(self.to.clone());
            let requests = input.map(move |request| {
                counted.fetch_add(1, Ordering::Relaxed);
                wire::append(to.take(), request)
            });
            let answers = timeout(
                option.soft_ttl().max(Duration::from_secs(1)),
                client.append(requests),
            )
            .await
            .map_err(|_| unreachable("the append stream did not open in time"))?
            .map_err(|status| unreachable(status.message()))?
            .into_inner();
            let answers = stream::unfold(
                Some(Answers {
                    answers,
                    sent,
                    got: 0,
                }),
                |state| async move {
                    let mut state = state?;
                    match state.next().await {
                        Some(Ok(result)) => Some((Ok(result), Some(state))),
                        Some(Err(error)) => Some((Err(error), None)),
                        None => None,
                    }
                },
            );
            Ok(Box::pin(answers) as BoxStream<'s, _>)
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
        let client = match &self.peer {
            Some(peer) => peer.client(),
            None => {
                return Err(StreamingError::Unreachable(Unreachable::new(&Failure(
                    "the peer's address is malformed".to_owned(),
                ))));
            }
        };
        snapshot_send::send(client, self.to.clone(), vote, snapshot, cancel).await
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

/// The answers of one append stream.
struct Answers {
    answers: Streaming<pb::AppendResponse>,
    sent: Arc<AtomicU64>,
    got: u64,
}

impl Answers {
    /// The next answer. Waits for ever while nothing is owed, and [`STALL`] at most while something is.
    async fn next(
        &mut self,
    ) -> Option<Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> {
        loop {
            let owed = self.sent.load(Ordering::Relaxed) > self.got;
            match timeout(STALL, self.answers.message()).await {
                Ok(Ok(Some(answer))) => {
                    self.got += 1;
                    return Some(wire::to_append_result(answer).map_err(unreachable));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => return Some(Err(unreachable(status.message()))),
                Err(_) if owed => {
                    return Some(Err(unreachable("the follower owes answers and is silent")));
                }
                Err(_) => {}
            }
        }
    }
}
