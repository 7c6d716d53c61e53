//! Recovering real directories, without the processes around it.

#![allow(
    clippy::indexing_slicing,
    reason = "a test that is out of bounds fails"
)]

use std::collections::{BTreeMap, BTreeSet};

use lockstep_model::{
    Batch, Command, FencingToken, LockCommand, LockName, Machine, Owner, Priority, Serial,
    SessionCommand, SessionId, ShardId, ShardTime, Timestamp, Value,
    locks::{TOKEN_GAP, command::LockSpec, mode::Mode},
    meta::{ClusterView, NodeRecord, Settings},
    placement,
    request::{AckedRanges, RequestId, Wait},
};
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use tempfile::TempDir;

use super::{
    mark::{Mark, MarkError, Stage},
    *,
};
use crate::{
    identity::{Founding, Identity, founding_command},
    raft::types::{BatchBytes, Entry, LeaderId, LogId, Membership, Payload, PeerAddress, Vote},
    storage::{Storage, Survey},
};

const OLD: ClusterId = ClusterId([1; 16]);
const DATA: ShardId = ShardId(1);
const TTL: Millis = Millis(30_000);

fn tables() -> ClusterView {
    let settings = Settings {
        shards: 1,
        replication_factor: 3,
        ring_version: 1,
    };
    let nodes: Vec<_> = (1..=3)
        .map(|id| NodeRecord {
            node: NodeId(id),
            name: format!("node-{id}"),
            client_address: format!("node-{id}:7400"),
            peer_address: format!("node-{id}:7401"),
            zone: String::new(),
            version: String::new(),
        })
        .collect();
    ClusterView {
        cluster: OLD,
        settings,
        placement: placement::place(&settings, &nodes).unwrap(),
        nodes,
        last_node: NodeId(3),
        revision: 1,
        lifecycles: BTreeMap::new(),
    }
}

fn entry(term: u64, index: u64, payload: Payload) -> Entry {
    let leader_id = LeaderId { term, node_id: 1 };
    let log_id = LogId { leader_id, index };
    Entry { log_id, payload }
}

fn commands(commands: Vec<Command>) -> Payload {
    let (at, wall) = (ShardTime(1_000), Timestamp(1_000));
    Payload::Normal(BatchBytes(Batch { at, wall, commands }.encode().into()))
}

fn members() -> Payload {
    let nodes = (1..=3).map(|id| (id, PeerAddress(format!("node-{id}:7401"))));
    let voters: BTreeSet<u64> = (1..=3).collect();
    let nodes: BTreeMap<_, _> = nodes.collect();
    Payload::Membership(Membership::new(vec![voters], nodes).unwrap())
}

/// A session, and so many grants to it.
fn grants(count: u64) -> Payload {
    let session = SessionId(1);
    let mut all = vec![Command::Session(SessionCommand::Open {
        session,
        ttl: TTL,
        priority: Priority(0),
        labels: BTreeMap::new(),
    })];
    all.extend((1..=count).map(|serial| {
        Command::Lock(LockCommand::Acquire {
            request: RequestId {
                session,
                serial: Serial(serial),
                acked_below: Serial(0),
                acked: AckedRanges::NONE,
            },
            owner: Owner::default(),
            locks: vec![LockSpec {
                name: LockName::new(&format!("lock-{serial}")).unwrap(),
                mode: Mode::Exclusive,
            }],
            wait: Wait::Try,
            value: Value::EMPTY,
        })
    }));
    commands(all)
}

/// A directory of a node whose data shard has these entries after its members.
async fn directory(node: u64, data: Vec<Entry>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let storage = Storage::open(dir.path()).unwrap();
    let identity = Identity {
        cluster: OLD,
        node: NodeId(node),
        state: Founding::Active,
        plan: tables(),
    };
    identity.save(&storage).await.unwrap();
    let found = entry(1, 1, commands(vec![founding_command(&tables())]));
    for (shard, rest) in [(ShardId::META, vec![found]), (DATA, data)] {
        let mut log = storage.log_store(shard).await.unwrap();
        let mut entries = vec![entry(1, 0, members())];
        entries.extend(rest);
        log.blocking_append(entries).await.unwrap();
        let leader_id = LeaderId {
            term: 4,
            node_id: node,
        };
        let committed = false;
        log.save_vote(&Vote {
            leader_id,
            committed,
        })
        .await
        .unwrap();
    }
    storage.shutdown().await.unwrap();
    dir
}

/// What a node that runs on a directory adds to its data shard's log.
async fn append(dir: &TempDir, last: LogId, payload: Payload) {
    let storage = Storage::open(dir.path()).unwrap();
    let mut log = storage.log_store(DATA).await.unwrap();
    let next = entry(last.leader_id.term + 2, last.index + 1, payload);
    log.blocking_append([next]).await.unwrap();
    storage.shutdown().await.unwrap();
}

async fn recover(directories: &[&TempDir]) -> anyhow::Result<()> {
    recover_without(&[], directories).await
}

async fn recover_without(lost: &[u64], directories: &[&TempDir]) -> anyhow::Result<()> {
    run(&Asked {
        data_dirs: directories.iter().map(|dir| dir.path().into()).collect(),
        lost: lost.to_vec(),
        yes: true,
        output: Format::Json,
    })
    .await
}

/// A recovery that dies when it has changed the first so many directories.
async fn recover_in_part(paths: &[&TempDir], placed: usize) {
    let mut directories = Vec::new();
    for dir in paths {
        directories.push(Directory::open(dir.path()).await.unwrap());
    }
    let fresh = ClusterId(rand::random());
    let (plan, _) = readable::plan(&mut directories, &BTreeSet::new(), fresh)
        .await
        .unwrap();
    let prepared = prepare::prepare(&directories, &plan).await.unwrap();
    let switch = Switch {
        directories: &directories,
        plan: &plan,
        view: &prepared.view,
        not_before: not_before(&directories, prepared.longest),
    };
    switch.begin().await.unwrap();
    for (at, ready) in prepared.ready.iter().take(placed) {
        switch.place(*at, ready).await.unwrap();
    }
    drop(prepared);
    for one in &directories {
        one.storage.shutdown().await.unwrap();
    }
}

fn refused(words: &str, result: anyhow::Result<()>) {
    let error = format!("{:#}", result.unwrap_err());
    assert!(error.contains(words), "{error}");
}

/// Whether a node would start.
async fn starts(dir: &TempDir) -> bool {
    let storage = Storage::open(dir.path()).unwrap();
    let mark = Mark::of_startable(&storage);
    storage.shutdown().await.unwrap();
    match mark {
        Ok(_) => true,
        Err(MarkError::Unfinished) => false,
        Err(error) => panic!("{error}"),
    }
}

/// What is in a directory: whose it is, its mark, and its data shard.
async fn look(dir: &TempDir) -> (Identity, Option<Mark>, Survey, Machine) {
    let storage = Storage::open(dir.path()).unwrap();
    let identity = Identity::load(&storage).unwrap().unwrap();
    let mark = Mark::load(&storage).unwrap();
    let survey = storage.survey(DATA).unwrap().unwrap();
    let replayed = storage.replay(DATA).unwrap();
    storage.shutdown().await.unwrap();
    (identity, mark, survey, replayed.machine)
}

/// A directory of node 2, which died when it had stored tables that place its data shard elsewhere.
async fn left_over(data: Vec<Entry>) -> TempDir {
    let dir = directory(2, data).await;
    let storage = Storage::open(dir.path()).unwrap();
    let mut identity = Identity::load(&storage).unwrap().unwrap();
    let placement = &mut identity.plan.placement;
    placement.shards.insert(DATA, vec![NodeId(1), NodeId(3)]);
    identity.save(&storage).await.unwrap();
    storage.shutdown().await.unwrap();
    dir
}

#[tokio::test]
async fn what_is_left_of_a_replica_that_moved_away_is_no_source() {
    let further = vec![entry(7, 1, grants(5))];
    let alone = left_over(further.clone()).await;
    refused("moved away", recover(&[&alone]).await);

    let left = left_over(further).await;
    let real = directory(1, vec![entry(2, 1, grants(2))]).await;
    recover(&[&left, &real]).await.unwrap();
    let (identity, _, _, machine) = look(&real).await;
    assert_eq!(identity.plan.placement.shards[&DATA], [NodeId(1)]);
    let Machine::Data(shard) = machine else {
        panic!("a data shard")
    };
    assert_eq!(shard.last_token(), FencingToken(2 + TOKEN_GAP));
    let storage = Storage::open(left.path()).unwrap();
    assert_eq!(storage.survey(DATA).unwrap(), None, "it is deleted");
    storage.shutdown().await.unwrap();
}

#[tokio::test]
async fn the_furthest_survivor_becomes_a_cluster_of_the_survivors() {
    // The longer log is of an older term: it lost an election, and is not taken.
    let longer = directory(1, vec![entry(1, 1, Payload::Blank), entry(1, 2, grants(5))]).await;
    let later = directory(2, vec![entry(2, 1, grants(2))]).await;
    recover(&[&longer, &later]).await.unwrap();

    let (first, mark, survey, machine) = look(&longer).await;
    let (second, ..) = look(&later).await;
    assert_ne!(first.cluster, OLD);
    assert_eq!(first.cluster, second.cluster);
    assert_eq!((first.node, second.node), (NodeId(1), NodeId(2)));
    assert_eq!(first.plan, second.plan);
    assert_eq!(first.plan.nodes.len(), 2);
    assert_eq!(first.plan.placement.shards[&DATA], [NodeId(1), NodeId(2)]);
    // Above every vote, too.
    assert_eq!((survey.last.leader_id.term, survey.last.index), (5, 2));
    assert_eq!(survey.purged, Some(survey.last));
    let Machine::Data(shard) = machine else {
        panic!("a data shard")
    };
    assert_eq!(shard.last_token(), FencingToken(2 + TOKEN_GAP));
    assert_eq!(shard.counts(), lockstep_model::shard::Counts::default());
    let mark = mark.unwrap();
    assert_eq!((mark.stage, mark.old), (Stage::Done, OLD));
    let wait = mark.hold_off(clock::now()).unwrap();
    assert!(wait.as_millis() <= u128::from(TTL.0));
}

#[tokio::test]
async fn what_was_interrupted_is_finished_by_repeating_it() {
    for placed in 0..=2 {
        let one = directory(1, vec![entry(1, 1, grants(3))]).await;
        let other = directory(2, vec![entry(2, 1, grants(4))]).await;
        recover_in_part(&[&one, &other], placed).await;
        let (begun, mark, ..) = look(&one).await;
        let not_before = mark.unwrap().not_before;
        // Not even the one that has all: it must not begin before the other can be finished.
        assert!(!starts(&one).await && !starts(&other).await, "{placed}");

        recover(&[&other, &one]).await.unwrap();
        let (identity, mark, survey, machine) = look(&one).await;
        let (second, same_mark, same, copied) = look(&other).await;
        assert!(starts(&one).await && starts(&other).await, "{placed}");
        assert_eq!(mark.unwrap().stage, Stage::Done);
        assert_eq!(mark, same_mark);
        assert!(mark.unwrap().not_before >= not_before);
        if placed > 0 {
            assert_eq!(identity.cluster, begun.cluster);
        }
        assert_eq!(identity.cluster, second.cluster);
        assert_eq!(identity.plan, second.plan);
        assert_eq!(same.last, survey.last);
        assert_eq!(copied.snapshot(), machine.snapshot());
        assert_eq!(last_token(&machine), FencingToken(4 + TOKEN_GAP));
    }
}

#[tokio::test]
async fn a_directory_that_is_open_to_nodes_stays_as_it_is() {
    let one = directory(1, vec![entry(1, 1, grants(3))]).await;
    let other = directory(2, vec![entry(1, 1, grants(3))]).await;
    recover_in_part(&[&one, &other], 2).await;
    // As if it had died between the two last marks, and the first node had run since.
    let (_, placed, placed_replica, _) = look(&one).await;
    let last = placed_replica.last;
    let done = Mark {
        stage: Stage::Done,
        ..placed.unwrap()
    };
    let storage = Storage::open(one.path()).unwrap();
    storage.put_meta(mark::KEY, &done.encode()).await.unwrap();
    storage.shutdown().await.unwrap();
    drop(storage);
    append(&one, last, Payload::Blank).await;

    let (before, ..) = look(&one).await;
    recover(&[&one, &other]).await.unwrap();
    let (identity, mark, survey, _) = look(&one).await;
    assert_eq!((identity, mark), (before, Some(done)));
    assert_eq!(survey.last.index, last.index + 1);
    let (_, _, second, _) = look(&other).await;
    assert_eq!(second.last, last);
    assert!(starts(&other).await);
}

#[tokio::test]
async fn repeating_it_shortens_no_wait() {
    let one = directory(1, vec![entry(1, 1, grants(1))]).await;
    let before = clock::now();
    recover(&[&one]).await.unwrap();
    let (_, first, ..) = look(&one).await;
    let first = first.unwrap();
    assert!(first.not_before >= before.plus(TTL));
    // By now the sessions are gone from it; their clients need not be.
    recover(&[&one]).await.unwrap();
    let (_, second, ..) = look(&one).await;
    let second = second.unwrap();
    assert_eq!((second.old, second.stage), (first.new, Stage::Done));
    assert_eq!(second.not_before, first.not_before);
    // The same where the first was not finished.
    let other = directory(2, vec![entry(1, 1, grants(1))]).await;
    recover_in_part(&[&other], 1).await;
    let (_, begun, ..) = look(&other).await;
    recover(&[&other]).await.unwrap();
    let (_, done, ..) = look(&other).await;
    assert_eq!(done.unwrap().not_before, begun.unwrap().not_before);
}

#[tokio::test]
async fn a_survivor_that_was_left_out_is_not_overwritten() {
    let one = directory(1, vec![entry(1, 1, grants(1))]).await;
    let other = directory(2, vec![entry(2, 1, grants(5))]).await;
    let untouched = look(&other).await;
    recover(&[&one]).await.unwrap();
    refused("recovered once", recover(&[&one, &other]).await);
    recover_in_part(&[&one], 1).await;
    refused("took no part", recover(&[&one, &other]).await);
    let (identity, mark, survey, machine) = look(&other).await;
    assert_eq!((identity, mark, survey), (untouched.0, None, untouched.2));
    assert_eq!(machine.snapshot(), untouched.3.snapshot());
}

#[tokio::test]
async fn no_cluster_is_finished_from_a_part_of_its_directories() {
    let one = directory(1, vec![entry(1, 1, grants(1))]).await;
    let other = directory(2, vec![entry(1, 1, grants(1))]).await;
    let stranger = directory(3, vec![entry(9, 1, grants(9))]).await;
    recover_in_part(&[&one, &other], 1).await;
    let (placed, ..) = look(&one).await;
    refused("is of node 2 too", recover(&[&one]).await);
    refused("took no part", recover(&[&one, &other, &stranger]).await);
    refused("can be lost", recover_without(&[2], &[&one, &other]).await);
    assert!(!starts(&one).await && !starts(&other).await);

    // Where nothing is in place, another recovery may begin, but of another cluster.
    recover(&[&other]).await.unwrap();
    let (second, ..) = look(&other).await;
    assert!(![OLD, placed.cluster].contains(&second.cluster));
    assert!(!starts(&one).await);
    refused("took no part", recover(&[&one, &other]).await);
    refused("is of node 2 too", recover(&[&one]).await);
    let (still, mark, ..) = look(&one).await;
    assert_eq!(still.cluster, placed.cluster);
    // And so where the other directories are gone.
    recover_without(&[2], &[&one]).await.unwrap();
    let (third, after, _, machine) = look(&one).await;
    assert!(![OLD, placed.cluster, second.cluster].contains(&third.cluster));
    assert!(after.unwrap().not_before >= mark.unwrap().not_before);
    assert_eq!(last_token(&machine), FencingToken(1 + 2 * TOKEN_GAP));
    assert!(starts(&one).await);
}

#[tokio::test]
async fn what_cannot_be_read_counts_as_absent() {
    let garbage = || Payload::Normal(BatchBytes(vec![0xff; 9].into()));
    let furthest = directory(1, vec![entry(7, 1, grants(9)), entry(7, 2, garbage())]).await;
    refused("shard 1 is in none", recover(&[&furthest]).await);
    let other = directory(2, vec![entry(1, 1, grants(2))]).await;
    recover(&[&furthest, &other]).await.unwrap();
    let (first, ..) = {
        let storage = Storage::open(furthest.path()).unwrap();
        assert_eq!(storage.survey(DATA).unwrap(), None);
        let found = Identity::load(&storage).unwrap().unwrap();
        storage.shutdown().await.unwrap();
        (found,)
    };
    let (second, _, _, machine) = look(&other).await;
    assert_eq!(first.plan, second.plan);
    assert_eq!(first.plan.placement.shards[&DATA], [NodeId(2)]);
    assert_eq!(last_token(&machine), FencingToken(2 + TOKEN_GAP));
}

/// What a recovery leaves is a snapshot and a purged log.
#[tokio::test]
async fn a_log_that_goes_on_after_a_snapshot_is_applied_to_it() {
    let one = directory(1, vec![entry(1, 1, grants(2))]).await;
    recover(&[&one]).await.unwrap();
    let (_, _, found, _) = look(&one).await;
    let end = Some(found.last);
    assert_eq!((found.purged, found.snapshot), (end, end));
    append(&one, found.last, grants(3)).await;

    recover(&[&one]).await.unwrap();
    let (_, _, survey, machine) = look(&one).await;
    assert_eq!(survey.last.index, found.last.index + 2);
    assert_eq!(last_token(&machine), FencingToken(2 + 3 + 2 * TOKEN_GAP));
}

fn last_token(machine: &Machine) -> FencingToken {
    match machine {
        Machine::Data(shard) => shard.last_token(),
        Machine::Meta(_) => panic!("a data shard"),
    }
}

#[tokio::test]
async fn what_cannot_be_recovered_is_refused_and_left_as_it_is() {
    let one = directory(1, vec![entry(1, 1, grants(1))]).await;
    let same = directory(1, vec![]).await;
    refused("as another is", recover(&[&one, &same]).await);
    let empty = tempfile::tempdir().unwrap();
    refused("no data directory", recover(&[&one, &empty]).await);
    {
        let _running = Storage::open(one.path()).unwrap();
        refused("in use", recover(&[&one]).await);
    }
    {
        let storage = Storage::open(same.path()).unwrap();
        storage.drop_shard(DATA).await.unwrap();
        storage.shutdown().await.unwrap();
    }
    refused("shard 1 is in none", recover(&[&same]).await);
    let (identity, mark, survey, _) = look(&one).await;
    assert_eq!((identity.cluster, mark), (OLD, None));
    assert_eq!((survey.last.index, survey.purged), (1, None));
}
