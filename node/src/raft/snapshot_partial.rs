//! Snapshots of which not all has come yet.
//!
//! Invariants: what is kept of a snapshot is its beginning, checked piece by piece; one call at a time
//! adds to it, the latest; a shard has at most one, and all of a node's together have at most
//! [`MAX_SNAPSHOT_BYTES`]; one whose transfer has broken off is forgotten after [`LIFE`].

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use lockstep_model::ShardId;
use lockstep_proto::raft::v1 as pb;
use parking_lot::Mutex;
use tokio::time::sleep;
use tonic::Status;

/// Largest snapshot that is taken, and most bytes that all those on their way may have: they are held
/// in memory until they are whole.
pub const MAX_SNAPSHOT_BYTES: u64 = 4 << 30;
/// For how long the beginning of a snapshot is kept when its transfer has broken off: longer than a
/// connection takes to come back, or a leader to be elected.
pub const LIFE: Duration = Duration::from_secs(60);

/// The beginnings of snapshots that this node has.
pub struct Partials {
    state: Mutex<State>,
    life: Duration,
}

#[derive(Default)]
struct State {
    partials: BTreeMap<ShardId, Partial>,
    /// Counts the calls that brought something.
    calls: u64,
}

struct Partial {
    identity: Identity,
    data: Vec<u8>,
    /// Which call adds to it.
    call: u64,
    /// When that call ended.
    broken_off: Option<Instant>,
}

/// What tells a snapshot from any other.
#[derive(Clone, Debug, PartialEq)]
struct Identity {
    last_log_id: Option<pb::LogId>,
    membership_log_id: Option<pb::LogId>,
    total_bytes: u64,
    checksum: u32,
}

impl Identity {
    const fn of(head: &pb::SnapshotHead) -> Self {
        Self {
            last_log_id: head.last_log_id,
            membership_log_id: head.membership_log_id,
            total_bytes: head.total_bytes,
            checksum: head.checksum,
        }
    }
}

fn taken_over() -> Status {
    Status::aborted("another transfer has taken over")
}

impl Partials {
    /// None yet; those that break off are kept for so long.
    #[must_use]
    pub fn new(life: Duration) -> Self {
        Self {
            state: Mutex::default(),
            life,
        }
    }

    /// How much of a snapshot is here.
    #[must_use]
    pub fn offset(&self, shard: ShardId, head: &pb::SnapshotHead) -> u64 {
        let state = self.state.lock();
        let partial = state.partials.get(&shard);
        let same = partial.filter(|partial| partial.identity == Identity::of(head));
        same.map_or(0, |partial| partial.data.len() as u64)
    }

    /// Goes on with a snapshot at the head's offset, or begins with it anew. Whoever was adding to
    /// what the shard has so far stops.
    ///
    /// # Errors
    /// If what comes before the offset is not here, or there is no room.
    pub fn begin(
        self: &Arc<Self>,
        shard: ShardId,
        head: &pb::SnapshotHead,
    ) -> Result<Receiving, Status> {
        let mut state = self.state.lock();
        state.calls += 1;
        let call = state.calls;
        let identity = Identity::of(head);
        match state.partials.get_mut(&shard) {
            Some(partial) if partial.identity == identity && head.offset > 0 => {
                let kept = partial.data.len();
                let offset = usize::try_from(head.offset).ok();
                let Some(offset) = offset.filter(|offset| *offset <= kept) else {
                    return Err(missing(head.offset, kept));
                };
                partial.data.truncate(offset);
                partial.call = call;
                partial.broken_off = None;
            }
            Some(_) | None if head.offset > 0 => return Err(missing(head.offset, 0)),
            Some(_) | None => {
                state.partials.remove(&shard);
                let data = state.room(head.total_bytes)?;
                let partial = Partial {
                    identity,
                    data,
                    call,
                    broken_off: None,
                };
                state.partials.insert(shard, partial);
            }
        }
        Ok(Receiving {
            partials: Arc::clone(self),
            shard,
            call,
        })
    }

    /// Forgets what a call has left behind, unless another goes on with it.
    fn forget(&self, shard: ShardId, call: u64) {
        let mut state = self.state.lock();
        let partial = state.partials.get(&shard);
        if partial.is_some_and(|partial| partial.call == call) {
            state.partials.remove(&shard);
            tracing::info!(%shard, "the rest of a snapshot did not come: its beginning is forgotten");
        }
    }
}

fn missing(offset: u64, kept: usize) -> Status {
    Status::aborted(format!(
        "{kept} bytes of the snapshot are here: its transfer cannot go on at {offset}"
    ))
}

impl State {
    /// Memory for a snapshot. Where there is no room, those that have broken off give way, the oldest
    /// first.
    fn room(&mut self, bytes: u64) -> Result<Vec<u8>, Status> {
        let full = || Status::resource_exhausted("no room for one more snapshot: try again later");
        loop {
            let others = self.partials.values();
            let taken: u64 = others.map(|partial| partial.identity.total_bytes).sum();
            if taken.saturating_add(bytes) <= MAX_SNAPSHOT_BYTES {
                break;
            }
            let broken = self.partials.iter().filter_map(|(shard, partial)| {
                let broken_off = partial.broken_off?;
                Some((broken_off, *shard))
            });
            let (_, oldest) = broken.min().ok_or_else(full)?;
            self.partials.remove(&oldest);
        }
        let mut data = Vec::new();
        let capacity = usize::try_from(bytes).map_err(|_| full())?;
        data.try_reserve_exact(capacity).map_err(|_| full())?;
        Ok(data)
    }
}

/// The right to add to what a shard has of a snapshot, until another call takes it over.
pub struct Receiving {
    partials: Arc<Partials>,
    shard: ShardId,
    call: u64,
}

impl Receiving {
    /// Adds a chunk.
    ///
    /// # Errors
    /// If it is out of order or damaged, or another transfer has taken over.
    pub fn add(&self, chunk: &pb::SnapshotChunk) -> Result<(), Status> {
        let intact = crc32fast::hash(&chunk.data) == chunk.crc && !chunk.data.is_empty();
        let mut state = self.partials.state.lock();
        let partial = state.partials.get_mut(&self.shard);
        let partial = partial
            .filter(|partial| partial.call == self.call)
            .ok_or_else(taken_over)?;
        let in_order = chunk.offset == partial.data.len() as u64;
        let end = chunk.offset.saturating_add(chunk.data.len() as u64);
        if !intact || !in_order || end > partial.identity.total_bytes {
            return Err(Status::data_loss(format!(
                "the chunk at {} is damaged or out of order",
                chunk.offset
            )));
        }
        partial.data.extend_from_slice(&chunk.data);
        Ok(())
    }

    /// True once all has come.
    ///
    /// # Errors
    /// If another transfer has taken over.
    pub fn is_whole(&self) -> Result<bool, Status> {
        let state = self.partials.state.lock();
        let partial = state.partials.get(&self.shard);
        partial
            .filter(|partial| partial.call == self.call)
            .map(|partial| partial.data.len() as u64 == partial.identity.total_bytes)
            .ok_or_else(taken_over)
    }

    /// Gives out what has come.
    ///
    /// # Errors
    /// If another transfer has taken over.
    pub fn finish(self) -> Result<Bytes, Status> {
        let mut state = self.partials.state.lock();
        let partial = state.partials.get(&self.shard);
        if partial.is_none_or(|partial| partial.call != self.call) {
            return Err(taken_over());
        }
        let partial = state.partials.remove(&self.shard);
        Ok(partial
            .map(|partial| partial.data.into())
            .unwrap_or_default())
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        let (shard, call) = (self.shard, self.call);
        {
            let mut state = self.partials.state.lock();
            let partial = state.partials.get_mut(&shard);
            let Some(partial) = partial.filter(|partial| partial.call == call) else {
                return;
            };
            partial.broken_off = Some(Instant::now());
        }
        let partials: Weak<Partials> = Arc::downgrade(&self.partials);
        let life = self.partials.life;
        tokio::spawn(async move {
            sleep(life).await;
            if let Some(partials) = partials.upgrade() {
                partials.forget(shard, call);
            }
        });
    }
}

#[cfg(test)]
mod tests;
