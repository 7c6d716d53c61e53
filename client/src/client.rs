//! The client of a cluster.
//!
//! Invariant: every request is answered or given up within the request timeout, whatever the
//! nodes do.

mod backup;
mod call;
mod look;
mod nodes;

use std::{fmt, sync::Arc, time::Duration};

use lockstep_model::id::SessionId;
use lockstep_proto::lock::v1::{CloseSessionRequest, OpenSessionRequest};
use tokio::sync::watch;

use crate::{
    address::Address,
    channels::Channels,
    config::ClientConfig,
    error::{ConnectError, RequestError},
    lease_time::LeaseTime,
    placement::{Key, Placement, follow::Follower},
    session::{Session, SessionOptions},
};

/// A client of one cluster. Cheap to clone; clones share connections and what is known of the
/// cluster.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    config: ClientConfig,
    channels: Arc<Channels>,
    follower: Follower,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("endpoints", &self.inner.config.endpoints)
            .finish()
    }
}

impl Client {
    /// Connects to a cluster: returns once any endpoint has answered. Waits for a cluster that
    /// is being formed, but not for nodes that are not there.
    ///
    /// # Errors
    /// If an endpoint is not an address, if all of them refuse the connection, or if none became
    /// ready within the request timeout.
    pub async fn connect(config: ClientConfig) -> Result<Self, ConnectError> {
        let mut endpoints = config
            .endpoints
            .iter()
            .map(|text| Address::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        endpoints.sort_unstable();
        endpoints.dedup();
        if endpoints.is_empty() {
            return Err(ConnectError::NoEndpoints);
        }
        let channels = Arc::new(Channels::new(&config));
        let follower = Follower::start(endpoints, Arc::clone(&channels), &config);
        follower
            .first_contact(config.request_timeout)
            .await
            .map_err(|last| ConnectError::Unreachable { last })?;
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                channels,
                follower,
            }),
        })
    }

    /// Opens a session. It keeps itself alive until it is closed or dropped.
    ///
    /// # Errors
    /// If the options are outside their bounds, or the cluster does not answer.
    pub async fn open_session(&self, options: SessionOptions) -> Result<Session, RequestError> {
        let request = OpenSessionRequest {
            ttl_ms: whole_millis(options.ttl),
            labels: options.labels.into_iter().collect(),
            priority: options.priority.0,
        };
        // A repeated request may open a second session; the first then expires unused.
        let (opened, sent) = self
            .locks(&Key::Any, |mut service| {
                let request = request.clone();
                async move {
                    let sent = LeaseTime::now();
                    let response = service.open_session(request).await?;
                    Ok((response.into_inner(), sent))
                }
            })
            .await?;
        Ok(Session::start(
            self.clone(),
            SessionId(opened.session_id),
            Duration::from_millis(opened.ttl_ms),
            sent,
        ))
    }

    /// Ends a session by its id, whoever opened it. Gives how much longer it may hold what it holds, at most;
    /// zero with [`Release::Now`].
    ///
    /// # Errors
    /// If there is no such session, or the cluster does not answer.
    pub async fn close_session(
        &self,
        id: SessionId,
        release: Release,
    ) -> Result<Duration, RequestError> {
        let request = CloseSessionRequest {
            session_id: id.0,
            at_once: release == Release::Now,
        };
        let closed = self
            .locks(&Key::Session(id), |mut service| async move {
                service.close_session(request).await
            })
            .await?;
        Ok(Duration::from_millis(closed.into_inner().lease_ms))
    }

    pub(crate) fn channels(&self) -> &Channels {
        &self.inner.channels
    }

    pub(crate) fn placement(&self) -> Arc<Placement> {
        self.inner.follower.current()
    }

    pub(crate) fn watch_placement(&self) -> watch::Receiver<Arc<Placement>> {
        self.inner.follower.subscribe()
    }

    /// A node's stream was lost; what it says of the cluster may be old.
    pub(crate) fn suspect(&self, address: &Address) {
        self.inner.follower.suspect(address);
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.inner.config.request_timeout
    }
}

/// When others get what a session holds that is closed by somebody else than its client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// When its lease is over. Its client is told at once and can get no more time, so whoever gets a lock
    /// then is its only holder, whether the client was reached or not.
    AfterLease,
    /// At once. A client that has not heard of it yet still believes in its locks: there are two holders
    /// until it has, which can be as long as its lease.
    Now,
}

/// A duration on the wire, rounded up so that none becomes 0, which means a default there.
fn whole_millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000).max(1);
    u64::try_from(millis).unwrap_or(u64::MAX)
}
