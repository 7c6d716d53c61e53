//! The state machine: applying, restoring, installing.

use std::sync::Arc;

use futures::stream;
use lockstep_model::{
    Batch, Command, Effect, Machine, Millis, Priority, SessionCommand, SessionId, ShardId,
    ShardTime, Timestamp,
};
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use parking_lot::Mutex;

use super::{SHARD, batch, blank, id, membership, open};
use crate::{
    raft::{
        snapshot_content::SnapshotContent,
        types::{Entry, Payload, SnapshotMeta, StoredMembership},
    },
    storage::{EffectSink, MachineStore, OutOfOrder, Storage, UnreadableBatch},
};

#[derive(Default)]
pub(super) struct Collected(Mutex<Vec<Effect>>);

impl EffectSink for Collected {
    fn effects(&self, effects: Vec<Effect>) {
        assert!(!effects.is_empty(), "nothing to do is not told");
        self.0.lock().extend(effects);
    }
}

pub(super) async fn machine(storage: &Storage, shard: ShardId) -> (MachineStore, Arc<Collected>) {
    let sink = Arc::new(Collected::default());
    let machine = MachineStore::open(storage, shard, Arc::clone(&sink) as _)
        .await
        .unwrap();
    (machine, sink)
}

/// An entry that opens a session.
pub(super) fn session(term: u64, index: u64) -> Entry {
    let open = Command::Session(SessionCommand::Open {
        session: SessionId(index),
        ttl: Millis(10_000),
        priority: Priority::default(),
        labels: std::collections::BTreeMap::from([("host".to_owned(), "a".repeat(200))]),
    });
    batch(
        term,
        index,
        &Batch {
            at: ShardTime(1_000 + index),
            wall: Timestamp(1_000),
            commands: vec![open],
        }
        .encode(),
    )
}

pub(super) async fn apply(
    machine: &mut MachineStore,
    entries: impl IntoIterator<Item = Entry>,
) -> std::io::Result<()> {
    let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
    machine.apply(stream::iter(entries)).await
}

fn state(machine: &MachineStore) -> Vec<u8> {
    machine.machine().read().snapshot()
}

pub(super) async fn build(machine: &mut MachineStore) -> SnapshotMeta {
    machine
        .get_snapshot_builder()
        .await
        .build_snapshot()
        .await
        .unwrap()
        .meta
}

#[tokio::test]
async fn an_entry_is_applied_only_after_the_one_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let (mut machine, _) = machine(&storage, SHARD).await;
    let refused = async |machine: &mut MachineStore, found, expected| {
        let before = state(machine);
        let error = apply(machine, [session(1, found)]).await.unwrap_err();
        let error = error.get_ref().and_then(|error| error.downcast_ref());
        let shard = SHARD;
        let gap = OutOfOrder {
            shard,
            expected,
            found,
        };
        assert_eq!(error, Some(&gap));
        assert!(state(machine) == before, "nothing is changed");
    };
    refused(&mut machine, 1, 0).await;
    apply(&mut machine, [session(1, 0), session(1, 1)])
        .await
        .unwrap();
    for found in [0, 1, 3] {
        refused(&mut machine, found, 2).await;
    }
    apply(&mut machine, [session(1, 2)]).await.unwrap();
}

#[tokio::test]
async fn a_restart_restores_the_snapshot_and_the_rest_is_applied_again() {
    let dir = tempfile::tempdir().unwrap();
    let members = Entry {
        log_id: id(1, 1),
        payload: Payload::Membership(membership([1, 2, 3])),
    };
    let (before, effects_before) = {
        let storage = open(dir.path());
        let (mut machine, sink) = machine(&storage, SHARD).await;
        apply(
            &mut machine,
            [blank(1, 0), members, session(1, 2), session(1, 3)],
        )
        .await
        .unwrap();
        let meta = build(&mut machine).await;
        assert_eq!(meta.last_log_id, Some(id(1, 3)));
        apply(&mut machine, [session(1, 4)]).await.unwrap();
        (state(&machine), sink.0.lock().len())
    };
    assert!(
        effects_before >= 3,
        "each opened session is to be watched over"
    );
    let storage = open(dir.path());
    let (mut machine, sink) = machine(&storage, SHARD).await;
    let (last, stored) = machine.applied_state().await.unwrap();
    assert_eq!(last, Some(id(1, 3)));
    assert_eq!(
        stored,
        StoredMembership::new(Some(id(1, 1)), membership([1, 2, 3]))
    );
    assert_ne!(state(&machine), before);
    apply(&mut machine, [session(1, 4)]).await.unwrap();
    assert_eq!(state(&machine), before);
    assert!(!sink.0.lock().is_empty());
    let snapshot = machine.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(snapshot.meta.last_log_id, Some(id(1, 3)));
}

#[tokio::test]
async fn the_meta_shard_gets_a_meta_machine() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let (meta, _) = machine(&storage, ShardId::META).await;
    assert!(matches!(*meta.machine().read(), Machine::Meta(_)));
    let (data, _) = machine(&storage, SHARD).await;
    assert!(matches!(*data.machine().read(), Machine::Data(_)));
    assert!(
        MachineStore::open(&storage, SHARD, Arc::new(Collected::default()))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_batch_that_does_not_decode_stops_the_replica_before_it_changes_anything() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let (mut machine, _) = machine(&storage, SHARD).await;
    apply(&mut machine, [session(1, 0)]).await.unwrap();
    let before = state(&machine);
    let error = apply(&mut machine, [batch(1, 1, b"no batch"), session(1, 2)])
        .await
        .unwrap_err();
    let unreadable: &UnreadableBatch = error.get_ref().unwrap().downcast_ref().unwrap();
    assert_eq!((unreadable.shard, unreadable.index), (SHARD, 1));
    assert_eq!(state(&machine), before);
    assert_eq!(machine.applied_state().await.unwrap().0, Some(id(1, 0)));
}

#[tokio::test]
async fn an_installed_snapshot_replaces_everything_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let leaders = tempfile::tempdir().unwrap();
    let leader_storage = open(leaders.path());
    let (mut leader, _) = machine(&leader_storage, SHARD).await;
    apply(&mut leader, (0..50).map(|index| session(2, index)))
        .await
        .unwrap();
    build(&mut leader).await;
    let snapshot = leader.get_current_snapshot().await.unwrap().unwrap();
    let whole = snapshot.snapshot.read_to_end(0).await.unwrap();
    assert_eq!(whole, state(&leader));
    {
        let storage = open(dir.path());
        let (mut follower, _) = machine(&storage, SHARD).await;
        apply(&mut follower, [session(1, 0)]).await.unwrap();
        build(&mut follower).await;
        let before = state(&follower);

        let damaged = SnapshotContent::Held(whole.slice(1..));
        follower
            .install_snapshot(&snapshot.meta, damaged)
            .await
            .unwrap_err();
        assert_eq!(
            state(&follower),
            before,
            "a snapshot that cannot be read changes nothing"
        );
        let kept = follower.get_current_snapshot().await.unwrap().unwrap();
        assert_eq!(kept.meta.last_log_id, Some(id(1, 0)));

        follower
            .install_snapshot(&snapshot.meta, SnapshotContent::Held(whole.clone()))
            .await
            .unwrap();
        assert_eq!(state(&follower), state(&leader));
        assert_eq!(follower.applied_state().await.unwrap().0, Some(id(2, 49)));
    }
    let storage = open(dir.path());
    let (mut follower, _) = machine(&storage, SHARD).await;
    assert_eq!(state(&follower), state(&leader));
    let kept = follower.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(kept.meta, snapshot.meta);
    assert_eq!(kept.snapshot.read_to_end(0).await.unwrap(), whole);
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_written_stops_nothing_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let (mut machine, _) = machine(&storage, SHARD).await;
    apply(&mut machine, [blank(1, 0), session(1, 1)])
        .await
        .unwrap();
    let scratch = storage.shared.scratch.clone();
    std::fs::remove_dir_all(&scratch).unwrap();
    let nothing = build(&mut machine).await;
    assert_eq!(nothing, SnapshotMeta::default());
    assert!(!storage.has_stopped());
    apply(&mut machine, [session(1, 2)]).await.unwrap();
    std::fs::create_dir(&scratch).unwrap();
    let made = build(&mut machine).await;
    assert_eq!(made.last_log_id, Some(id(1, 2)));
}
