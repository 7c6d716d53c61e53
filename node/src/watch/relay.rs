//! Telling another node what a replica here applies, for the watches that it serves.
//!
//! Invariant: it ends when the other node goes, or the replica does.

use std::sync::Arc;

use lockstep_model::Revision;
use lockstep_proto::raft::v1 as pb;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::{Broken, News, Telling, here, target::Target};
use crate::{replica::Replica, router::Router};

/// Messages that wait for the connection.
const AHEAD: usize = 4;

type Messages = mpsc::Sender<Result<pb::WatchShardResponse, Status>>;

/// Tells the changes after a revision; without one, the present holders first. Begins once the replica
/// has applied the changes up to `floor`.
pub fn serve(
    router: Arc<Router>,
    replica: Arc<Replica>,
    target: Target,
    after: Option<Revision>,
    floor: Revision,
) -> ReceiverStream<Result<pb::WatchShardResponse, Status>> {
    let (messages, outgoing) = mpsc::channel(AHEAD);
    let (sender, news) = mpsc::channel(1);
    tokio::spawn(async move {
        let following = async move {
            let mut telling = Telling::new(sender, after);
            let end = here(&router, &replica, &target, floor, &mut telling).await;
            telling.end(end).await;
        };
        tokio::join!(following, tell(news, messages));
    });
    ReceiverStream::new(outgoing)
}

async fn tell(mut news: mpsc::Receiver<Result<News, Broken>>, messages: Messages) {
    loop {
        let told = tokio::select! {
            told = news.recv() => told,
            () = messages.closed() => return,
        };
        let Some(told) = told else {
            return;
        };
        let message = told
            .map(|news| pb::WatchShardResponse {
                revision: news.revision.map_or(0, |revision| revision.0),
                changes: news
                    .changes
                    .iter()
                    .map(|change| change.encode().into())
                    .collect(),
            })
            .map_err(|broken| match broken {
                Broken::Compacted(compacted) => Status::out_of_range(compacted.to_string()),
                Broken::Unserved(error) => Status::unavailable(error.to_string()),
            });
        if messages.send(message).await.is_err() {
            return;
        }
    }
}
