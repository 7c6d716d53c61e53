//! Serving watches: of one shard for one lock, of all for a prefix.
//!
//! Invariant: a message is about one shard, and what is told of a shard is in order; a watch that
//! cannot tell everything ends with an error that says so.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::join_all;
use lockstep_model::{Revision, ShardId};
use lockstep_proto::lock::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{convert, error::Fault};
use crate::{
    router::Router,
    watch::{self, Broken, News, target::Target},
};

/// Messages that wait for the connection.
const AHEAD: usize = 16;

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
    let mut after = BTreeMap::new();
    for (at, position) in request.after.iter().enumerate() {
        let shard = ShardId(position.shard);
        if !shards.contains(&shard) || after.insert(shard, Revision(position.revision)).is_some() {
            return Err(Fault::invalid(
                format!("after[{at}].shard"),
                format!("is {shard}; must be a shard of what is watched, and named once"),
            ));
        }
    }
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
    let following = watch::follow(router, shard, target, after, sender);
    let telling = async {
        while let Some(told) = news.recv().await {
            let message = told
                .map(|news| response(shard, news))
                .map_err(|broken| broken_off(shard, broken).into());
            let is_last = message.is_err();
            if responses.send(message).await.is_err() || is_last {
                return;
            }
        }
    };
    tokio::join!(following, telling);
}

fn response(shard: ShardId, news: News) -> pb::WatchResponse {
    pb::WatchResponse {
        shard: shard.0,
        revision: news.revision.map_or(0, |revision| revision.0),
        changes: news.changes.into_iter().map(convert::change).collect(),
    }
}

fn broken_off(shard: ShardId, broken: Broken) -> Fault {
    match broken {
        Broken::Compacted(compacted) => {
            let words = compacted.to_string();
            Fault::new(Code::OutOfRange, "WATCH_COMPACTED", words).with("shard", shard)
        }
        Broken::Unserved(error) => Fault::from(error),
    }
}
