//! Which of several operators acts.
//!
//! Invariants: one that cannot renew its lease stops acting before another may take it. Clocks are not
//! compared: a lease is taken over only after it was seen unchanged for its whole duration by one's own
//! clock (as client-go does). All the same two may act for a moment, so what they do is named by unique
//! ids and revisions. Source: k8s.io/client-go/tools/leaderelection.

use std::time::{Duration, Instant};

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio_util::sync::CancellationToken;

/// After how long without a renewal another one may take over.
pub const DURATION: Duration = Duration::from_secs(15);
/// After how long without a successful renewal the holder gives up.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, or looked at.
const INTERVAL: Duration = Duration::from_secs(4);

/// What to do about a lease as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is ours: renew it.
    Renew,
    /// It is free or abandoned: take it.
    Acquire,
    /// It is another's.
    Yield,
}

/// Decides about a lease.
///
/// `unchanged` is for how long it was seen as it is.
#[must_use]
pub fn decide(spec: Option<&LeaseSpec>, me: &str, unchanged: Duration) -> Decision {
    let holder = spec
        .and_then(|spec| spec.holder_identity.as_deref())
        .unwrap_or_default();
    let duration = spec
        .and_then(|spec| spec.lease_duration_seconds)
        .and_then(|seconds| u64::try_from(seconds).ok());
    if holder == me {
        Decision::Renew
    } else if holder.is_empty() || unchanged >= duration.map_or(DURATION, Duration::from_secs) {
        Decision::Acquire
    } else {
        Decision::Yield
    }
}

/// A lease that one of several holds.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    me: String,
    /// The renewal that was last seen, and when.
    seen: Option<(Option<MicroTime>, Instant)>,
    /// As it was last written, while it is ours: it is renewed without being read before.
    held: Option<Lease>,
}

impl Election {
    /// An election by the lease of this name.
    #[must_use]
    pub fn new(client: Client, namespace: &str, name: &str, me: String) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me,
            seen: None,
            held: None,
        }
    }

    /// Waits until it is ours. False if cancelled before.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.attempt().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the lease cannot be looked at"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    /// Renews it until cancelled, which gives true, or until it is lost.
    pub async fn hold(&mut self, stop: &CancellationToken) -> bool {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return true,
                () = tokio::time::sleep(INTERVAL) => {}
            }
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            // Someone may just have touched it: then it is looked at once more.
            let renewal =
                async { Ok::<_, kube::Error>(self.attempt().await? || self.attempt().await?) };
            match tokio::time::timeout(left, renewal).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => {
                    tracing::error!("another operator holds the lease");
                    return false;
                }
                Ok(Err(error)) => tracing::warn!(%error, "the lease cannot be renewed"),
                Err(_) => {}
            }
            if renewed.elapsed() >= RENEW_DEADLINE {
                tracing::error!("the lease was not renewed in time");
                return false;
            }
        }
    }

    /// Gives it up, so that another need not wait.
    pub async fn release(&self) {
        let Ok(Some(mut lease)) = self.leases.get_opt(&self.name).await else {
            return;
        };
        let is_mine = lease
            .spec
            .as_ref()
            .is_some_and(|spec| spec.holder_identity.as_deref() == Some(&self.me));
        if let (true, Some(spec)) = (is_mine, &mut lease.spec) {
            spec.holder_identity = None;
            spec.lease_duration_seconds = Some(1);
            if let Err(error) = self
                .leases
                .replace(&self.name, &PostParams::default(), &lease)
                .await
            {
                tracing::warn!(%error, "the lease was not given up; another operator has to wait for its end");
            }
        }
    }

    /// Takes or renews it if it may. True if it is ours then.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let found = match self.held.take() {
            Some(lease) => Some(lease),
            None => self.leases.get_opt(&self.name).await?,
        };
        let spec = found.as_ref().and_then(|lease| lease.spec.as_ref());
        let renewal = spec.and_then(|spec| spec.renew_time.clone());
        let unchanged = match &self.seen {
            Some((seen, at)) if *seen == renewal => at.elapsed(),
            Some(_) | None => {
                self.seen = Some((renewal, Instant::now()));
                Duration::ZERO
            }
        };
        let decision = decide(spec, &self.me, unchanged);
        if decision == Decision::Yield {
            return Ok(false);
        }
        let lease = self.mine(found, decision);
        // The resource version keeps two from taking it at once.
        let written = if lease.metadata.resource_version.is_some() {
            self.leases
                .replace(&self.name, &PostParams::default(), &lease)
                .await
        } else {
            self.leases.create(&PostParams::default(), &lease).await
        };
        match written {
            Ok(lease) => {
                self.held = Some(lease);
                Ok(true)
            }
            Err(kube::Error::Api(answer)) if answer.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn mine(&self, found: Option<Lease>, decision: Decision) -> Lease {
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                ..ObjectMeta::default()
            },
            spec: None,
        });
        let now = MicroTime(Timestamp::now());
        let spec = lease.spec.get_or_insert_default();
        if decision == Decision::Acquire {
            spec.acquire_time = Some(now.clone());
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
        }
        spec.holder_identity = Some(self.me.clone());
        spec.lease_duration_seconds = i32::try_from(DURATION.as_secs()).ok();
        spec.renew_time = Some(now);
        lease
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_taken_only_when_free_or_abandoned() {
        let held = |holder: Option<&str>| LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        };
        let seconds = Duration::from_secs;
        for (spec, unchanged, expected) in [
            (None, 0, Decision::Acquire),
            (Some(held(None)), 0, Decision::Acquire),
            (Some(held(Some(""))), 0, Decision::Acquire),
            (Some(held(Some("me"))), 99, Decision::Renew),
            (Some(held(Some("other"))), 14, Decision::Yield),
            (Some(held(Some("other"))), 15, Decision::Acquire),
        ] {
            assert_eq!(
                decide(spec.as_ref(), "me", seconds(unchanged)),
                expected,
                "{spec:?}"
            );
        }
    }
}
