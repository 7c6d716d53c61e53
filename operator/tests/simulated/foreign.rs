//! Nodes of other clusters that answer at the addresses of this one's pods.
//!
//! Nothing is done by what they say, whatever their tables are, and nothing is asked of them; the status
//! says so. Only a person says that a cluster has another id, after a recovery.

use std::{net::Ipv4Addr, sync::Arc};

use kube::Client;
use lockstep_operator::cluster::build::CLUSTER_ID_ANNOTATION;
use lockstep_proto::cluster::v1::{GetStatusResponse, NodeLifecycle};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    api,
    member::serve,
    objects::degraded,
    settle,
    world::{Shared, World},
};

async fn settled(last: u8) -> (Shared, Client, tokio::task::JoinHandle<()>) {
    let network = Ipv4Addr::new(127, 62, last, 0);
    let world: Shared = Arc::new(Mutex::new(World::new(network, json!({}))));
    let client = Client::new(api::service(Arc::clone(&world)), "default");
    let members = serve(Arc::clone(&world), network).await;
    settle(&world, &client, "creation").await;
    (world, client, members)
}

fn pinned(world: &World) -> Value {
    world.cluster()["metadata"]["annotations"][CLUSTER_ID_ANNOTATION].clone()
}

fn claims(world: &World) -> Vec<Value> {
    let claims = world.list("persistentvolumeclaims").into_iter();
    claims
        .map(|claim| claim["metadata"]["uid"].clone())
        .collect()
}

/// Tables by which every volume would be discarded, and that are younger than any.
fn wrong_tables(world: &World) -> GetStatusResponse {
    let mut tables = world.tables();
    tables.cluster_id = "f".repeat(32);
    tables.revision = 1_000_000;
    tables.settled = true;
    tables.answered_by = 2;
    for node in &mut tables.nodes {
        node.lifecycle = NodeLifecycle::Lost.into();
        node.shards_placed = 0;
    }
    tables
}

/// A machine is away, and its pod's address has become one of another cluster.
#[tokio::test]
async fn volumes_are_not_discarded_by_what_another_cluster_says() {
    let (world, client, members) = settled(1).await;
    {
        let mut world = world.lock();
        assert_eq!(pinned(&world), "c".repeat(32));
        let tables = wrong_tables(&world);
        world.answer_as(1, tables);
        world.stop_pod(1);
    }
    let before = claims(&world.lock());
    settle(&world, &client, "a foreign answer").await;
    {
        let world = world.lock();
        assert_eq!(claims(&world), before);
        assert_eq!(degraded(&world.cluster()), Some("ForeignAnswer"));
        assert_eq!(pinned(&world), "c".repeat(32));
    }
    members.abort();
}

/// All answers are another cluster's, and no operator may decide that this is a recovery.
#[tokio::test]
async fn a_recovered_cluster_is_believed_when_a_person_says_so() {
    let (world, client, members) = settled(2).await;
    let recovered = "d".repeat(32);
    {
        let mut world = world.lock();
        world.recover(&recovered);
        world.patch_spec(&json!({"nodes": 4}));
    }
    settle(&world, &client, "a recovery").await;
    {
        let world = world.lock();
        assert_eq!(degraded(&world.cluster()), Some("ForeignAnswer"));
        assert_eq!(pinned(&world), "c".repeat(32));
        assert_eq!(world.list("pods").len(), 3);
    }
    world
        .lock()
        .annotate(CLUSTER_ID_ANNOTATION, &json!(recovered));
    settle(&world, &client, "a recovery that is known").await;
    {
        let world = world.lock();
        assert_eq!(degraded(&world.cluster()), None);
        assert_eq!(world.list("pods").len(), 4);
    }
    members.abort();
}

/// Objects that are restored lose their status, and may lose annotations.
#[tokio::test]
async fn an_id_that_was_lost_is_pinned_again_by_a_majority() {
    let (world, client, members) = settled(3).await;
    {
        let mut world = world.lock();
        let tables = wrong_tables(&world);
        world.answer_as(1, tables);
        world.stop_pod(1);
        world.annotate(CLUSTER_ID_ANNOTATION, &Value::Null);
    }
    settle(&world, &client, "an annotation that is gone").await;
    assert_eq!(pinned(&world.lock()), "c".repeat(32));
    members.abort();
}
