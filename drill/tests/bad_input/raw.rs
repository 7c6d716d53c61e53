//! gRPC calls whose messages are whatever bytes one likes.

use bytes::{Buf, BufMut};
use tonic::{
    Request, Response, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Endpoint,
};

/// Those with fields that can be malformed.
pub(crate) const CLIENT_METHODS: [&str; 21] = [
    "/lockstep.lock.v1.LockService/OpenSession",
    "/lockstep.lock.v1.LockService/KeepAlive",
    "/lockstep.lock.v1.LockService/CloseSession",
    "/lockstep.lock.v1.LockService/ListSessions",
    "/lockstep.lock.v1.LockService/Session",
    "/lockstep.lock.v1.LockService/Acquire",
    "/lockstep.lock.v1.LockService/Release",
    "/lockstep.lock.v1.LockService/Renew",
    "/lockstep.lock.v1.LockService/Upgrade",
    "/lockstep.lock.v1.LockService/Downgrade",
    "/lockstep.lock.v1.LockService/Validate",
    "/lockstep.lock.v1.LockService/GetLock",
    "/lockstep.lock.v1.LockService/ListLocks",
    "/lockstep.lock.v1.LockService/Proclaim",
    "/lockstep.lock.v1.LockService/Watch",
    "/lockstep.lock.v1.LockService/ListDeadlocks",
    "/lockstep.cluster.v1.ClusterService/DrainNode",
    "/lockstep.cluster.v1.ClusterService/RemoveNode",
    "/lockstep.cluster.v1.ClusterService/ReplaceNode",
    "/lockstep.cluster.v1.ClusterService/ActivateNode",
    "/lockstep.cluster.v1.ClusterService/TransferLeaders",
];

/// What nodes say to each other.
pub(crate) const PEER_METHODS: [&str; 15] = [
    "/lockstep.raft.v1.PeerService/Append",
    "/lockstep.raft.v1.PeerService/Heartbeat",
    "/lockstep.raft.v1.PeerService/Vote",
    "/lockstep.raft.v1.PeerService/TransferLeader",
    "/lockstep.raft.v1.PeerService/InstallSnapshot",
    "/lockstep.raft.v1.PeerService/Execute",
    "/lockstep.raft.v1.PeerService/Probe",
    "/lockstep.raft.v1.PeerService/Found",
    "/lockstep.raft.v1.PeerService/ReplicaStatus",
    "/lockstep.raft.v1.PeerService/Join",
    "/lockstep.raft.v1.PeerService/Follow",
    "/lockstep.raft.v1.PeerService/ChangeReplicas",
    "/lockstep.raft.v1.PeerService/HandOver",
    "/lockstep.raft.v1.PeerService/ReadShard",
    "/lockstep.raft.v1.PeerService/WatchShard",
];

/// Bytes that are no protobuf message.
pub(crate) fn malformed() -> [(&'static str, Vec<u8>); 3] {
    [
        ("a field that ends in the middle", vec![0x0a, 0x20, b'x']),
        ("a wire type that does not exist", vec![0x0f, 0x00]),
        (
            "a number without end",
            vec![
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
        ),
    ]
}

/// Sends one message and takes the first answer. The outer error is that of reaching the node.
pub(crate) async fn call(
    endpoint: &str,
    method: &'static str,
    message: Vec<u8>,
) -> anyhow::Result<Result<Vec<u8>, Status>> {
    let channel = Endpoint::from_shared(format!("http://{endpoint}"))?
        .connect()
        .await?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await?;
    let path = PathAndQuery::from_static(method);
    let answer = grpc.unary(Request::new(message), path, Bytes).await;
    Ok(answer.map(Response::into_inner))
}

/// Passes bytes through as they are.
#[derive(Clone, Copy)]
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
