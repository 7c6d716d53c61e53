//! Watching who holds what.
//!
//! Invariant: each change is told once and in the order of its shard, whatever becomes of nodes and
//! connections; or else the watch says that it has missed some, and begins again with the present
//! holders.

mod course;
mod follow;

use std::{collections::BTreeMap, time::SystemTime};

use lockstep_model::{
    id::{ClusterId, FencingToken, LockName, Revision, SessionId, ShardId},
    locks::{change::ChangeKind, mode::Mode},
};
use lockstep_proto::lock::v1::watch_request::Target as WireTarget;
use tokio::{sync::mpsc, task::AbortHandle};

use self::course::{Course, Step};
use crate::{client::Client, error::RequestError, placement::Key};

/// Steps that wait to be taken: those of two of a node's messages. Beyond it the node waits, and
/// tells at most that history was lost.
const WATCH_QUEUE: usize = 1_024;

/// What is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One lock.
    Name(String),
    /// All locks whose names begin so; empty: all.
    Prefix(String),
}

/// Up to where a watch has been told the changes of a shard. Of no use in another cluster, even if
/// that was made of a backup of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The cluster.
    pub cluster: ClusterId,
    /// The shard.
    pub shard: ShardId,
    /// The last change.
    pub revision: Revision,
}

/// What a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// The nodes are another cluster's now: one that was made of a backup, or of what was left of a
    /// lost one. Forget all that was known; the present holders in its shards follow.
    OtherCluster {
        /// Its id.
        cluster: ClusterId,
    },
    /// The present holders in a shard follow, as changes of kind [`ChangeKind::Present`]: forget
    /// what was known of its locks.
    Began {
        /// The shard.
        shard: ShardId,
        /// True if there were changes in between that nobody knows any more.
        history_lost: bool,
    },
    /// A lock's holders have changed.
    Changed(Change),
    /// All present holders in a shard have been told; from here on each change is.
    Current {
        /// The shard.
        shard: ShardId,
    },
    /// No node serves the watch at present, so what was told may be old. It is tried again until
    /// [`WatchEvent::Resumed`].
    Interrupted {
        /// The last error, with its node.
        cause: String,
    },
    /// The interruption is over. What was missed follows.
    Resumed,
}

/// A change of a lock's holders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The lock's shard.
    pub shard: ShardId,
    /// The change's number in its shard; for a present holder, that of the last change.
    pub revision: Revision,
    /// When it happened, by the cluster's clock; for a present holder, about when it was told.
    pub at: SystemTime,
    /// The lock.
    pub name: String,
    /// What happened to the hold. None where the server said something else.
    pub kind: Option<ChangeKind>,
    /// Whose hold.
    pub session: SessionId,
    /// Which of the session's owners.
    pub owner: String,
    /// How it is, or was, held. None where the server did not say.
    pub mode: Option<Mode>,
    /// The hold's token.
    pub token: FencingToken,
    /// What the holder says, or said last.
    pub value: Vec<u8>,
}

/// A watch; made by [`Client::watch`]. It goes on by itself when nodes are lost, at others, until it
/// is dropped.
#[derive(Debug)]
pub struct Watch {
    steps: mpsc::Receiver<Result<Step, RequestError>>,
    /// All of one cluster.
    positions: BTreeMap<ShardId, Position>,
    ended: Option<RequestError>,
    task: AbortHandle,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Must be called within a tokio runtime.
    pub(crate) fn start(
        client: Client,
        target: Target,
        after: impl IntoIterator<Item = Position>,
    ) -> Result<Self, RequestError> {
        let (key, target) = match target {
            Target::Name(name) => (Key::Lock(LockName::new(&name)?), WireTarget::Name(name)),
            Target::Prefix(prefix) => (Key::Any, WireTarget::Prefix(prefix)),
        };
        let after = after.into_iter();
        let positions: BTreeMap<_, _> = after.map(|at| (at.shard, at)).collect();
        let (sender, steps) = mpsc::channel(WATCH_QUEUE);
        let course = Course::new(positions.values().copied());
        let task = tokio::spawn(follow::run(client, key, target, course, sender));
        Ok(Self {
            steps,
            positions,
            ended: None,
            task: task.abort_handle(),
        })
    }

    /// The next event. May be dropped and called again: nothing is missed.
    ///
    /// # Errors
    /// If the cluster refuses to be watched; the watch is over then. If it does not answer, it is
    /// asked again and again.
    pub async fn next(&mut self) -> Result<WatchEvent, RequestError> {
        loop {
            if let Some(error) = &self.ended {
                return Err(error.clone());
            }
            match self.steps.recv().await {
                Some(Ok(step)) => {
                    if let Some(event) = self.take(step) {
                        return Ok(event);
                    }
                }
                Some(Err(error)) => self.ended = Some(error),
                // The task ends with an error, or with its runtime, which nobody survives.
                None => std::future::pending().await,
            }
        }
    }

    /// Up to where the events that [`Self::next`] has given tell all changes: what to give to
    /// [`Client::watch`] later, to go on from here. A shard whose present holders are being told is
    /// not among them.
    #[must_use]
    pub fn positions(&self) -> Vec<Position> {
        self.positions.values().copied().collect()
    }

    fn take(&mut self, step: Step) -> Option<WatchEvent> {
        match step {
            Step::Tell { event, position } => {
                match event {
                    WatchEvent::OtherCluster { .. } => self.positions.clear(),
                    WatchEvent::Began { shard, .. } => {
                        self.positions.remove(&shard);
                    }
                    WatchEvent::Changed(_)
                    | WatchEvent::Current { .. }
                    | WatchEvent::Interrupted { .. }
                    | WatchEvent::Resumed => {}
                }
                self.reach(position);
                Some(event)
            }
            Step::Reach(position) => {
                self.reach(Some(position));
                None
            }
        }
    }

    fn reach(&mut self, position: Option<Position>) {
        self.positions.extend(position.map(|at| (at.shard, at)));
    }
}
