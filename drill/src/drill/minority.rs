//! Asking a node that has no majority on its side: it must refuse, and soon.

use std::time::Duration;

use lockstep_proto::lock::v1::{
    AcquireOperation, AcquireRequest, LockMode, LockSpec, OpenSessionRequest, Wait, wait,
};
use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

use crate::cluster::Cluster;

/// After so long, a node that was asked counts as hanging.
const REFUSAL_LIMIT: Duration = Duration::from_secs(20);
/// The session must outlive a cut that is judged to its end.
const SESSION_TTL_MS: u64 = 60_000;

/// An acquisition that a whole cluster would grant at once, of a session that lives.
#[derive(Clone, Debug)]
pub struct MinorityRequest(AcquireRequest);

impl MinorityRequest {
    /// Opens a session while the cluster is whole, past the SDK, which would keep it alive for
    /// longer than it is needed and go to another node. `salt` chooses the lock.
    ///
    /// # Errors
    /// If the cluster does not serve.
    pub async fn prepare(cluster: &Cluster, salt: u32) -> anyhow::Result<Self> {
        let request = OpenSessionRequest {
            ttl_ms: SESSION_TTL_MS,
            ..OpenSessionRequest::default()
        };
        let opened = cluster.locks(0)?.open_session(request).await?;
        Ok(Self(AcquireRequest {
            session_id: opened.into_inner().session_id,
            serial: 0,
            acked_below: 0,
            acked: Vec::new(),
            operation: Some(AcquireOperation {
                locks: vec![LockSpec {
                    name: format!("minority/{salt}"),
                    mode: LockMode::Exclusive.into(),
                    ..LockSpec::default()
                }],
                owner: String::new(),
                wait: Some(Wait {
                    wait: Some(wait::Wait::TimeoutMs(1)),
                }),
                ..AcquireOperation::default()
            }),
        }))
    }

    /// Sends it to one node alone. Says how long the refusal took, or what came instead of one.
    ///
    /// # Errors
    /// If there is no such node.
    pub async fn refused_by(
        &self,
        cluster: &Cluster,
        node: usize,
    ) -> anyhow::Result<Result<Duration, String>> {
        let mut client = cluster.locks_within(node, REFUSAL_LIMIT * 2)?;
        let asked = Instant::now();
        let answer = timeout(REFUSAL_LIMIT, client.acquire(self.0.clone())).await;
        let node = format!("node-{}", node + 1);
        Ok(match answer {
            Err(_elapsed) => Err(format!("{node} was silent for {REFUSAL_LIMIT:?}")),
            Ok(Ok(granted)) => Err(format!("{node} granted {:?}", granted.into_inner())),
            Ok(Err(status)) if refuses(&status) => Ok(asked.elapsed()),
            Ok(Err(status)) => Err(format!("{node} answered {status:?}")),
        })
    }
}

/// Whether a status says that the request could not be served now, or that its outcome is unknown,
/// rather than that something is wrong with it.
fn refuses(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Aborted
    )
}
