//! The calls of etcd that the load needs, as far as it needs them: six of some forty.
//!
//! Written by hand after `rpc.proto` (package `etcdserverpb`) and `v3lock.proto` (`v3lockpb`) of
//! etcd 3.4, which 3.5 and 3.6 have not changed. Fields that nobody here reads are left out, which
//! Protobuf allows.
//!
//! Invariant: field numbers and paths are etcd's.

use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};
use tonic_prost::ProstCodec;

/// `LeaseGrantRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseGrant {
    #[prost(int64, tag = "1")]
    pub(super) ttl_s: i64,
    /// 0: the server chooses.
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
}

/// `LeaseGrantResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseGranted {
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
    #[prost(string, tag = "4")]
    pub(super) error: String,
}

/// `LeaseRevokeRequest`, and `LeaseKeepAliveRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseId {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
}

/// `LeaseKeepAliveResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LeaseKept {
    #[prost(int64, tag = "3")]
    pub(super) ttl_s: i64,
}

/// `v3lockpb.LockRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LockAsked {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) name: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(super) lease: i64,
}

/// `v3lockpb.LockResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct LockGranted {
    #[prost(bytes = "vec", tag = "2")]
    pub(super) key: Vec<u8>,
}

/// `v3lockpb.UnlockRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Unlock {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
}

/// `v3lockpb.UnlockResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Unlocked {}

/// An answer of which nothing is read, and a question that says nothing.
#[derive(Clone, PartialEq, prost::Message)]
struct Empty {}

/// `StatusResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MemberStatus {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<Header>,
    /// 0: none is known.
    #[prost(uint64, tag = "4")]
    pub(super) leader: u64,
}

/// `ResponseHeader`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Header {
    #[prost(uint64, tag = "2")]
    pub(super) member_id: u64,
}

pub(super) async fn grant_lease(
    channel: &Channel,
    asked: LeaseGrant,
) -> Result<LeaseGranted, Status> {
    unary(channel, "/etcdserverpb.Lease/LeaseGrant", asked).await
}

pub(super) async fn revoke_lease(channel: &Channel, lease: i64) -> Result<(), Status> {
    let asked = LeaseId { id: lease };
    let Empty {} = unary(channel, "/etcdserverpb.Lease/LeaseRevoke", asked).await?;
    Ok(())
}

/// Each question on the stream extends a lease, and has its answer.
pub(super) async fn keep_lease(
    channel: &Channel,
    asked: ReceiverStream<LeaseId>,
) -> Result<Streaming<LeaseKept>, Status> {
    let mut grpc = ready(channel).await?;
    let path = PathAndQuery::from_static("/etcdserverpb.Lease/LeaseKeepAlive");
    let codec = ProstCodec::default();
    let answers = grpc.streaming(Request::new(asked), path, codec).await?;
    Ok(answers.into_inner())
}

pub(super) async fn lock(channel: &Channel, asked: LockAsked) -> Result<LockGranted, Status> {
    unary(channel, "/v3lockpb.Lock/Lock", asked).await
}

pub(super) async fn unlock(channel: &Channel, key: Vec<u8>) -> Result<Unlocked, Status> {
    unary(channel, "/v3lockpb.Lock/Unlock", Unlock { key }).await
}

pub(super) async fn status(channel: &Channel) -> Result<MemberStatus, Status> {
    unary(channel, "/etcdserverpb.Maintenance/Status", Empty {}).await
}

async fn unary<Asked, Answer>(
    channel: &Channel,
    path: &'static str,
    asked: Asked,
) -> Result<Answer, Status>
where
    Asked: prost::Message + 'static,
    Answer: prost::Message + Default + 'static,
{
    let mut grpc = ready(channel).await?;
    let path = PathAndQuery::from_static(path);
    let codec = ProstCodec::<Asked, Answer>::default();
    let answer = grpc.unary(Request::new(asked), path, codec).await?;
    Ok(answer.into_inner())
}

async fn ready(channel: &Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    let ready = grpc.ready().await;
    ready.map_err(|error| Status::unavailable(format!("no connection: {error}")))?;
    Ok(grpc)
}
