//! The task of a watch: asks one node after another, and hands on what they tell.
//!
//! Invariant: nothing is heard before all that was heard earlier is handed on, so whoever watches
//! slowly slows the node down; and no node is asked again without a pause.

use lockstep_model::id::ShardId;
use lockstep_proto::lock::v1::{WatchRequest, WatchResponse, watch_request::Target};
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};
use tonic::{Status, Streaming};

use super::{
    WatchEvent,
    course::{Course, Step},
};
use crate::{
    address::Address,
    backoff,
    client::Client,
    config::{ATTEMPTS_PER_TIMEOUT, QUIET_WATCH_TIMEOUTS},
    error::{Disposition, Reason, RequestError, ServerError},
    placement::Key,
};

/// What becomes of a stream.
enum End {
    /// Nobody watches any more, or the cluster refuses: it is over.
    Over,
    /// The node served it, and another is to go on.
    Served,
    /// The node did not serve it; in words.
    Failed(String),
}

struct Task {
    client: Client,
    key: Key,
    target: Target,
    course: Course,
    steps: mpsc::Sender<Result<Step, RequestError>>,
    /// Whether the one who watches was told that nobody serves the watch.
    interrupted: bool,
}

/// Runs until nobody watches any more, or the cluster refuses.
pub(super) async fn run(
    client: Client,
    key: Key,
    target: Target,
    course: Course,
    steps: mpsc::Sender<Result<Step, RequestError>>,
) {
    let task = Task {
        client,
        key,
        target,
        course,
        steps,
        interrupted: false,
    };
    task.run().await;
}

impl Task {
    async fn run(mut self) {
        let mut failures = 0;
        let mut before = None;
        loop {
            let mut last = "no node is known".to_owned();
            let mut served = false;
            let mut candidates = self.client.placement().candidates(&self.key);
            candidates.sort_by_key(|address| before.as_ref() == Some(address));
            for address in candidates {
                match self.follow(&address).await {
                    End::Over => return,
                    End::Served => {
                        served = true;
                        before = Some(address);
                        break;
                    }
                    End::Failed(words) => last = format!("{address}: {words}"),
                }
            }
            failures = if served { 1 } else { failures + 1 };
            if !served && !self.interrupted {
                self.interrupted = true;
                if !self.tell(WatchEvent::Interrupted { cause: last }).await {
                    return;
                }
            }
            sleep(backoff::pause(failures)).await;
        }
    }

    /// Follows one node until it ends or falls silent.
    async fn follow(&mut self, address: &Address) -> End {
        let request = WatchRequest {
            target: Some(self.target.clone()),
            after: self.course.after(),
        };
        let patience = self.client.request_timeout() / ATTEMPTS_PER_TIMEOUT;
        let mut service = self.client.channels().locks(address);
        let mut messages = match timeout(patience, service.watch(request)).await {
            Err(_) => return End::Failed("no answer".to_owned()),
            Ok(Err(status)) => return self.refused(&status, false).await,
            Ok(Ok(response)) => response.into_inner(),
        };
        if std::mem::take(&mut self.interrupted) && !self.tell(WatchEvent::Resumed).await {
            return End::Over;
        }
        let end = self.hear(&mut messages).await;
        self.course.broken_off();
        end
    }

    async fn hear(&mut self, messages: &mut Streaming<WatchResponse>) -> End {
        let quiet = self.client.request_timeout() * QUIET_WATCH_TIMEOUTS;
        let mut served = false;
        loop {
            let message = match timeout(quiet, messages.message()).await {
                // It may have nothing to tell, or be cut off from the others: another would know.
                Err(_) => return End::Served,
                Ok(Ok(None)) if served => return End::Served,
                Ok(Ok(None)) => return End::Failed("it ended the watch".to_owned()),
                Ok(Err(status)) => return self.refused(&status, served).await,
                Ok(Ok(Some(message))) => message,
            };
            served = true;
            for step in self.course.take(message) {
                if self.steps.send(Ok(step)).await.is_err() {
                    return End::Over;
                }
            }
        }
    }

    async fn refused(&mut self, status: &Status, served: bool) -> End {
        let error = ServerError::from_status(status);
        if error.reason == Reason::WatchCompacted {
            let shard = error.metadata.get("shard");
            let shard = shard.and_then(|shard| shard.parse().ok()).map(ShardId);
            self.course.lose(shard);
            return End::Served;
        }
        match error.disposition() {
            Disposition::Retry if served => End::Served,
            Disposition::Retry => End::Failed(error.to_string()),
            Disposition::Final | Disposition::SessionOver => {
                // Whoever does not watch any more need not know.
                let _nobody = self.steps.send(Err(error.into())).await;
                End::Over
            }
        }
    }

    /// False if nobody watches any more.
    async fn tell(&self, event: WatchEvent) -> bool {
        let step = Step::Tell {
            event,
            position: None,
        };
        self.steps.send(Ok(step)).await.is_ok()
    }
}
