//! The calls that look and change nothing.
//!
//! Invariant: what they tell was true at some moment between call and answer; a watch goes on from
//! there.

use lockstep_model::id::{FencingToken, LockName};
use lockstep_proto::{
    cluster::v1::GetStatusRequest,
    lock::v1::{
        GetLockRequest, ListDeadlocksRequest, ListLocksRequest, ListSessionsRequest,
        ValidateRequest,
    },
};

use super::Client;
use crate::{
    deadlock::Deadlocks,
    election::Observer,
    error::RequestError,
    placement::Key,
    status::ClusterStatus,
    view::{LockInfo, Page, SessionInfo},
    watch::{Position, Target, Watch},
};

impl Client {
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
                let mut service = self.channels().cluster(&address);
                async move { service.get_status(GetStatusRequest {}).await }
            })
            .await?;
        Ok(response.into_inner().into())
    }

    /// The deadlocks that were broken last, and how many there were.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub async fn deadlocks(&self) -> Result<Deadlocks, RequestError> {
        let response = self
            .locks(&Key::Any, |mut service| async move {
                service.list_deadlocks(ListDeadlocksRequest {}).await
            })
            .await?;
        Ok(response.into_inner().into())
    }

    /// Watches who holds a lock, or all locks whose names begin so: the present holders, and from
    /// there on every change. With the [positions](Watch::positions) of an earlier watch of the same
    /// target it goes on where that was. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the name is not one.
    pub fn watch(
        &self,
        target: Target,
        after: impl IntoIterator<Item = Position>,
    ) -> Result<Watch, RequestError> {
        Watch::start(self.clone(), target, after)
    }

    /// Tells who leads an election, now and whenever that changes. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// If the name is not one.
    pub fn observe(&self, election: impl Into<String>) -> Result<Observer, RequestError> {
        let target = Target::Name(election.into());
        Ok(Observer::new(self.watch(target, [])?))
    }
}
