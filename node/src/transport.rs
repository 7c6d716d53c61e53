//! The one place that makes listeners and channels.
//!
//! Invariant: every connection that this node accepts or opens is made here, so that what holds for
//! all of them (keep-alive, limits, later TLS) is said once. Each listener has its share of the
//! process's descriptors (`descriptors.rs`) and takes no more (`acceptor.rs`).

mod acceptor;
mod connection;
pub mod descriptors;

use std::{net::SocketAddr, time::Duration};

use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint, Server};

pub use self::{
    acceptor::{Acceptor, Manners, incoming},
    connection::Connection,
};

/// How often an idle connection to a peer is probed. With [`KEEP_ALIVE_TIMEOUT`] this bounds how
/// long a silently cut link is believed in.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How long a probe may take: generous, because a starved process is not a dead one.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a TCP connection may take to open.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// HTTP/2 flow control: what may be under way on one stream before its reader has taken it.
const STREAM_WINDOW: u32 = 4 << 20;
/// HTTP/2 flow control for all streams of a connection together.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Streams that one client connection may have open: sessions and calls under way.
const MAX_STREAMS: u32 = 16_384;
/// Largest message between peers: [`crate::raft::MAX_PAYLOAD_ENTRIES`] batches of the largest size.
pub const MAX_PEER_MESSAGE_BYTES: usize = 64 << 20;
/// Largest message from a client: the largest acquisition, with room.
pub const MAX_CLIENT_MESSAGE_BYTES: usize = 1 << 20;

/// How long a new connection may take until its first request: a client that has connected sends at
/// once, so this is for slow networks and starved machines.
const FIRST_REQUEST: Duration = Duration::from_secs(10);
/// How long a connection for health checks and metrics may be idle: longer than scrapers pause.
const HTTP_IDLE: Duration = Duration::from_secs(120);

/// Connections of clients. Once they speak HTTP/2, pings show whether they live.
pub const CLIENTS: Manners = Manners {
    name: "clients",
    first: FIRST_REQUEST,
    idle: None,
};
/// Connections of peers.
pub const PEERS: Manners = Manners {
    name: "peers",
    first: FIRST_REQUEST,
    idle: None,
};
/// Connections for health checks and metrics.
pub const HTTP: Manners = Manners {
    name: "http",
    first: FIRST_REQUEST,
    idle: Some(HTTP_IDLE),
};

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {what}: {source}; is another process using it?")]
pub struct ListenError {
    address: SocketAddr,
    what: &'static str,
    source: std::io::Error,
}

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
#[error("{address:?} is no address that can be dialled: {source}")]
pub struct DialError {
    address: String,
    source: tonic::transport::Error,
}

/// Opens a listener that has at most so many connections at a time.
///
/// # Errors
/// If the address cannot be bound.
pub async fn listen(
    address: SocketAddr,
    manners: Manners,
    most: usize,
) -> Result<Acceptor, ListenError> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ListenError {
            address,
            what: manners.name,
            source,
        })?;
    Ok(Acceptor::new(listener, manners, most))
}

/// What every gRPC server here starts from.
#[must_use]
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(MAX_STREAMS)
}

/// A channel to a peer: connects when first used, and again whenever it was lost.
///
/// # Errors
/// If the address is malformed.
pub fn channel(address: &str) -> Result<Channel, DialError> {
    let endpoint =
        Endpoint::from_shared(format!("http://{address}")).map_err(|source| DialError {
            address: address.to_owned(),
            source,
        })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_lazy())
}
