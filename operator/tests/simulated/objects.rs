//! Objects that are not the cluster's, or that are refused.
//!
//! What merely has the cluster's name is left as it is, and what a cluster can be kept without does not keep
//! a lost machine from being replaced. The status says so.

use std::{net::Ipv4Addr, sync::Arc};

use kube::Client;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    api,
    member::serve,
    settle,
    world::{Shared, World},
};

/// A condition's status, reason and message.
pub(crate) fn condition<'a>(cluster: &'a Value, kind: &str) -> Option<[&'a str; 3]> {
    let conditions = cluster["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|found| found["type"] == kind)?;
    Some(["status", "reason", "message"].map(|field| found[field].as_str().unwrap_or_default()))
}

/// The reason of `Degraded`, where that is true.
pub(crate) fn degraded(cluster: &Value) -> Option<&str> {
    let [status, reason, _] = condition(cluster, "Degraded")?;
    (status == "True").then_some(reason)
}

/// An object of the cluster's name that somebody else has made, and owns together with the cluster.
fn foreign(shared: bool) -> Value {
    let mut object = json!({
        "metadata": {"name": "demo", "uid": "theirs", "labels": {"made-by": "hand"}},
        "spec": {"theirs": true},
    });
    if shared {
        object["metadata"]["ownerReferences"] = json!([{"uid": "cluster", "kind": "SyncCluster", "name": "demo", "apiVersion": "lockstep.dev/v1alpha1"}]);
    }
    object
}

async fn world(last: u8, spec: Value) -> (Shared, Client, tokio::task::JoinHandle<()>) {
    let network = Ipv4Addr::new(127, 61, last, 0);
    let world: Shared = Arc::new(Mutex::new(World::new(network, spec)));
    let client = Client::new(api::service(Arc::clone(&world)), "default");
    let members = serve(Arc::clone(&world), network).await;
    (world, client, members)
}

#[tokio::test]
async fn what_is_not_the_clusters_is_left_as_it_is() {
    let optional = ["networkpolicies", "podmonitors", "poddisruptionbudgets"];
    for (at, plural) in optional.into_iter().enumerate() {
        for is_wanted in [true, false] {
            let spec = json!({
                "networkPolicy": {"enabled": is_wanted}, "monitoring": {"podMonitor": is_wanted},
            });
            let last = u8::try_from(1 + at * 2 + usize::from(is_wanted)).unwrap();
            let (world, client, members) = world(last, spec).await;
            let theirs = foreign(is_wanted);
            world
                .lock()
                .plant(&format!("{plural}/demo"), theirs.clone());
            settle(&world, &client, plural).await;
            world.lock().patch_spec(&json!({"nodes": 4}));
            settle(&world, &client, plural).await;
            {
                let world = world.lock();
                let found = world.get(plural, "demo").unwrap();
                assert_eq!(found["spec"], theirs["spec"], "{plural}");
                assert_eq!(found["metadata"]["labels"], theirs["metadata"]["labels"]);
                let pods = world.list("pods").len();
                assert_eq!(pods, 4, "{plural}: the cluster is kept all the same");
                let is_asked_for = is_wanted || plural == "poddisruptionbudgets";
                let expected = is_asked_for.then_some("ForeignObject");
                assert_eq!(degraded(&world.cluster()), expected, "{plural}");
            }
            members.abort();
        }
    }
}

#[tokio::test]
async fn nothing_is_founded_on_anothers_service_account() {
    let (world, client, members) = world(20, json!({})).await;
    world.lock().plant("serviceaccounts/demo", foreign(false));
    settle(&world, &client, "a foreign ServiceAccount").await;
    {
        let world = world.lock();
        let found = world.get("serviceaccounts", "demo").unwrap();
        assert_eq!(found["metadata"]["labels"], json!({"made-by": "hand"}));
        assert_eq!(world.list("statefulsets"), [] as [Value; 0]);
        assert!(degraded(&world.cluster()).is_some());
    }
    members.abort();
}

#[tokio::test]
async fn a_refused_network_policy_does_not_keep_a_lost_machine_from_being_replaced() {
    let (world, client, members) = world(21, json!({})).await;
    world.lock().deny("networkpolicies");
    settle(&world, &client, "creation").await;
    assert_eq!(degraded(&world.lock().cluster()), Some("ObjectRefused"));
    world.lock().lose_machine(1);
    settle(&world, &client, "a lost machine").await;
    {
        let world = world.lock();
        assert!(world.is_whole(), "{:#}", world.picture());
    }
    members.abort();
}
