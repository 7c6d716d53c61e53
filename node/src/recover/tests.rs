//! Recovering real directories, without the processes around it.

#![allow(
    clippy::indexing_slicing,
    reason = "a test that is out of bounds fails"
)]

use std::{collections::BTreeSet, path::Path};

use lockstep_model::{
    Batch, Command, FencingToken, LockName, Owner, Priority, Serial, SessionId,
    command::{LockSpec, Mode, RequestId, Wait},
    meta::{NodeRecord, Settings},
    placement,
    shard::TOKEN_GAP,
};
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use tempfile::TempDir;

use super::*;
use crate::{
    identity::founding_command,
    raft::types::{BatchBytes, Entry, Payload},
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
    let at = Timestamp(1_000);
    Payload::Normal(BatchBytes(Batch { at, commands }.encode().into()))
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
    let mut all = vec![Command::OpenSession {
        session,
        ttl: TTL,
        priority: Priority(0),
        labels: BTreeMap::new(),
    }];
    all.extend((1..=count).map(|serial| Command::Acquire {
        request: RequestId {
            session,
            serial: Serial(serial),
            acked_below: Serial(0),
        },
        owner: Owner::default(),
        locks: vec![LockSpec {
            name: LockName::new(&format!("lock-{serial}")).unwrap(),
            mode: Mode::Exclusive,
        }],
        wait: Wait::Try,
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

async fn recover(directories: &[&TempDir]) -> anyhow::Result<()> {
    run(&Asked {
        data_dirs: directories.iter().map(|dir| dir.path().into()).collect(),
        yes: true,
        output: Format::Json,
    })
    .await
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

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for found in std::fs::read_dir(from).unwrap() {
        let path = found.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
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
    let one = directory(1, vec![entry(1, 1, grants(3))]).await;
    let other = directory(2, vec![entry(1, 1, grants(3))]).await;
    let before = tempfile::tempdir().unwrap();
    copy(other.path(), before.path());
    recover(&[&one, &other]).await.unwrap();
    // As if it had died before it came to the second.
    let (finished, ..) = look(&one).await;
    {
        let storage = Storage::open(before.path()).unwrap();
        let mark = Mark {
            stage: Stage::Begun,
            old: OLD,
            new: finished.cluster,
            not_before: Timestamp(0),
        };
        storage.put_meta(mark::KEY, &mark.encode()).await.unwrap();
        assert!(matches!(
            Mark::of_startable(&storage),
            Err(mark::MarkError::Unfinished)
        ));
        storage.shutdown().await.unwrap();
    }
    recover(&[&one, &before]).await.unwrap();
    let (_, _, survey, machine) = look(&one).await;
    let (identity, mark, same, copied) = look(&before).await;
    assert_eq!(identity.cluster, finished.cluster);
    assert_eq!(identity.plan, finished.plan);
    assert_eq!(mark.unwrap().stage, Stage::Done);
    assert_eq!(same, survey);
    assert_eq!(copied.snapshot(), machine.snapshot());
}

#[tokio::test]
async fn what_cannot_be_recovered_is_refused_and_left_as_it_is() {
    let one = directory(1, vec![entry(1, 1, grants(1))]).await;
    let same = directory(1, vec![]).await;
    let refused = |words: &'static str| {
        move |result: anyhow::Result<()>| {
            let error = format!("{:#}", result.unwrap_err());
            assert!(error.contains(words), "{error}");
        }
    };
    refused("as another is")(recover(&[&one, &same]).await);
    let empty = tempfile::tempdir().unwrap();
    refused("no data directory")(recover(&[&one, &empty]).await);
    {
        let _running = Storage::open(one.path()).unwrap();
        refused("in use")(recover(&[&one]).await);
    }
    {
        let storage = Storage::open(same.path()).unwrap();
        storage.drop_shard(DATA).await.unwrap();
        storage.shutdown().await.unwrap();
    }
    refused("shard 1 is in none")(recover(&[&same]).await);
    let (identity, mark, survey, _) = look(&one).await;
    assert_eq!((identity.cluster, mark), (OLD, None));
    assert_eq!((survey.last.index, survey.purged), (1, None));
}
