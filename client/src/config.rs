//! How a client reaches its cluster, and the bounds that it keeps.
//!
//! Invariant: every wait, queue and retry of this crate is bounded by a value in this file or by
//! the life of a session.

use std::time::Duration;

/// Most operations of one session under way: half of the 4,096 requests that a node takes on one
/// stream without having answered them, because each may be followed by its cancellation.
pub const MAX_IN_FLIGHT: usize = 2_000;
/// The first pause before something is tried again: below it, a retry meets the same state.
pub const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The longest such pause: an election takes one to two seconds, so more would only add delay.
pub const MAX_RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Attempts that fit into one request timeout when a node is silent, so that each node of a
/// cluster of three is asked once.
pub const ATTEMPTS_PER_TIMEOUT: u32 = 3;
/// Longest time between keep-alives, however long the TTL: a silent node is noticed within it.
pub const MAX_KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How many answers are awaited within one TTL before the next node is tried: enough to reach
/// another node twice before the session is lost.
pub const KEEP_ALIVE_ANSWERS_PER_TTL: u32 = 6;
/// Least time for an answer to a keep-alive: below it, a pause of the scheduler looks like a dead node.
pub const MIN_KEEP_ALIVE_PATIENCE: Duration = Duration::from_millis(500);
/// Most time for an answer to a keep-alive, however long the TTL.
pub const MAX_KEEP_ALIVE_PATIENCE: Duration = Duration::from_secs(5);
/// HTTP/2 ping interval: with [`PING_TIMEOUT`], how soon a node that vanished without closing its
/// connections is noticed.
pub const PING_INTERVAL: Duration = Duration::from_secs(2);
/// How long a ping may be unanswered.
pub const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// After so many request timeouts without news, a watch goes on at another node: one that is cut off
/// from the others does not know that it has news to tell.
pub const QUIET_WATCH_TIMEOUTS: u32 = 3;
/// Largest answer that is accepted: a page of 1,000 locks with 100 waiters each is about 16 MB.
pub const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// Most messages that wait on one stream: each operation under way and its cancellation, and the
/// keep-alives. A stream that is fuller than this is stuck, and is replaced.
pub(crate) const STREAM_QUEUE: usize = 2 * MAX_IN_FLIGHT + 64;

/// How to reach a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientConfig {
    /// Nodes to start from, `host:port` or `http://host:port` (the port may be left out: 7400).
    /// One that answers is enough; the others are learnt from it.
    pub endpoints: Vec<String>,
    /// Connect to no other nodes than these, as where the others' addresses mean nothing: through a
    /// tunnel. Any node serves any request. Default false.
    pub only_endpoints: bool,
    /// For one TCP connection. Default 2 s.
    pub connect_timeout: Duration,
    /// For one request with all its retries, and for the answer to an operation beyond the time
    /// that it may wait for its lock. Default 10 s.
    pub request_timeout: Duration,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            endpoints: vec!["127.0.0.1:7400".to_owned()],
            only_endpoints: false,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(10),
        }
    }
}

impl ClientConfig {
    /// The defaults with these endpoints.
    #[must_use]
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}
