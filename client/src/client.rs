//! The client of a cluster.
//!
//! Invariant: every request is answered or given up within the request timeout, whatever the
//! nodes do.

mod backup;
mod call;
mod nodes;

use std::{fmt, sync::Arc, time::Duration};

use lockstep_model::id::{FencingToken, LockName, SessionId};
use lockstep_proto::{
    cluster::v1::GetStatusRequest,
    lock::v1::{
        CloseSessionRequest, GetLockRequest, ListLocksRequest, ListSessionsRequest,
        OpenSessionRequest, ValidateRequest,
    },
};
use tokio::{sync::watch, time::Instant};

use crate::{
    address::Address,
    channels::Channels,
    config::ClientConfig,
    error::{ConnectError, RequestError},
    placement::{Key, Placement, follow::Follower},
    session::{Session, SessionOptions},
    status::ClusterStatus,
    view::{LockInfo, Page, SessionInfo},
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
                    let sent = Instant::now();
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

    /// Ends a session by its id, whoever opened it, and releases all that it holds.
    ///
    /// # Errors
    /// If there is no such session, or the cluster does not answer.
    pub async fn close_session(&self, id: SessionId) -> Result<(), RequestError> {
        let request = CloseSessionRequest { session_id: id.0 };
        self.locks(&Key::Session(id), |mut service| async move {
            service.close_session(request).await
        })
        .await
        .map(|_| ())
    }

    /// A page of sessions, by id: at most `page_size` (1 to 1,000) from `page_token`, which is
    /// empty for the first page.
    ///
    /// # Errors
    /// If the page is not one, or the cluster does not answer.
    pub async fn list_sessions(
        &self,
        page_size: u32,
        page_token: &str,
    ) -> Result<Page<SessionInfo>, RequestError> {
        let request = ListSessionsRequest {
            page_size,
            page_token: page_token.to_owned(),
        };
        let response = self
            .locks(&Key::Any, |mut service| {
                let request = request.clone();
                async move { service.list_sessions(request).await }
            })
            .await?
            .into_inner();
        Ok(Page {
            items: response.sessions.into_iter().map(Into::into).collect(),
            next_page_token: Some(response.next_page_token).filter(|token| !token.is_empty()),
        })
    }

    /// A page of the locks that are held or waited for and whose names begin with `prefix`, by
    /// name; pages as in [`Self::list_sessions`].
    ///
    /// # Errors
    /// If the page is not one, or the cluster does not answer.
    pub async fn list_locks(
        &self,
        prefix: &str,
        page_size: u32,
        page_token: &str,
    ) -> Result<Page<LockInfo>, RequestError> {
        let request = ListLocksRequest {
            prefix: prefix.to_owned(),
            page_size,
            page_token: page_token.to_owned(),
        };
        let response = self
            .locks(&Key::Any, |mut service| {
                let request = request.clone();
                async move { service.list_locks(request).await }
            })
            .await?
            .into_inner();
        Ok(Page {
            items: response.locks.into_iter().map(Into::into).collect(),
            next_page_token: Some(response.next_page_token).filter(|token| !token.is_empty()),
        })
    }

    /// One lock: its holders and waiters, none if it is free.
    ///
    /// # Errors
    /// If the name is not one, or the cluster does not answer.
    pub async fn get_lock(&self, name: &str) -> Result<LockInfo, RequestError> {
        let key = Key::Lock(LockName::new(name)?);
        let request = GetLockRequest {
            name: name.to_owned(),
        };
        let response = self
            .locks(&key, |mut service| {
                let request = request.clone();
                async move { service.get_lock(request).await }
            })
            .await?
            .into_inner();
        // A free lock has nothing to tell but its name.
        let lock = response
            .lock
            .unwrap_or_else(|| lockstep_proto::lock::v1::LockInfo {
                name: name.to_owned(),
                ..Default::default()
            });
        Ok(lock.into())
    }

    /// Whether a token is that of a current holder of the lock: for resources that cannot keep
    /// the highest token that they saw.
    ///
    /// # Errors
    /// If the name is not one, or the cluster does not answer.
    pub async fn validate(&self, name: &str, token: FencingToken) -> Result<bool, RequestError> {
        let key = Key::Lock(LockName::new(name)?);
        let request = ValidateRequest {
            name: name.to_owned(),
            token: token.0,
        };
        let response = self
            .locks(&key, |mut service| {
                let request = request.clone();
                async move { service.validate(request).await }
            })
            .await?;
        Ok(response.into_inner().valid)
    }

    /// The cluster as one node sees it.
    ///
    /// # Errors
    /// If no node answers.
    pub async fn status(&self) -> Result<ClusterStatus, RequestError> {
        let response = self
            .call(&Key::Any, |address| {
                let mut service = self.inner.channels.cluster(&address);
                async move { service.get_status(GetStatusRequest {}).await }
            })
            .await?;
        Ok(response.into_inner().into())
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

/// A duration on the wire, rounded up so that none becomes 0, which means a default there.
fn whole_millis(duration: Duration) -> u64 {
    let millis = duration.as_nanos().div_ceil(1_000_000).max(1);
    u64::try_from(millis).unwrap_or(u64::MAX)
}
