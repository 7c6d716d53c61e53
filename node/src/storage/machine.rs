//! One shard's state machine, as Raft drives it.
//!
//! The state lives in memory. It is rebuilt at start from the current snapshot, and the log after
//! it is applied again: commands write nothing by themselves.
//!
//! Invariant: the machine, the place up to which it has applied, and the membership change together,
//! under the machine's write lock; who holds its read lock sees all three of one moment.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::{Stream, TryStreamExt};
use lockstep_model::{
    Applied as ModelApplied, Batch, DecodeError, Effect, Machine, Revision, ShardId, ShardTime,
    locks::change::Change,
};
use openraft::{OptionalSend, RaftSnapshotBuilder, storage::RaftStateMachine};
use parking_lot::{Mutex, RwLock};
use tokio::task::spawn_blocking;

use super::{
    OpenShardError, Storage,
    claim::Part,
    snapshot_store::{Kept, Origin, SnapshotStore, SnapshotUse},
};
use crate::{
    metrics,
    raft::{
        snapshot_content::SnapshotContent,
        types::{
            BatchBytes, Entry, EntryResponder, LogId, Outcomes, Payload, Snapshot, SnapshotMeta,
            StoredMembership, TypeConfig,
        },
    },
};

/// Carries out what applying a batch asks of the leader.
pub trait EffectSink: Send + Sync + 'static {
    /// Takes the effects of a log entry, in order, entry after entry; never none. Called on every
    /// replica, also for entries that are applied again after a restart: who is not the leader
    /// ignores them. Must not wait: the shard applies nothing meanwhile.
    fn effects(&self, effects: Vec<Effect>);

    /// Takes the changes of holds by a log entry, in order, entry after entry; never none. Called on
    /// every replica, and must not wait either.
    fn changes(&self, _changes: Vec<Change>) {}

    /// The shard's time now that a batch was applied, or the machine was replaced. Called on every
    /// replica.
    fn time(&self, _now: ShardTime) {}

    /// The machine was replaced by a snapshot: the changes that led there are not known.
    fn restored(&self, _revision: Revision) {}
}

/// A committed batch that does not decode. Every replica refuses it alike: two versions disagree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "committed log entry {index} of shard {shard} holds no batch that this version can read: {error}. \
     The replica has stopped; run the version of the node that wrote the entry"
)]
pub struct UnreadableBatch {
    /// The shard.
    pub shard: ShardId,
    /// The entry.
    pub index: u64,
    /// Why.
    pub error: DecodeError,
}

/// An entry is to be applied that is not the one after the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "log entry {found} of shard {shard} is to be applied where {expected} comes next: the replica stops, because \
     what it would go on with is not its shard's state"
)]
pub struct OutOfOrder {
    /// The shard.
    pub shard: ShardId,
    /// What comes next.
    pub expected: u64,
    /// The entry.
    pub found: u64,
}

/// A snapshot from a peer that does not decode. The machine is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot that was received for shard {shard} cannot be read: {error}")]
pub struct UnreadableSnapshot {
    /// The shard.
    pub shard: ShardId,
    /// Why.
    pub error: DecodeError,
}

/// The snapshot is older than the one that is there. The machine is as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shard {shard} has a later snapshot than the one that was received")]
pub struct OutdatedSnapshot {
    /// The shard.
    pub shard: ShardId,
}

/// What a machine has applied.
#[derive(Clone, Debug, Default)]
struct Applied {
    last: Option<LogId>,
    membership: StoredMembership,
}

impl Applied {
    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta {
            last_log_id: self.last,
            last_membership: self.membership.clone(),
        }
    }
}

/// What the machine, its readers and its snapshot builders share.
struct Core {
    shard: ShardId,
    machine: Arc<RwLock<Machine>>,
    /// Locked only for a moment, and only after the machine where both are.
    applied: Mutex<Applied>,
    snapshots: SnapshotStore,
}

impl Core {
    fn apply(&self, entry: Entry) -> Result<(ModelApplied, ShardTime), io::Error> {
        let log_id = entry.log_id;
        let invalid = io::ErrorKind::InvalidData;
        self.follows(log_id.index)
            .map_err(|gap| io::Error::new(invalid, gap))?;
        let batch = match &entry.payload {
            Payload::Normal(BatchBytes(bytes)) => {
                let batch = self.decode(log_id.index, bytes);
                Some(batch.map_err(|unreadable| io::Error::new(invalid, unreadable))?)
            }
            Payload::Blank | Payload::Membership(_) => None,
        };
        let mut machine = self.machine.write();
        let applied = batch.map(|batch| machine.apply(batch)).unwrap_or_default();
        {
            let mut progress = self.applied.lock();
            progress.last = Some(log_id);
            if let Payload::Membership(membership) = entry.payload {
                progress.membership = StoredMembership::new(Some(log_id), membership);
            }
        }
        Ok((applied, machine.now()))
    }

    /// Whether an entry is the next one to be applied.
    fn follows(&self, found: u64) -> Result<(), OutOfOrder> {
        let last = self.applied.lock().last;
        let expected = last.map_or(0, |last| last.index.saturating_add(1));
        let shard = self.shard;
        if found == expected {
            Ok(())
        } else {
            Err(OutOfOrder {
                shard,
                expected,
                found,
            })
        }
    }

    fn decode(&self, index: u64, bytes: &Bytes) -> Result<Batch, UnreadableBatch> {
        Batch::decode(bytes).map_err(|error| UnreadableBatch {
            shard: self.shard,
            index,
            error,
        })
    }

    /// The machine is locked only until its state is set aside.
    fn encode(&self) -> (SnapshotMeta, Bytes) {
        let (meta, point) = {
            let mut machine = self.machine.write();
            let meta = self.applied.lock().meta();
            (meta, machine.point())
        };
        (meta, point.snapshot().into())
    }

    fn replace(&self, restored: Machine, meta: &SnapshotMeta) {
        let mut machine = self.machine.write();
        *machine = restored;
        *self.applied.lock() = Applied {
            last: meta.last_log_id,
            membership: meta.last_membership.clone(),
        };
    }
}

/// The state machine of one shard's replica.
pub struct MachineStore {
    core: Arc<Core>,
    sink: Arc<dyn EffectSink>,
}

impl MachineStore {
    /// Restores the machine of a shard from its current snapshot; an empty one, of the kind that
    /// the shard has, if there is none. Raft then has the log after it applied.
    ///
    /// # Errors
    /// Where the machine is open already, or the snapshot cannot be read.
    pub async fn open(
        storage: &Storage,
        shard: ShardId,
        sink: Arc<dyn EffectSink>,
    ) -> Result<Self, OpenShardError> {
        let claim = storage.shared.claims.take(shard, Part::Machine)?;
        storage.shared.writer.barrier().await?;
        let snapshots = SnapshotStore::new(shard, Arc::clone(&storage.shared), claim);
        let (machine, applied) = match snapshots.load().await? {
            Some((head, bytes)) => {
                metrics::get().snapshots.kept(shard, bytes.len());
                let restored = spawn_blocking(move || Machine::restore(&bytes)).await;
                let machine = restored
                    .map_err(io::Error::other)?
                    .map_err(|error| snapshots.unreadable(head.generation, &error))?;
                let membership = head.meta.last_membership;
                (
                    machine,
                    Applied {
                        last: head.meta.last_log_id,
                        membership,
                    },
                )
            }
            None => (empty(shard), Applied::default()),
        };
        sink.time(machine.now());
        sink.restored(revision(&machine));
        let core = Core {
            shard,
            machine: Arc::new(RwLock::new(machine)),
            applied: Mutex::new(applied),
            snapshots,
        };
        Ok(Self {
            core: Arc::new(core),
            sink,
        })
    }

    /// What its snapshots take, and hold up.
    #[must_use]
    pub fn snapshots(&self) -> SnapshotUse {
        self.core.snapshots.usage()
    }

    /// The machine, for readers. It is written only by applying entries and installing snapshots;
    /// whoever sets its state aside locks it for writing too, and changes nothing.
    #[must_use]
    pub fn machine(&self) -> Arc<RwLock<Machine>> {
        Arc::clone(&self.core.machine)
    }
}

/// Of the last change that a machine has made.
const fn revision(machine: &Machine) -> Revision {
    match machine {
        Machine::Data(shard) => shard.revision(),
        Machine::Meta(_) => Revision(0),
    }
}

pub(crate) fn empty(shard: ShardId) -> Machine {
    if shard == ShardId::META {
        Machine::new_meta()
    } else {
        Machine::new_data(shard)
    }
}

impl RaftStateMachine<TypeConfig> for MachineStore {
    type SnapshotData = SnapshotContent;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.core.applied.lock();
        Ok((applied.last, applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let (applied, now) = self.core.apply(entry)?;
            let ModelApplied {
                outcomes,
                effects,
                changes,
            } = applied;
            self.sink.time(now);
            // Effects first: a client that has its answer may act on it at once, and must find
            // what it brought about (its session watched over) already there.
            if !effects.is_empty() {
                self.sink.effects(effects);
            }
            if !changes.is_empty() {
                self.sink.changes(changes);
            }
            if let Some(responder) = responder {
                responder.send(Outcomes(outcomes));
            }
        }
        Ok(())
    }

    /// None while a snapshot is on its way to a follower: see [`super::sending`]. Raft asks again when
    /// the log has grown by as much again.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<SnapshotBuilder> {
        if !force && self.core.snapshots.is_sending() {
            return None;
        }
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            core: Arc::clone(&self.core),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        content: SnapshotContent,
    ) -> Result<(), io::Error> {
        let shard = self.core.shard;
        let bytes = content.read_to_end(0).await?;
        let (encoded, size) = (bytes.clone(), bytes.len());
        let machine = spawn_blocking(move || Machine::restore(&encoded))
            .await
            .map_err(io::Error::other)?
            .map_err(|error| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    UnreadableSnapshot { shard, error },
                )
            })?;
        match self
            .core
            .snapshots
            .save(meta.clone(), bytes, Origin::Received)
            .await?
        {
            Kept::Yes => {
                metrics::get().snapshots.kept(shard, size);
                let (revision, now) = (revision(&machine), machine.now());
                self.core.replace(machine, meta);
                self.sink.time(now);
                self.sink.restored(revision);
                Ok(())
            }
            Kept::LaterOneExists => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                OutdatedSnapshot { shard },
            )),
        }
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let current = self.core.snapshots.current().await?;
        Ok(current.map(|stored| Snapshot {
            meta: stored.head().meta.clone(),
            snapshot: SnapshotContent::Stored(stored),
        }))
    }
}

/// Takes and keeps a snapshot while the machine goes on.
pub struct SnapshotBuilder {
    core: Arc<Core>,
}

/// What stands for a snapshot that could not be written. Raft ignores one that covers nothing; an error
/// would stop the replica for good, although nothing is lost but room.
fn none_yet() -> Snapshot {
    Snapshot {
        meta: SnapshotMeta::default(),
        snapshot: SnapshotContent::Held(Bytes::new()),
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotContent;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let core = Arc::clone(&self.core);
        let encoded = spawn_blocking(move || core.encode());
        let (meta, bytes) = encoded.await.map_err(io::Error::other)?;
        let saved = self
            .core
            .snapshots
            .save(meta.clone(), bytes.clone(), Origin::Built);
        match saved.await {
            Ok(Kept::Yes) => {
                let snapshots = &metrics::get().snapshots;
                snapshots.built();
                snapshots.kept(self.core.shard, bytes.len());
            }
            // A later one, installed meanwhile, stays the current one; Raft ignores this one then.
            Ok(Kept::LaterOneExists) => {}
            Err(error) => {
                metrics::get().snapshots.failed();
                tracing::error!(shard = %self.core.shard, %error, "a snapshot was not written: the log is kept, and it is tried again when the log has grown");
                return Ok(none_yet());
            }
        }
        Ok(Snapshot {
            meta,
            snapshot: SnapshotContent::Held(bytes),
        })
    }
}
