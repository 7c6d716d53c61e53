//! States that real clusters reach: each is named, and keeps nothing else from being done.

use std::{net::Ipv4Addr, sync::Arc};

use kube::Client;
use lockstep_operator::cluster::{build::OPERATOR_ANNOTATION, reconcile};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    api,
    member::serve,
    objects::{condition, degraded},
    operator, settle,
    world::{Shared, World},
};

/// A cluster that is as wanted, in a network of its own.
async fn settled(last: u8) -> (Shared, Client, tokio::task::JoinHandle<()>) {
    let network = Ipv4Addr::new(127, 63, last, 0);
    let world: Shared = Arc::new(Mutex::new(World::new(network, json!({}))));
    let client = Client::new(api::service(Arc::clone(&world)), "default");
    let members = serve(Arc::clone(&world), network).await;
    settle(&world, &client, "creation").await;
    assert_eq!(degraded(&world.lock().cluster()), None);
    (world, client, members)
}

#[tokio::test]
async fn growth_that_the_class_refuses_keeps_no_machine_from_being_replaced() {
    let (world, client, members) = settled(1).await;
    {
        let mut world = world.lock();
        world.deny_growth();
        world.patch_spec(&json!({"storage": {"size": "20Gi"}}));
        world.lose_machine(1);
    }
    settle(&world, &client, "a class that does not expand").await;
    {
        let world = world.lock();
        assert!(world.is_whole(), "{:#}", world.picture());
        assert_eq!(degraded(&world.cluster()), Some("GrowthRefused"));
        let cluster = world.cluster();
        let storage = condition(&cluster, "StorageReady").unwrap();
        assert_eq!(storage[..2], ["False", "GrowthRefused"]);
    }
    members.abort();
}

#[tokio::test]
async fn a_volume_without_labels_is_the_pods_of_its_name() {
    let (world, client, members) = settled(2).await;
    let uid = |world: &World| {
        let claim = world.get("persistentvolumeclaims", "data-demo-1").unwrap();
        claim["metadata"]["uid"].clone()
    };
    let before = uid(&world.lock());
    {
        let mut world = world.lock();
        world.strip_volume(1);
        world.delete_pod(1);
    }
    settle(&world, &client, "a volume without labels").await;
    {
        let world = world.lock();
        assert_eq!(uid(&world), before);
        assert!(world.is_whole());
        let claim = world.get("persistentvolumeclaims", "data-demo-1").unwrap();
        let instance = &claim["metadata"]["labels"]["app.kubernetes.io/instance"];
        assert_eq!(instance, "demo");
        assert_eq!(degraded(&world.cluster()), None);
    }
    members.abort();
}

/// It waits for a Secret, say, on its own volume: deleting the pod would never help.
#[tokio::test]
async fn a_pod_on_a_volume_without_labels_is_not_deleted_again_and_again() {
    let (world, client, members) = settled(3).await;
    {
        let mut world = world.lock();
        world.strip_volume(1);
        world.stop_pod(1);
        world.delete_pod(1);
        world.tick();
    }
    let uid = |world: &World| world.get("pods", "demo-1").unwrap()["metadata"]["uid"].clone();
    let before = uid(&world.lock());
    settle(&world, &client, "a pod that waits").await;
    assert_eq!(uid(&world.lock()), before);
    members.abort();
}

#[tokio::test]
async fn pods_that_a_quota_denies_are_named() {
    let (world, client, members) = settled(4).await;
    {
        let mut world = world.lock();
        world.deny_pods();
        world.delete_pod(1);
    }
    settle(&world, &client, "a quota").await;
    {
        let cluster = world.lock().cluster();
        let [status, reason, message] = condition(&cluster, "Degraded").unwrap();
        assert_eq!([status, reason], ["True", "PodNotCreated"]);
        assert!(message.contains("exceeded quota"), "{message}");
    }
    world.lock().allow();
    settle(&world, &client, "no quota").await;
    assert_eq!(degraded(&world.lock().cluster()), None);
    members.abort();
}

#[tokio::test]
async fn a_cluster_whose_spec_was_spoiled_is_repaired_all_the_same() {
    let (world, client, members) = settled(5).await;
    {
        let mut world = world.lock();
        world.patch_spec(&json!({"shards": 7, "nodes": 5}));
        world.lose_machine(1);
    }
    settle(&world, &client, "a spoiled spec").await;
    {
        let world = world.lock();
        assert!(world.is_whole(), "{:#}", world.picture());
        assert_eq!(world.list("pods").len(), 3);
        let cluster = world.cluster();
        assert_eq!(degraded(&cluster), Some("InvalidSpec"));
        // What is known stays known, and is not frozen.
        assert_eq!(condition(&cluster, "Available").unwrap()[0], "True");
        let ready = cluster["status"]["nodes"].as_array().unwrap();
        assert!(ready.iter().all(|node| node["ready"] == true));
        assert_eq!(ready.len(), 3);
    }
    members.abort();
}

#[tokio::test]
async fn what_cannot_be_read_is_not_said_to_be_available() {
    let (world, client, members) = settled(6).await;
    world.lock().hide("pods");
    crate::fail(&world, &client, 5).await;
    {
        let cluster = world.lock().cluster();
        let found = condition(&cluster, "Available").unwrap();
        assert_eq!(found[..2], ["Unknown", "Unreadable"]);
    }
    world.lock().allow();
    settle(&world, &client, "pods that can be read again").await;
    assert_eq!(
        condition(&world.lock().cluster(), "Available").unwrap()[0],
        "True"
    );
    members.abort();
}

/// `kubectl delete --cascade=orphan`, and the cluster is created again.
#[tokio::test]
async fn what_an_orphaning_deletion_leaves_is_taken_up_again() {
    let (world, client, members) = settled(7).await;
    let uids = |world: &World| -> Vec<Value> {
        let all = ["statefulsets", "pods", "persistentvolumeclaims", "services"].into_iter();
        let all = all.flat_map(|plural| world.list(plural));
        all.map(|object| object["metadata"]["uid"].clone())
            .collect()
    };
    let before = uids(&world.lock());
    world.lock().delete_cluster(true, &json!({}));
    settle(&world, &client, "an orphaning deletion").await;
    {
        let world = world.lock();
        assert_eq!(uids(&world), before);
        assert_eq!(degraded(&world.cluster()), None);
        let set = world.get("statefulsets", "demo").unwrap();
        assert_eq!(set["metadata"]["ownerReferences"][0]["uid"], "cluster-2");
    }
    members.abort();
}

/// The nodes would take the volumes' number of shards for theirs, or refuse to start.
#[tokio::test]
async fn volumes_that_are_left_keep_what_is_for_ever() {
    let (world, client, members) = settled(8).await;
    world.lock().delete_cluster(false, &json!({"shards": 5}));
    settle(&world, &client, "another number of shards").await;
    {
        let world = world.lock();
        let cluster = world.cluster();
        let [status, reason, message] = condition(&cluster, "Degraded").unwrap();
        assert_eq!([status, reason], ["True", "InvalidSpec"]);
        assert!(message.contains("spec.shards"), "{message}");
        assert_eq!(world.list("statefulsets"), [] as [Value; 0]);
    }
    world.lock().patch_spec(&json!({"shards": 2}));
    settle(&world, &client, "the right number of shards").await;
    assert!(world.lock().is_whole());
    members.abort();
}

#[tokio::test]
async fn the_image_that_runs_is_told() {
    let (world, client, members) = settled(9).await;
    let image = |world: &World| world.cluster()["status"]["currentImage"].clone();
    assert_eq!(image(&world.lock()), "lockstep-node:1");
    world.lock().patch_spec(&json!({"image": "bad"}));
    settle(&world, &client, "a bad image").await;
    assert_eq!(image(&world.lock()), "lockstep-node:1");
    members.abort();
}

/// Somebody else drains: leads that were handed over for nothing would be handed over every few seconds.
#[tokio::test]
async fn no_lead_is_handed_over_for_an_eviction_that_is_not_allowed() {
    let (world, client, members) = settled(10).await;
    {
        let mut world = world.lock();
        world.deny_evictions();
        world.patch_spec(&json!({"log": {"filter": "debug"}}));
    }
    settle(&world, &client, "a budget that is spent").await;
    assert_eq!(world.lock().transfers, 0);
    world.lock().allow();
    settle(&world, &client, "a budget that allows it").await;
    assert_eq!(world.lock().transfers, 3);
    members.abort();
}

/// A pod on an empty volume is ready long before it has a replica.
#[tokio::test]
async fn the_budget_that_is_built_follows_the_shards() {
    let (world, client, members) = settled(11).await;
    let budget = |world: &World| {
        let budget = world.get("poddisruptionbudgets", "demo").unwrap();
        budget["spec"]["maxUnavailable"].clone()
    };
    assert_eq!(budget(&world.lock()), 1);
    world.lock().lose_volume(1);
    let context = operator(&client, &world);
    let mut seen = Vec::new();
    for _ in 0..40 {
        let (cluster, is_safe) = {
            let mut world = world.lock();
            world.tick();
            let cluster = serde_json::from_value(world.cluster()).unwrap();
            (Arc::new(cluster), world.survives_any_loss())
        };
        drop(Box::pin(reconcile(cluster, Arc::clone(&context))).await);
        assert_eq!(budget(&world.lock()), i32::from(is_safe));
        seen.push(is_safe);
    }
    assert!(
        seen.contains(&false) && seen.last() == Some(&true),
        "{seen:?}"
    );
    members.abort();
}

/// Two releases would undo each other's changes for ever.
#[tokio::test]
async fn one_release_keeps_a_cluster_until_its_lease_is_over() {
    let (world, client, members) = settled(12).await;
    let spec = json!({"holderIdentity": "them", "leaseDurationSeconds": 15, "renewTime": "2026-01-01T00:00:00.000000Z"});
    let keeper = |world: &World| {
        let set = world.get("statefulsets", "demo").unwrap();
        set["metadata"]["annotations"][OPERATOR_ANNOTATION].clone()
    };
    {
        let mut world = world.lock();
        world.plant(
            "leases/theirs",
            json!({"metadata": {"name": "theirs"}, "spec": spec}),
        );
        let mut set = world.get("statefulsets", "demo").unwrap();
        set["metadata"]["annotations"][OPERATOR_ANNOTATION] = json!("others/theirs");
        world.plant("statefulsets/demo", set);
        world.patch_spec(&json!({"nodes": 4}));
    }
    // It is renewed all the time.
    let context = operator(&client, &world);
    for at in 0..5 {
        let cluster = {
            let mut world = world.lock();
            world.tick();
            let mut spec = spec.clone();
            spec["renewTime"] = json!(format!("2026-01-01T00:00:0{at}.000000Z"));
            world.plant(
                "leases/theirs",
                json!({"metadata": {"name": "theirs"}, "spec": spec}),
            );
            Arc::new(serde_json::from_value(world.cluster()).unwrap())
        };
        assert!(
            Box::pin(reconcile(cluster, Arc::clone(&context)))
                .await
                .is_ok()
        );
    }
    assert_eq!(world.lock().list("pods").len(), 3);
    assert_eq!(keeper(&world.lock()), "others/theirs");
    // Its holder is gone.
    for _ in 0..2 {
        let cluster = {
            let mut world = world.lock();
            world.tick();
            Arc::new(serde_json::from_value(world.cluster()).unwrap())
        };
        drop(Box::pin(reconcile(cluster, Arc::clone(&context))).await);
    }
    settle(&world, &client, "a lease that is over").await;
    assert_eq!(keeper(&world.lock()), "default/lockstep-operator");
    assert!(world.lock().has(4));
    members.abort();
}
