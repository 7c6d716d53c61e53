//! The leader's queue: collects commands into batches and puts them into the log.
//!
//! Invariant: commands enter the log in the order in which they were queued, every command gets
//! exactly one answer, and memory is bounded by [`MAX_QUEUED`] commands and [`MAX_IN_FLIGHT`] batches.
//! Callers are told where the batch is applied, without a detour over another task.

mod in_flight;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use lockstep_model::{
    Batch, Command, NodeId, Outcome, Reply, ShardId, command::MAX_COMMANDS_PER_BATCH,
};
use openraft::errors::ClientWriteError;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};

use super::{
    Group, Leading,
    shard_clock::ShardClock,
    waiters::{Answer, Key, Waiters},
};
use crate::{
    clock, metrics,
    raft::{
        responder::OnComplete,
        types::{BatchBytes, TypeConfig},
    },
    request::RequestError,
};
use in_flight::InFlight;

/// Commands that wait to be batched. Beyond that callers are told to come back.
const MAX_QUEUED: usize = 8_192;
/// Bytes after which a batch takes no more commands; the largest single one is 33 KiB. Keeps
/// messages between peers below their bound.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// Batches under way at once: while one is replicated the next one fills up, which is what makes
/// batches large under load and small when idle.
const MAX_IN_FLIGHT: usize = 2;
/// How long a batch may take to be committed before its callers are told that its outcome is
/// unknown. Longer than an election.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(4);
/// How often that is looked at, while batches are under way.
const LOOK: Duration = Duration::from_millis(500);

struct Proposal {
    command: Command,
    answer: Answer,
}

/// A command that has its place in the log's order.
pub struct Enqueued(oneshot::Receiver<Result<Reply, RequestError>>);

impl Enqueued {
    /// Waits for the reply.
    ///
    /// # Errors
    /// As [`Proposer::propose`].
    pub async fn wait(self) -> Result<Reply, RequestError> {
        self.0.await.unwrap_or(Err(RequestError::UnknownOutcome))
    }
}

/// The queue of one shard.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Proposal>,
}

/// Where a command's answer goes once its batch is applied.
enum Slot {
    Direct(Answer),
    Waiting(Key),
}

/// What Raft says of a batch.
type WriteResult = openraft::raft::ClientWriteResult<TypeConfig>;

/// The callers of one batch.
struct Callers {
    waiters: Arc<Waiters>,
    slots: Vec<Slot>,
    /// The batch's place among those under way.
    _permit: OwnedSemaphorePermit,
}

impl Callers {
    fn tell(self, result: Result<Vec<Outcome>, RequestError>) {
        match result {
            Ok(outcomes) => distribute(&self.waiters, self.slots, outcomes),
            Err(error) => fail(&self.waiters, self.slots, &error),
        }
    }
}

impl Proposer {
    /// Starts the worker; it ends when the last handle is dropped.
    #[must_use]
    pub fn start(shard: ShardId, raft: Group, leading: &Leading) -> Self {
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        tokio::spawn(
            Worker {
                shard,
                raft,
                time: Arc::clone(&leading.time),
                waiters: Arc::clone(&leading.waiters),
                queued,
            }
            .run(),
        );
        Self { queue }
    }

    /// True once the worker has ended, which it does not while there is a handle: it has panicked.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.queue.is_closed()
    }

    /// Proposes a command and waits for its reply, for as long as it is blocked.
    ///
    /// # Errors
    /// If this replica does not lead, loses the lead, or has too much queued.
    pub async fn propose(&self, command: Command) -> Result<Reply, RequestError> {
        self.enqueue(command)?.wait().await
    }

    /// Takes its place in the order of commands, now; whoever wants to know waits for the answer.
    ///
    /// # Errors
    /// If too much is queued, or this replica is being closed.
    pub fn enqueue(&self, command: Command) -> Result<Enqueued, RequestError> {
        let (answer, answered) = oneshot::channel();
        match self.queue.try_send(Proposal { command, answer }) {
            Ok(()) => Ok(Enqueued(answered)),
            Err(mpsc::error::TrySendError::Full(_)) => {
                metrics::get().refused("shard_queue_full");
                Err(RequestError::Busy)
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                Err(RequestError::NotLeader { leader: None })
            }
        }
    }
}

struct Worker {
    shard: ShardId,
    raft: Group,
    time: Arc<ShardClock>,
    waiters: Arc<Waiters>,
    queued: mpsc::Receiver<Proposal>,
}

impl Worker {
    async fn run(mut self) {
        let room = Arc::new(Semaphore::new(MAX_IN_FLIGHT));
        let in_flight = Arc::new(InFlight::default());
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut proposals = Vec::new();
        loop {
            let next = async {
                let permit = Arc::clone(&room).acquire_owned().await.ok()?;
                collect(&mut self.queued, &mut proposals)
                    .await
                    .then_some(permit)
            };
            let permit = tokio::select! {
                permit = next => permit,
                _ = looks.tick(), if !in_flight.is_empty() => {
                    for callers in in_flight.older_than(COMMIT_TIMEOUT) {
                        callers.tell(Err(RequestError::UnknownOutcome));
                    }
                    continue;
                }
            };
            let Some(permit) = permit else { return };
            metrics::get().batch(proposals.len());
            self.propose(&mut proposals, permit, &in_flight).await;
        }
    }

    /// Puts a batch into the log.
    async fn propose(
        &self,
        proposals: &mut Vec<Proposal>,
        permit: OwnedSemaphorePermit,
        in_flight: &Arc<InFlight>,
    ) {
        let (commands, slots) = self.slots(proposals);
        let callers = Callers {
            waiters: Arc::clone(&self.waiters),
            slots,
            _permit: permit,
        };
        let batch: Bytes = Batch {
            at: self.time.now(),
            wall: clock::now(),
            commands,
        }
        .encode()
        .into();
        // What cannot be read would stop every replica for good, so it never gets into the log.
        if let Err(error) = Batch::decode(&batch) {
            tracing::error!(shard = %self.shard, %error, "a batch cannot be read back");
            let what = error.to_string();
            return callers.tell(Err(RequestError::Malformed { what }));
        }
        let number = in_flight.add(callers);
        let told = Arc::clone(in_flight);
        let responder = OnComplete::new(move |result: WriteResult| {
            // None if they were told already that it took too long.
            if let Some(callers) = told.take(number) {
                callers.tell(match result {
                    Ok(written) => Ok(written.data.0),
                    Err(error) => Err(refused(error)),
                });
            }
        });
        let begun = self
            .raft
            .client_write_ff(BatchBytes(batch), Some(responder))
            .await;
        if let Err(fatal) = begun {
            tracing::error!(shard = %self.shard, %fatal, "the replica has stopped");
            if let Some(callers) = in_flight.take(number) {
                callers.tell(Err(RequestError::NotLeader { leader: None }));
            }
        }
    }

    /// Separates commands from where their answers go; those that may block are registered.
    fn slots(&self, proposals: &mut Vec<Proposal>) -> (Vec<Command>, Vec<Slot>) {
        proposals
            .drain(..)
            .map(|Proposal { command, answer }| {
                let slot = match command.waits() {
                    Some(key) => {
                        self.waiters.register(key, answer);
                        Slot::Waiting(key)
                    }
                    None => Slot::Direct(answer),
                };
                (command, slot)
            })
            .unzip()
    }
}

/// Waits for a first command and takes what else is there, within the bounds of a batch. False
/// if there will be none.
async fn collect(queued: &mut mpsc::Receiver<Proposal>, proposals: &mut Vec<Proposal>) -> bool {
    let Some(first) = queued.recv().await else {
        return false;
    };
    let mut bytes = first.command.weight();
    proposals.push(first);
    while proposals.len() < MAX_COMMANDS_PER_BATCH
        && bytes < MAX_BATCH_BYTES
        && let Ok(next) = queued.try_recv()
    {
        bytes += next.command.weight();
        proposals.push(next);
    }
    true
}

fn distribute(waiters: &Waiters, slots: Vec<Slot>, outcomes: Vec<Outcome>) {
    for (slot, outcome) in slots.into_iter().zip(outcomes) {
        match (slot, outcome) {
            (Slot::Direct(answer), Outcome::Done(reply)) => {
                let _ = answer.send(Ok(reply));
            }
            (Slot::Waiting(key), Outcome::Done(reply)) => waiters.finish(key, &Ok(reply)),
            (Slot::Waiting(_), Outcome::Pending) => {}
            // A command that cannot block was blocked: drop the answer, which tells its caller
            // that the outcome is unknown.
            (Slot::Direct(_), Outcome::Pending) => {
                tracing::error!("a command that does not wait is pending");
            }
        }
    }
}

fn fail(waiters: &Waiters, slots: Vec<Slot>, error: &RequestError) {
    for slot in slots {
        match slot {
            Slot::Direct(answer) => {
                let _ = answer.send(Err(error.clone()));
            }
            Slot::Waiting(key) => waiters.finish(key, &Err(error.clone())),
        }
    }
}

/// A batch that was rejected before it was appended was not done; all else is unknown.
fn refused(error: ClientWriteError<TypeConfig>) -> RequestError {
    match error {
        ClientWriteError::ForwardToLeader(forward) => RequestError::NotLeader {
            leader: forward.leader_id.map(NodeId),
        },
        ClientWriteError::LogEntryDiscarded(_)
        | ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_) => RequestError::UnknownOutcome,
    }
}
