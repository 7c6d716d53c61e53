//! What is built is what Kubernetes and the nodes need.

use serde_json::{Value, json};

use super::{BuildError, Objects, Served, build};
use crate::{
    cluster::{
        plan::{Plan, Step, Waiting},
        validate::{Valid, validate},
    },
    crd::v1alpha1::SyncCluster,
};

fn valid(spec: Value) -> Valid {
    let cluster: SyncCluster = serde_json::from_value(json!({
        "apiVersion": "lockstep.dev/v1alpha1", "kind": "SyncCluster",
        "metadata": {"name": "demo", "namespace": "apps", "uid": "u-1"}, "spec": spec,
    }))
    .unwrap();
    validate(&cluster, None, "lockstep-node:1").unwrap()
}

fn plan(replicas: u32) -> Plan {
    Plan {
        replicas,
        storage_bytes: 10 << 30,
        leaving: None,
        step: Step::Wait(Waiting::Creating),
    }
}

fn objects(spec: Value) -> Result<Objects, BuildError> {
    build(
        &valid(spec),
        &plan(3),
        Served::default(),
        1,
        "default/lockstep-operator",
    )
}

fn pod(objects: &Objects) -> Value {
    serde_json::to_value(&objects.stateful_set).unwrap()["spec"]["template"].take()
}

fn environment(objects: &Objects, name: &str) -> String {
    let pod = pod(objects);
    let env = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let found = env
        .iter()
        .find(|variable| variable["name"] == name)
        .unwrap();
    found["value"].as_str().unwrap().to_owned()
}

#[test]
fn founders_are_as_many_as_replicas_and_the_same_for_every_size() {
    let three = objects(json!({})).unwrap();
    let seven = objects(json!({"nodes": 7})).unwrap();
    assert_eq!(
        environment(&three, "LOCKSTEP_INITIAL_NODES"),
        "demo-0.demo-peers.apps.svc:7401,demo-1.demo-peers.apps.svc:7401,demo-2.demo-peers.apps.svc:7401"
    );
    assert_eq!(pod(&three), pod(&seven), "scaling restarts nobody");
}

/// What the restricted Pod Security Standard asks for.
#[test]
fn pods_are_restricted() {
    let pod = pod(&objects(json!({})).unwrap());
    let spec = &pod["spec"];
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        spec["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    assert_eq!(spec["automountServiceAccountToken"], false);
    let container = &spec["containers"][0]["securityContext"];
    assert_eq!(container["allowPrivilegeEscalation"], false);
    assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
    assert_eq!(container["readOnlyRootFilesystem"], true);
}

#[test]
fn everything_is_owned_and_labelled() {
    let Objects {
        service_account,
        peers,
        clients,
        budget,
        network_policy,
        pod_monitor,
        stateful_set,
    } = build(
        &valid(json!({"monitoring": {"podMonitor": true}})),
        &plan(3),
        Served {
            pod_monitor: true,
            ..Served::default()
        },
        1,
        "default/lockstep-operator",
    )
    .unwrap();
    let all = [
        serde_json::to_value(service_account),
        serde_json::to_value(peers),
        serde_json::to_value(clients),
        serde_json::to_value(budget),
        serde_json::to_value(network_policy.unwrap()),
        serde_json::to_value(pod_monitor.unwrap()),
        serde_json::to_value(stateful_set),
    ];
    for object in all {
        let object = object.unwrap();
        assert_eq!(
            object["metadata"]["ownerReferences"][0]["uid"], "u-1",
            "{object}"
        );
        assert_eq!(
            object["metadata"]["labels"]["app.kubernetes.io/instance"], "demo",
            "{object}"
        );
        assert_eq!(object["metadata"]["namespace"], "apps", "{object}");
    }
}

#[test]
fn an_overlay_merges_by_name() {
    let spec = json!({"podTemplate": {
        "metadata": {"annotations": {"team": "x"}},
        "spec": {
            "priorityClassName": "high",
            "containers": [
                {"name": "lockstep", "env": [{"name": "LOCKSTEP_LOG", "value": "debug"}, {"name": "EXTRA", "value": "1"}]},
                {"name": "side", "image": "side:1"},
            ],
        },
    }});
    let made = objects(spec).unwrap();
    assert_eq!(environment(&made, "LOCKSTEP_LOG"), "debug");
    assert_eq!(environment(&made, "EXTRA"), "1");
    assert_eq!(environment(&made, "LOCKSTEP_SHARDS"), "8");
    let pod = pod(&made);
    assert_eq!(pod["metadata"]["annotations"]["team"], "x");
    assert_eq!(pod["spec"]["priorityClassName"], "high");
    assert_eq!(pod["spec"]["containers"][1]["name"], "side");
}

#[test]
fn an_overlay_may_not_hide_pods_from_the_operator() {
    for patch in [
        json!({"metadata": {"labels": {"app.kubernetes.io/instance": "other"}}}),
        json!({"spec": {"containers": [{"name": "lockstep", "ports": [{"name": "client", "containerPort": 1}]}]}}),
        json!({"spec": {"containers": [{"name": "lockstep", "env": [{"name": "LOCKSTEP_DATA_DIR", "value": "/tmp"}]}]}}),
        json!({"spec": {"containers": [{"name": "lockstep", "env": [{"name": "LOCKSTEP_PEER_ADVERTISE", "value": "x:1"}]}]}}),
        json!({"spec": {"containers": [{"name": "lockstep", "volumeMounts": [
            {"name": "scratch", "mountPath": "/var/lib/lockstep"},
        ]}]}}),
        json!({"spec": {"containers": [{"name": "lockstep", "volumeMounts": null}]}}),
        json!({"spec": {"volumes": [{"name": "data", "emptyDir": {}}]}}),
    ] {
        let refused = objects(json!({"podTemplate": patch}));
        assert!(
            matches!(refused, Err(BuildError::Essential(_))),
            "{refused:?}"
        );
    }
    let refused = objects(json!({"podTemplate": {"spec": {"containers": 3}}}));
    assert!(
        matches!(refused, Err(BuildError::Overlay(_))),
        "{refused:?}"
    );
}

#[test]
fn an_overlay_may_mount_the_data_once_more_but_not_elsewhere() {
    let spec = json!({"podTemplate": {"spec": {"containers": [
        {"name": "lockstep", "volumeMounts": [{"name": "data", "mountPath": "/backup", "readOnly": true}]},
    ]}}});
    let made = objects(spec).unwrap();
    let mounts = &pod(&made)["spec"]["containers"][0]["volumeMounts"];
    let places: Vec<&str> = mounts
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["mountPath"].as_str().unwrap())
        .collect();
    assert_eq!(places, ["/var/lib/lockstep", "/backup"]);
}

#[test]
fn a_misspelt_field_of_an_overlay_is_named() {
    for (patch, expected) in [
        (
            json!({"spec": {"priorityClass": "high"}}),
            ".spec.priorityClass",
        ),
        (
            json!({"spec": {"containers": [{"name": "lockstep", "envs": []}]}}),
            ".spec.containers[0].envs",
        ),
        (json!({"labels": {"team": "x"}}), ".labels"),
    ] {
        let refused = objects(json!({"podTemplate": patch}));
        let Err(BuildError::Unknown(path)) = refused else {
            panic!("{expected}: {refused:?}");
        };
        assert_eq!(path, expected);
    }
}

#[test]
fn a_platform_that_assigns_users_is_left_to_it() {
    let served = Served {
        assigns_users: true,
        ..Served::default()
    };
    let made = build(
        &valid(json!({})),
        &plan(3),
        served,
        1,
        "default/lockstep-operator",
    )
    .unwrap();
    let context = &pod(&made)["spec"]["securityContext"];
    for field in ["runAsUser", "runAsGroup", "fsGroup"] {
        assert_eq!(context[field], Value::Null, "{field}");
    }
    assert_eq!(context["runAsNonRoot"], true);
}

#[test]
fn nodes_listen_to_both_families_where_ipv6_comes_first() {
    for (is_ipv6, any) in [(false, "0.0.0.0"), (true, "[::]")] {
        let served = Served {
            is_ipv6,
            ..Served::default()
        };
        let objects = build(
            &valid(json!({})),
            &plan(3),
            served,
            1,
            "default/lockstep-operator",
        )
        .unwrap();
        for (name, port) in [("CLIENT", 7400), ("PEER", 7401), ("HTTP", 7402)] {
            let listen = environment(&objects, &format!("LOCKSTEP_{name}_LISTEN"));
            assert_eq!(listen, format!("{any}:{port}"));
            listen.parse::<std::net::SocketAddr>().unwrap();
        }
    }
}
