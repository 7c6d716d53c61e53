//! Asking every data shard.
//!
//! Invariant: a list with holes would mislead, so there is none unless every shard has answered.

use futures::future::join_all;
use lockstep_model::{Answer, Query, ShardId};

use super::error::Fault;
use crate::router::{RouteError, Router};

/// The shards' answers.
///
/// # Errors
/// If one does not answer.
pub async fn everywhere(router: &Router, query: &Query) -> Result<Vec<(ShardId, Answer)>, Fault> {
    let asked = router
        .directory()
        .data_shards()
        .map(|shard| async move { Ok((shard, router.query(shard, query.clone()).await?)) });
    join_all(asked)
        .await
        .into_iter()
        .collect::<Result<_, RouteError>>()
        .map_err(Fault::from)
}
