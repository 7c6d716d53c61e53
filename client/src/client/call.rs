//! Unary calls: to the leader first, then to the others, with pauses, until the time is over.
//!
//! Invariant: a call ends within the request timeout, and only requests that may be repeated go
//! this way.

use lockstep_proto::lock::v1::lock_service_client::LockServiceClient;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Status, transport::Channel};

use super::Client;
use crate::{
    address::Address,
    backoff,
    config::ATTEMPTS_PER_TIMEOUT,
    error::{Disposition, RequestError, ServerError},
    placement::Key,
};

impl Client {
    /// Calls the lock service.
    pub(super) async fn locks<T, F>(
        &self,
        key: &Key,
        request: impl Fn(LockServiceClient<Channel>) -> F,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        self.call(key, |address| request(self.channels().locks(&address)))
            .await
    }

    /// Calls any service.
    pub(super) async fn call<T, F>(
        &self,
        key: &Key,
        request: impl Fn(Address) -> F,
    ) -> Result<T, RequestError>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let started = Instant::now();
        let limit = self.request_timeout();
        let mut failures = 0;
        let mut last = "no node is known".to_owned();
        loop {
            // The placement may have changed since the last round.
            for address in self.placement().candidates(key) {
                let left = limit.saturating_sub(started.elapsed());
                if left.is_zero() {
                    return Err(RequestError::Unreachable { after: limit, last });
                }
                let patience = left.min(limit / ATTEMPTS_PER_TIMEOUT);
                let error = match timeout(patience, request(address.clone())).await {
                    Ok(Ok(response)) => return Ok(response),
                    Ok(Err(status)) => ServerError::from_status(&status),
                    Err(_) => {
                        last = format!("{address}: no answer");
                        continue;
                    }
                };
                match error.disposition() {
                    Disposition::Retry => last = format!("{address}: {error}"),
                    Disposition::SessionOver | Disposition::Final => {
                        return Err(RequestError::Refused(error));
                    }
                }
            }
            failures += 1;
            let left = limit.saturating_sub(started.elapsed());
            sleep(backoff::pause(failures).min(left)).await;
            if left.is_zero() {
                return Err(RequestError::Unreachable { after: limit, last });
            }
        }
    }
}
