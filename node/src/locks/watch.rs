//! Serving watches: of one shard for one lock, of all for a prefix.
//!
//! Invariant: a message is about one shard, and what is told of a shard is in order; a watch that
//! cannot tell everything ends with an error that says so.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use lockstep_model::{ClusterId, Revision, ShardId};
use lockstep_proto::lock::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::convert;
use crate::api::error::Fault;
use crate::{
    router::Router,
    watch::{self, Broken, News, target::Target},
};

/// Messages that wait for the connection.
const AHEAD: usize = 16;

/// The reason for beginning anew.
const COMPACTED: &str = "WATCH_COMPACTED";

type Responses = mpsc::Sender<Result<pb::WatchResponse, Status>>;

/// Watches until the client goes, or something is missed.
///
/// # Errors
/// If a field is out of bounds.
pub fn serve(
    router: Arc<Router>,
    request: pb::WatchRequest,
    stop: CancellationToken,
) -> Result<ReceiverStream<Result<pb::WatchResponse, Status>>, Fault> {
    let target = target(request.target)?;
    let directory = router.directory();
    let shards: Vec<ShardId> = match &target {
        Target::Name(name) => vec![directory.shard_of_lock(name)],
        Target::Prefix(_) => directory.data_shards().collect(),
    };
    let after = positions(directory.cluster, &shards, &request.after)?;
    let (responses, outgoing) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        let followed = shards.into_iter().map(|shard| {
            let position = after.get(&shard).copied();
            follow(
                Arc::clone(&router),
                shard,
                target.clone(),
                position,
                responses.clone(),
            )
        });
        tokio::select! {
            _ = join_all(followed) => {}
            () = responses.closed() => {}
            () = stop.cancelled() => {
                let fault = Fault::unavailable("SHUTTING_DOWN", "this node is stopping");
                // A client that does not read any more need not know.
                let _ = responses.try_send(Err(fault.into()));
            }
        }
    });
    Ok(ReceiverStream::new(outgoing))
}

/// Where the watch is to go on.
fn positions(
    cluster: ClusterId,
    shards: &[ShardId],
    positions: &[pb::Position],
) -> Result<BTreeMap<ShardId, Revision>, Fault> {
    let mut after = BTreeMap::new();
    for (at, position) in positions.iter().enumerate() {
        let of: ClusterId = position.cluster_id.parse().map_err(|_| {
            Fault::invalid(
                format!("after[{at}].cluster_id"),
                "must be the cluster_id of the message that told the position",
            )
        })?;
        if of != cluster {
            let words = format!(
                "the positions are those of cluster {of}, and this is cluster {cluster}, which counts anew: begin with the present holders"
            );
            return Err(Fault::new(Code::OutOfRange, COMPACTED, words).with("cluster", cluster));
        }
        let shard = ShardId(position.shard);
        if !shards.contains(&shard) || after.insert(shard, Revision(position.revision)).is_some() {
            return Err(Fault::invalid(
                format!("after[{at}].shard"),
                format!("is {shard}; must be a shard of what is watched, and named once"),
            ));
        }
    }
    Ok(after)
}

fn target(target: Option<pb::watch_request::Target>) -> Result<Target, Fault> {
    match target {
        Some(pb::watch_request::Target::Name(name)) => {
            Ok(Target::Name(convert::name("name", &name)?))
        }
        Some(pb::watch_request::Target::Prefix(prefix)) => Target::prefix(prefix)
            .ok_or_else(|| Fault::invalid("prefix", "is longer than any lock's name")),
        None => Err(Fault::invalid("target", "must be a name or a prefix")),
    }
}

/// Tells what happens in one shard.
async fn follow(
    router: Arc<Router>,
    shard: ShardId,
    target: Target,
    after: Option<Revision>,
    responses: Responses,
) {
    let (sender, mut news) = mpsc::channel(1);
    let cluster = router.directory().cluster;
    let following = watch::follow(router, shard, target, after, sender);
    let telling = async {
        while let Some(told) = news.recv().await {
            let message = told
                .map(|news| response(cluster, shard, news))
                .map_err(|broken| broken_off(shard, broken).into());
            let is_last = message.is_err();
            if responses.send(message).await.is_err() || is_last {
                return;
            }
        }
    };
    tokio::join!(following, telling);
}

fn response(cluster: ClusterId, shard: ShardId, news: News) -> pb::WatchResponse {
    pb::WatchResponse {
        cluster_id: cluster.to_string(),
        shard: shard.0,
        revision: news.revision.map_or(0, |revision| revision.0),
        changes: news.changes.into_iter().map(convert::change).collect(),
    }
}

fn broken_off(shard: ShardId, broken: Broken) -> Fault {
    match broken {
        Broken::Compacted(compacted) => {
            let words = compacted.to_string();
            Fault::new(Code::OutOfRange, COMPACTED, words).with("shard", shard)
        }
        Broken::Unserved(error) => Fault::from(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(cluster: ClusterId, shard: u32) -> pb::Position {
        pb::Position {
            shard,
            revision: 1,
            cluster_id: cluster.to_string(),
        }
    }

    /// Revision 1 of one cluster is not revision 1 of another, even if both have one.
    #[test]
    fn positions_of_another_cluster_are_compacted() {
        let (own, other) = (ClusterId([1; 16]), ClusterId([2; 16]));
        let shards = [ShardId(1), ShardId(2)];
        let after = positions(own, &shards, &[position(own, 2)]).unwrap();
        assert_eq!(after, BTreeMap::from([(ShardId(2), Revision(1))]));
        // Also where it had more shards.
        for shard in [2, 9] {
            let fault = positions(own, &shards, &[position(other, shard)]).unwrap_err();
            assert_eq!((fault.code, fault.reason), (Code::OutOfRange, COMPACTED));
        }
        for bad in [
            vec![position(own, 9)],
            vec![position(own, 1), position(own, 1)],
            vec![pb::Position::default()],
        ] {
            let fault = positions(own, &shards, &bad).unwrap_err();
            assert_eq!(fault.code, Code::InvalidArgument, "{bad:?}");
        }
    }
}
