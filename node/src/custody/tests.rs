//! What becomes of what is left of replicas, without processes.

use lockstep_model::{
    ClusterId,
    meta::{ClusterView, NodeRecord, Settings},
    placement,
};
use openraft::{
    RaftLogReader as _,
    storage::{RaftLogStorage as _, RaftLogStorageExt as _},
};

use super::*;
use crate::{
    config::{self, Flags},
    directory::Directory,
    identity::Founding,
    peer::Peers,
    raft::{
        snapshot_pace::Pace,
        types::{Entry, LeaderId, LogId, Payload, Vote},
    },
};

const SHARD: ShardId = ShardId(1);

/// A node, by tables that place everything on three others.
fn bystander(storage: &Arc<Storage>) -> Custody {
    let settings = Settings {
        shards: 1,
        replication_factor: 3,
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
        placement: placement::place(&settings, &nodes[..3]).unwrap(),
        nodes,
        last_node: NodeId(4),
        revision: 7,
        lifecycles: BTreeMap::new(),
    };
    let identity = Identity {
        cluster,
        node: NodeId(4),
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
    let router = Arc::new(Router::new(Arc::new(directory), Arc::new(peers)));
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

    let custody = bystander(&storage);
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
