//! How replicas are let in and what becomes of what is left of them, without processes.

use std::collections::BTreeSet;

use lockstep_model::{
    ClusterId,
    meta::{ClusterView, NodeRecord, Settings},
    placement,
};
use openraft::{
    RaftLogReader as _, ServerState,
    storage::{RaftLogStorage as _, RaftLogStorageExt as _},
};

use tokio::time::timeout;

use super::*;
use crate::{
    config::{self, Flags},
    directory::Directory,
    identity::Founding,
    peer::Peers,
    raft::{
        snapshot_pace::Pace,
        types::{Entry, LeaderId, LogId, Membership, Payload, Vote},
    },
    status,
};

const SHARD: ShardId = ShardId(1);
/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Of a node, by tables that place everything on nodes 1 to 3, or on the first alone.
fn custody(storage: &Arc<Storage>, node: u64, holders: usize) -> Custody {
    let settings = Settings {
        shards: 1,
        replication_factor: u32::try_from(holders).unwrap(),
        ring_version: 1,
    };
    let record = |id| NodeRecord {
        node: NodeId(id),
        name: format!("node-{id}"),
        client_address: format!("node-{id}:7400"),
        peer_address: format!("node-{id}:7401"),
        zone: String::new(),
        version: String::new(),
    };
    let nodes: Vec<_> = (1..=4).map(record).collect();
    let cluster = ClusterId([1; 16]);
    let plan = ClusterView {
        cluster,
        settings,
        placement: placement::place(&settings, &nodes[..holders]).unwrap(),
        nodes,
        last_node: NodeId(4),
        revision: 7,
        lifecycles: BTreeMap::new(),
    };
    let identity = Identity {
        cluster,
        node: NodeId(node),
        state: Founding::Active,
        plan: plan.clone(),
    };
    let config = config::load(&Flags {
        peer_listen: Some("127.0.0.1:9001".into()),
        initial_nodes: Some("127.0.0.1:9001,127.0.0.1:9002,127.0.0.1:9003".into()),
        ..Flags::default()
    });
    let config = config.unwrap();
    let stop = CancellationToken::new();
    let pace = Pace::new(config.snapshot_bytes_per_second);
    let peers = Peers::new(cluster, BTreeMap::new(), pace, stop.clone());
    let directory = Directory::new(identity.node, plan);
    let router = Router::new(Arc::new(directory), Arc::new(peers), Arc::clone(storage));
    let router = Arc::new(router);
    Custody::new(config, identity, Arc::clone(storage), router, stop)
}

/// A node that died when it had stored the tables, and before it deleted the replica.
#[tokio::test]
async fn what_is_left_of_a_replica_is_deleted_as_soon_as_it_can_be_and_its_promises_stay() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(Storage::open(dir.path()).unwrap());
    let last = LogId {
        leader_id: LeaderId {
            term: 3,
            node_id: 1,
        },
        index: 0,
    };
    let vote = Vote::new(5, 2);
    let mut log = storage.log_store(SHARD).await.unwrap();
    let entry = Entry {
        log_id: last,
        payload: Payload::Blank,
    };
    log.blocking_append([entry]).await.unwrap();
    log.save_vote(&vote).await.unwrap();

    let custody = custody(&storage, 4, 3);
    custody.reconcile().await;
    assert!(storage.has_replica(SHARD).unwrap(), "it is in use");
    drop(log);
    custody.reconcile().await;
    assert!(!storage.has_replica(SHARD).unwrap());
    assert!(custody.left_over.lock().is_empty());
    let mut log = storage.log_store(SHARD).await.unwrap();
    assert_eq!(log.reach(), Some(last));
    let kept = log.get_log_reader().await.read_vote().await.unwrap();
    assert_eq!(kept, Some(vote));
}

/// A log in which node 1 is its group's only member.
async fn with_member(storage: &Storage, shard: ShardId) {
    let log_id = LogId {
        leader_id: LeaderId {
            term: 1,
            node_id: 1,
        },
        index: 0,
    };
    let nodes = BTreeMap::from([(1, PeerAddress("node-1:7401".to_owned()))]);
    let members = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
    let entry = Entry {
        log_id,
        payload: Payload::Membership(members),
    };
    let mut log = storage.log_store(shard).await.unwrap();
    log.blocking_append([entry]).await.unwrap();
}

/// The first one takes long to open: it is not open before the other can be reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_is_reached_while_another_is_being_opened_and_the_node_is_not_ready() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(Storage::open(dir.path()).unwrap());
    let custody = custody(&storage, 1, 1);
    let (opener, router) = (Arc::clone(&custody.opener), Arc::clone(&custody.router));
    let opening = custody.open_each(|shard| {
        let (opener, router) = (Arc::clone(&opener), Arc::clone(&router));
        async move {
            while shard == ShardId::META && router.replica(SHARD).is_none() {
                sleep(Duration::from_millis(5)).await;
            }
            if shard == ShardId::META {
                let why = status::ready(&router).unwrap_err();
                assert!(why.contains("being opened"), "{why}");
            }
            opener.open(shard).await
        }
    });
    timeout(PATIENCE, opening).await.unwrap();
    assert_eq!(router.replicas().len(), 2);
    assert!(router.is_opened());
}

#[tokio::test]
async fn a_replica_stands_for_election_only_when_it_can_be_reached() {
    let dir = tempfile::tempdir().unwrap();
    let storage = Arc::new(Storage::open(dir.path()).unwrap());
    with_member(&storage, SHARD).await;
    let custody = custody(&storage, 1, 1);
    let replica = custody.opener.open(SHARD).await.unwrap();
    assert!(!replica.raft.config().enable_elect, "nobody reaches it yet");
    custody.let_in(Arc::clone(&replica));
    assert!(custody.router.replica(SHARD).is_some());
    let seen = replica.raft.wait(Some(PATIENCE));
    let leads = seen.state(ServerState::Leader, "it stands");
    leads.await.unwrap();
}
