//! What pods look like is read as it is meant.

use k8s_openapi::api::core::v1::Pod as KubePod;
use serde_json::{Value, json};

use super::{doors, pods::phase};
use crate::cluster::observed::PodPhase;

fn pod(name: &str, metadata: Value, status: Value) -> KubePod {
    let mut pod = json!({"metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"}, "status": status});
    for (key, value) in metadata.as_object().unwrap() {
        pod["metadata"][key] = value.clone();
    }
    serde_json::from_value(pod).unwrap()
}

fn read(metadata: Value, status: Value) -> PodPhase {
    phase(&pod("demo-0", metadata, status), false)
}

fn ready(status: &str) -> Value {
    json!([{"type": "Ready", "status": status, "lastTransitionTime": "2026-01-01T00:09:00Z"}])
}

#[test]
fn phases() {
    let none = json!({});
    assert_eq!(
        read(none.clone(), json!({"conditions": ready("True")})),
        PodPhase::Ready
    );
    assert_eq!(
        read(none.clone(), json!({"conditions": ready("False")})),
        PodPhase::NotReady
    );
    assert_eq!(read(none.clone(), json!({})), PodPhase::NotReady);
    let deleted = json!({"deletionTimestamp": "2026-01-01T00:08:00Z"});
    assert_eq!(
        read(deleted, json!({"conditions": ready("True")})),
        PodPhase::Terminating
    );
    let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "no room", "lastTransitionTime": "2026-01-01T00:07:00Z"}]});
    assert_eq!(
        read(none.clone(), unscheduled),
        PodPhase::Unschedulable("no room".to_owned())
    );
    let waiting = |reason: &str| {
        json!({"conditions": ready("False"), "containerStatuses": [{
            "name": "lockstep", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"waiting": {"reason": reason, "message": "why"}},
        }]})
    };
    assert_eq!(
        read(none.clone(), waiting("ImagePullBackOff")),
        PodPhase::Stuck("ImagePullBackOff: why".to_owned())
    );
    let mut sidecar = waiting("CrashLoopBackOff");
    sidecar["containerStatuses"][0]["name"] = json!("side");
    let node =
        json!({"name": "lockstep", "image": "x", "imageID": "", "ready": true, "restartCount": 0});
    sidecar["containerStatuses"]
        .as_array_mut()
        .unwrap()
        .push(node);
    assert_eq!(
        read(none.clone(), sidecar.clone()),
        PodPhase::Impaired("CrashLoopBackOff: why".to_owned())
    );
    let away = phase(&pod("demo-0", json!({}), sidecar), true);
    assert_eq!(away, PodPhase::NotReady);
    assert_eq!(read(none, waiting("ContainerCreating")), PodPhase::NotReady);
}

#[test]
fn ready_pods_are_asked_first_and_others_pods_never() {
    let none = json!({});
    let pods = [
        pod("demo-0", none.clone(), json!({"podIP": "10.0.0.1"})),
        pod(
            "demo-1",
            none.clone(),
            json!({"podIP": "10.0.0.2", "conditions": ready("True")}),
        ),
        pod("demo-2", none.clone(), json!({})),
        pod("demo-two", none, json!({"podIP": "10.0.0.3"})),
    ];
    let doors = doors(&pods, "demo");
    let doors: Vec<_> = doors
        .iter()
        .map(|door| (door.ordinal, door.address.as_str()))
        .collect();
    assert_eq!(doors, [(1, "10.0.0.2"), (0, "10.0.0.1")]);
}
