//! The one thread that writes: group commit for all shards of the node.
//!
//! Whatever waits is written to the journal as one group and synced once, then applied to the
//! database and acknowledged in order. While the device syncs one group, the next gathers; so the
//! more there is to do, the more each sync carries, and nobody waits for a timer.
//!
//! Invariant: requests take effect, and are acknowledged, in the order in which they were handed
//! in, those of different shards too; a request is acknowledged only when it is as durable as it
//! asked to be. After a write has failed nothing is written any more: a device that failed to sync
//! may report success the next time, with the data gone (Rebello et al., "Can Applications Recover
//! from fsync Failures?", USENIX ATC 2020). What found no room before it was synced has not failed: it is
//! written when there is room, and all else waits behind it.

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{
    engine::{Engine, EngineError},
    flusher::Flusher,
    high_water::HighWater,
    journal::Journal,
    op::Op,
    space::{self, Space, Writes},
    stats::{GroupSize, StorageStats},
};
use crate::crash::{self, Point};

/// Most requests that wait. A shard has a few under way at a time; beyond this, callers wait.
const QUEUE_REQUESTS: usize = 1_024;
/// Most bytes in one group: bounds how long the first of it waits for the last.
const MAX_GROUP_BYTES: usize = 4 << 20;

/// When a write is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Durability {
    /// With a later write that is synced; in the same order in any case.
    Ordered,
    /// Before it is acknowledged.
    Synced,
}

/// What becomes of a request is told through this, on the writer's thread: it must be quick.
pub(crate) type Done = Box<dyn FnOnce(Result<(), WriteFailed>) + Send>;

/// Changes that take effect together.
pub(crate) struct Request {
    /// In order. None at all makes a barrier: done when all before it is.
    pub(crate) ops: Vec<Op>,
    /// When it may be acknowledged.
    pub(crate) durability: Durability,
    /// To whom.
    pub(crate) done: Done,
}

/// A write was not done, or is not known to have been.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteFailed {
    /// The storage is shut down.
    #[error("the storage is shut down")]
    Stopped,
    /// The engine failed, now or at an earlier write.
    #[error("{0}; nothing is written any more: check the disk, then restart the node")]
    Engine(#[from] EngineError),
}

impl From<WriteFailed> for io::Error {
    fn from(failed: WriteFailed) -> Self {
        Self::other(failed)
    }
}

/// Ends with the result of a last sync.
pub(crate) type WriterThread = JoinHandle<Result<(), EngineError>>;

enum Message {
    Write(Request),
    Stop,
}

/// The handle to the writer thread. Dropping it writes what waits, and ends the thread.
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
    space: Arc<Space>,
    thread: Mutex<Option<WriterThread>>,
}

impl Writer {
    /// Starts the thread. The database has all that is in the journal.
    pub(crate) fn start(
        engine: Arc<Engine>,
        space: Arc<Space>,
        stats: Arc<StorageStats>,
        high_water: HighWater,
        journal: Journal,
    ) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_REQUESTS);
        let closing = Arc::clone(&space);
        let writing = Writing {
            flusher: Flusher::new(Arc::clone(&engine), Arc::clone(&space)),
            engine,
            space,
            stats,
            high_water,
            journal,
            failed: None,
        };
        let thread = thread::Builder::new()
            .name("storage-writer".to_owned())
            .spawn(move || writing.run(waiting))?;
        Ok(Self {
            queue,
            space: closing,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Hands a request in; waits only for room in the queue. Its place in the order is that of the
    /// return.
    ///
    /// # Errors
    /// [`WriteFailed::Stopped`]; then `done` is never called.
    pub(crate) async fn submit(&self, request: Request) -> Result<(), WriteFailed> {
        self.queue
            .send(Message::Write(request))
            .await
            .map_err(|_| WriteFailed::Stopped)
    }

    /// Writes and waits until it is done.
    pub(crate) async fn write(
        &self,
        ops: Vec<Op>,
        durability: Durability,
    ) -> Result<(), WriteFailed> {
        let (done, told) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            // A caller that has gone away does not want to know.
            let _ = done.send(result);
        });
        self.submit(Request {
            ops,
            durability,
            done,
        })
        .await?;
        told.await.unwrap_or(Err(WriteFailed::Stopped))
    }

    /// Waits until all that was handed in before is done.
    pub(crate) async fn barrier(&self) -> Result<(), WriteFailed> {
        self.write(Vec::new(), Durability::Ordered).await
    }

    /// True once the thread has ended, or takes no more.
    pub(crate) fn has_ended(&self) -> bool {
        self.queue.is_closed()
    }

    /// Writes what waits, and takes no more; what finds no room is given up. The thread is to be joined where
    /// blocking is allowed.
    pub(crate) async fn stop(&self) -> Option<WriterThread> {
        self.space.close();
        // An error means that it has stopped already.
        let _ = self.queue.send(Message::Stop).await;
        self.thread.lock().take()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let Some(thread) = self.thread.lock().take() else {
            return;
        };
        self.space.close();
        // Replacing the sender closes the queue, which ends the thread once it is empty.
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.queue, closed));
        if thread.join().is_err() {
            tracing::error!("the storage writer panicked");
        }
    }
}

/// The thread's state.
struct Writing {
    engine: Arc<Engine>,
    space: Arc<Space>,
    stats: Arc<StorageStats>,
    high_water: HighWater,
    journal: Journal,
    flusher: Flusher,
    failed: Option<EngineError>,
}

impl Writing {
    fn run(mut self, mut waiting: mpsc::Receiver<Message>) -> Result<(), EngineError> {
        let mut messages = Vec::with_capacity(QUEUE_REQUESTS);
        while waiting.blocking_recv_many(&mut messages, QUEUE_REQUESTS) > 0 {
            let mut group = Vec::with_capacity(messages.len());
            let mut size = GroupSize::default();
            for message in messages.drain(..) {
                match message {
                    Message::Write(request) => {
                        size.requests += 1;
                        for op in &request.ops {
                            size.entries += usize::from(op.is_entry());
                            size.bytes += op.bytes();
                        }
                        group.push(request);
                        if size.bytes >= MAX_GROUP_BYTES {
                            self.commit(std::mem::take(&mut group), std::mem::take(&mut size));
                        }
                    }
                    Message::Stop => waiting.close(),
                }
            }
            self.commit(group, size);
        }
        match self.failed {
            Some(error) => Err(error),
            None => self.journal.sync().map_err(sync_failed),
        }
    }

    fn commit(&mut self, group: Vec<Request>, size: GroupSize) {
        if group.is_empty() {
            return;
        }
        let result = match &self.failed {
            Some(error) => Err(error.clone()),
            None => self.write(&group, size),
        };
        if let Err(error) = &result {
            self.failed(error, group.len());
        }
        for request in group {
            (request.done)(result.clone().map_err(WriteFailed::from));
        }
        // What is durable is acknowledged first: this may have to wait for a flush.
        if self.failed.is_none()
            && let Err(error) = self.make_room()
        {
            self.failed(&error, 1);
        }
    }

    fn failed(&mut self, error: &EngineError, requests: usize) {
        self.stats.failed(requests);
        if self.failed.is_none() {
            tracing::error!(%error, "a write failed; nothing is written any more");
            self.failed = Some(error.clone());
        }
    }

    fn write(&mut self, group: &[Request], size: GroupSize) -> Result<(), EngineError> {
        let ops = || group.iter().flat_map(|request| &request.ops);
        let synced = group
            .iter()
            .any(|request| request.durability == Durability::Synced);
        if !synced && ops().next().is_none() {
            return Ok(());
        }
        let begin = Instant::now();
        let append = || self.journal.append(ops()).map_err(journal_failed);
        let number = self.space.with_room(Writes::Group, append)?;
        if size.entries > 0 {
            crash::point(Point::LogAppendBeforeSync);
        }
        if synced {
            self.journal.sync().map_err(sync_failed)?;
            let note = || self.high_water.reached(number).map_err(high_water_failed);
            self.space.with_room(Writes::Group, note)?;
        }
        self.stats.wrote(size, synced.then(|| begin.elapsed()));
        let apply = || self.engine.apply(number, ops());
        self.space.with_room(Writes::Group, apply)?;
        if size.entries > 0 {
            crash::point(Point::LogAppendAfterSync);
        }
        Ok(())
    }

    /// Keeps the journal from growing without bound.
    fn make_room(&mut self) -> Result<(), EngineError> {
        if let Some(flushed) = self.flusher.ended(self.journal.is_full()) {
            flushed?;
            self.journal.release().map_err(journal_failed)?;
        }
        if self.journal.is_full() {
            self.journal.sync().map_err(sync_failed)?;
            let rotate = || self.journal.rotate().map_err(journal_failed);
            self.space.with_room(Writes::Group, rotate)?;
            self.flusher.begin()?;
        }
        Ok(())
    }
}

fn journal_failed(error: io::Error) -> EngineError {
    if space::is_full(&error) {
        EngineError::Full(error.to_string())
    } else {
        EngineError::Journal(error.to_string())
    }
}

/// Whatever made a sync fail, another may succeed wrongly.
fn sync_failed(error: io::Error) -> EngineError {
    EngineError::Journal(error.to_string())
}

fn high_water_failed(error: io::Error) -> EngineError {
    if space::is_full(&error) {
        EngineError::Full(error.to_string())
    } else {
        EngineError::HighWater(error.to_string())
    }
}
