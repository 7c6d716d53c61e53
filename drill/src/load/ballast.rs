//! State that lies still: locks that are held with large values and never given back, so that a
//! shard is worth moving.

use anyhow::Context;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use lockstep_proto::lock::v1::{
    AcquireOperation, AcquireRequest, LockMode, LockSpec, NoWait, OpenSessionRequest, Wait, wait,
};

use super::arena::Door;

/// All its locks begin so: not as those of the load, which are counted in the end.
const PREFIX: &str = "ballast/";
/// The longest value that a lock may have, in bytes.
const VALUE_BYTES: usize = 4_096;
/// Longer than any drill, and the longest that there is: an hour. Nobody keeps the session alive.
const TTL_MS: u64 = 3_600_000;
/// Acquisitions at once: they share batches.
const AT_ONCE: usize = 32;

/// Puts so many bytes into a cluster's data shards, spread over all of them as the ring spreads names.
///
/// # Errors
/// If a lock is not granted.
pub async fn place(mut door: Door, bytes: usize) -> anyhow::Result<()> {
    let open = OpenSessionRequest {
        ttl_ms: TTL_MS,
        ..OpenSessionRequest::default()
    };
    let session_id = door.open_session(open).await?.into_inner().session_id;
    let value: Vec<u8> = (0..VALUE_BYTES).map(|at| (at % 251) as u8).collect();
    let locks = stream::iter(0..bytes / VALUE_BYTES).map(Ok::<_, anyhow::Error>);
    locks
        .try_for_each_concurrent(AT_ONCE, |number| {
            let mut door = door.clone();
            let request = AcquireRequest {
                session_id,
                operation: Some(AcquireOperation {
                    locks: vec![LockSpec {
                        name: format!("{PREFIX}{number}"),
                        mode: LockMode::Exclusive.into(),
                        ..LockSpec::default()
                    }],
                    wait: Some(Wait {
                        wait: Some(wait::Wait::NoWait(NoWait {})),
                    }),
                    value: value.clone(),
                    ..AcquireOperation::default()
                }),
                ..AcquireRequest::default()
            };
            async move {
                door.acquire(request).await.context("ballast")?;
                Ok(())
            }
        })
        .await
}
