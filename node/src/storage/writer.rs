//! The one thread that writes: group commit for all shards of the node.
//!
//! Whatever waits is written as one batch and synced once, then acknowledged in order. While the
//! device syncs one group, the next gathers; so the more there is to do, the more each sync
//! carries, and nobody waits for a timer.
//!
//! Invariant: requests take effect, and are acknowledged, in the order in which they were handed
//! in, those of different shards too; a request is acknowledged only when it is as durable as it
//! asked to be. After a write has failed nothing is written any more: a device that failed to sync
//! may report success the next time, with the data gone (Rebello et al., "Can Applications Recover
//! from fsync Failures?", USENIX ATC 2020).

use std::{
    io,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use parking_lot::Mutex;
use rocksdb::WriteBatch;
use tokio::sync::{mpsc, oneshot};

use super::{
    engine::{Durability, Engine, EngineError},
    family::Family,
    high_water::{Group, HighWater},
    meta_record,
    stats::{GroupSize, StorageStats},
};
use crate::crash::{self, Point};

/// Most requests that wait. A shard has a few under way at a time; beyond this, callers wait.
const QUEUE_REQUESTS: usize = 1_024;
/// Most bytes in one group: bounds how long the first of it waits for the last.
const MAX_GROUP_BYTES: usize = 4 << 20;

/// A change of the database.
#[derive(Debug)]
pub(crate) enum Op {
    /// Sets a key.
    Put(Family, Vec<u8>, Vec<u8>),
    /// Removes the keys from one up to and without another.
    DeleteRange(Family, Vec<u8>, Vec<u8>),
}

impl Op {
    const fn bytes(&self) -> usize {
        match self {
            Self::Put(_, first, second) | Self::DeleteRange(_, first, second) => {
                first.len() + second.len()
            }
        }
    }

    const fn is_entry(&self) -> bool {
        matches!(self, Self::Put(Family::Log, ..))
    }
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

enum Message {
    Write(Request),
    Stop,
}

/// The handle to the writer thread. Dropping it writes what waits, and ends the thread.
pub(crate) struct Writer {
    queue: mpsc::Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread. `last` is the last synced group in the database.
    pub(crate) fn start(
        engine: Arc<Engine>,
        stats: Arc<StorageStats>,
        high_water: HighWater,
        last: Group,
    ) -> io::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE_REQUESTS);
        let writing = Writing {
            engine,
            stats,
            high_water,
            last,
            failed: None,
        };
        let thread = thread::Builder::new()
            .name("storage-writer".to_owned())
            .spawn(move || writing.run(waiting))?;
        Ok(Self {
            queue,
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

    /// Writes what waits, and takes no more. The thread is to be joined where blocking is allowed.
    pub(crate) async fn stop(&self) -> Option<JoinHandle<()>> {
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
    stats: Arc<StorageStats>,
    high_water: HighWater,
    /// The last group that was synced.
    last: Group,
    failed: Option<EngineError>,
}

impl Writing {
    fn run(mut self, mut waiting: mpsc::Receiver<Message>) {
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
            self.stats.failed(group.len());
            if self.failed.is_none() {
                tracing::error!(%error, "a write failed; nothing is written any more");
                self.failed = Some(error.clone());
            }
        }
        for request in group {
            (request.done)(result.clone().map_err(WriteFailed::from));
        }
    }

    fn write(&mut self, group: &[Request], size: GroupSize) -> Result<(), EngineError> {
        let mut batch = WriteBatch::default();
        for op in group.iter().flat_map(|request| &request.ops) {
            match op {
                Op::Put(family, key, value) => {
                    batch.put_cf(self.engine.handle(*family)?, key, value);
                }
                Op::DeleteRange(family, from, to) => {
                    batch.delete_range_cf(self.engine.handle(*family)?, from, to);
                }
            }
        }
        let synced = group
            .iter()
            .any(|request| request.durability == Durability::Synced);
        if size.entries > 0 {
            crash::point(Point::LogAppendBeforeSync);
        }
        let begin = Instant::now();
        if synced {
            self.write_synced(batch)?;
        } else if !batch.is_empty() {
            self.engine.write(batch, Durability::Ordered)?;
        }
        self.stats.wrote(size, synced.then(|| begin.elapsed()));
        if size.entries > 0 {
            crash::point(Point::LogAppendAfterSync);
        }
        Ok(())
    }

    fn write_synced(&mut self, mut batch: WriteBatch) -> Result<(), EngineError> {
        let number = self.last.next();
        let key = meta_record::GROUP.as_bytes();
        let value = meta_record::encode(key, &number.0.to_be_bytes());
        batch.put_cf(self.engine.handle(Family::Meta)?, key, value);
        self.engine.write(batch, Durability::Synced)?;
        self.last = number;
        self.high_water
            .reached(number)
            .map_err(|error| EngineError::HighWater(error.to_string()))
    }
}
