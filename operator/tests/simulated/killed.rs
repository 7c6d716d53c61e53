//! The operator is killed at every request of each kind of reconcile, and another one brings the cluster to
//! the same end.
//!
//! What changes nothing leaves the world as it was after the change before, so the operator is killed once
//! after each request that changes something, before it hears the answer. The world says if something is
//! asked for that would harm.

use std::{collections::BTreeSet, net::Ipv4Addr, sync::Arc};

use kube::Client;
use lockstep_operator::{cluster, crd::v1alpha1::SyncCluster};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::{
    api,
    member::serve,
    operator, settle,
    world::{Shared, World},
};

/// What a user or a machine does.
#[derive(Clone, Copy, Debug)]
enum Cause {
    Create,
    ScaleUp,
    ScaleDown,
    ScaleDownTakenBack,
    Roll,
    BadTemplateTakenBack,
    GrowVolumes,
    MachineLost,
    VolumeLost,
    Stop,
    Start,
}

impl Cause {
    /// The world in which it happens.
    fn before(self) -> Value {
        match self {
            Self::ScaleDown | Self::ScaleDownTakenBack => json!({"nodes": 4}),
            Self::Start => json!({"state": "Stopped"}),
            Self::Create
            | Self::ScaleUp
            | Self::Roll
            | Self::BadTemplateTakenBack
            | Self::GrowVolumes
            | Self::MachineLost
            | Self::VolumeLost
            | Self::Stop => json!({}),
        }
    }

    fn happen(self, world: &mut World) {
        match self {
            Self::Create => {}
            Self::ScaleUp => world.patch_spec(&json!({"nodes": 4})),
            Self::ScaleDown | Self::ScaleDownTakenBack => world.patch_spec(&json!({"nodes": 3})),
            Self::Roll => world.patch_spec(&json!({"log": {"filter": "debug"}})),
            Self::BadTemplateTakenBack => world.patch_spec(&json!({"image": "bad"})),
            Self::GrowVolumes => world.patch_spec(&json!({"storage": {"size": "20Gi"}})),
            Self::MachineLost => world.lose_machine(1),
            Self::VolumeLost => world.lose_volume(2),
            Self::Stop => world.patch_spec(&json!({"state": "Stopped"})),
            Self::Start => world.patch_spec(&json!({"state": "Running"})),
        }
    }

    /// What the user does a few reconciles later.
    fn regret(self, world: &mut World) {
        match self {
            Self::ScaleDownTakenBack => world.patch_spec(&json!({"nodes": 4})),
            Self::BadTemplateTakenBack => world.patch_spec(&json!({"image": null})),
            Self::Create
            | Self::ScaleUp
            | Self::ScaleDown
            | Self::Roll
            | Self::GrowVolumes
            | Self::MachineLost
            | Self::VolumeLost
            | Self::Stop
            | Self::Start => {}
        }
    }
}

/// Where two values differ, and how.
fn differences(expected: &Value, found: &Value, path: &str) -> Vec<String> {
    let names = |value: &Value| -> BTreeSet<String> {
        let fields = value
            .as_object()
            .map(|fields| fields.keys().cloned().collect());
        let items = value
            .as_array()
            .map(|items| (0..items.len()).map(|at| at.to_string()).collect());
        fields.or(items).unwrap_or_default()
    };
    let all: BTreeSet<String> = names(expected).union(&names(found)).cloned().collect();
    if all.is_empty() && expected != found {
        return vec![format!("{path}: {found} and not {expected}")];
    }
    let inner = |value: &Value, name: &str| -> Value {
        let by_place = name.parse::<usize>().ok().and_then(|at| value.get(at));
        value.get(name).or(by_place).cloned().unwrap_or_default()
    };
    all.iter()
        .flat_map(|name| {
            differences(
                &inner(expected, name),
                &inner(found, name),
                &format!("{path}/{name}"),
            )
        })
        .collect()
}

/// Has it happen and the operator killed after a change; returns how it ended, and how many changes there
/// were.
async fn history(cause: Cause, network: Ipv4Addr, kill: Option<u32>) -> (Value, u32) {
    let world: Shared = Arc::new(Mutex::new(World::new(network, cause.before())));
    let client = Client::new(api::service(Arc::clone(&world)), "default");
    let members = serve(Arc::clone(&world), network).await;
    let what = format!("{cause:?}, killed after change {kill:?}");
    if !matches!(cause, Cause::Create) {
        settle(&world, &client, &what).await;
    }
    {
        let mut world = world.lock();
        world.kill_after(kill);
        cause.happen(&mut world);
    }
    if matches!(
        cause,
        Cause::ScaleDownTakenBack | Cause::BadTemplateTakenBack
    ) {
        let context = operator(&client, &world);
        for _ in 0..2 {
            let (cluster, killed): (SyncCluster, _) = {
                let mut world = world.lock();
                world.tick();
                (
                    serde_json::from_value(world.cluster()).unwrap(),
                    world.killed(),
                )
            };
            tokio::select! {
                biased;
                () = killed.notified() => {}
                _ = Box::pin(cluster::reconcile(Arc::new(cluster), Arc::clone(&context))) => {}
            }
        }
        cause.regret(&mut world.lock());
    }
    settle(&world, &client, &what).await;
    members.abort();
    // So that its network is free again.
    let _ = members.await;
    let world = world.lock();
    (world.picture(), world.changes())
}

async fn killed_at_every_change(cause: Cause) {
    // Each cause has its pods in a network of its own, because causes are tested at the same time.
    let network = Ipv4Addr::new(127, 60, cause as u8, 0);
    let (expected, changes) = history(cause, network, None).await;
    assert!(changes > 1, "{cause:?} changes nothing: {expected:#}");
    for kill in 1..=changes {
        let (ended, _) = history(cause, network, Some(kill)).await;
        let differs = differences(&expected, &ended, "");
        assert_eq!(
            differs,
            [] as [String; 0],
            "{cause:?}, killed after change {kill}"
        );
    }
    println!("{cause:?}: killed after each of {changes} changes");
}

macro_rules! kinds {
    ($($name:ident: $cause:ident,)*) => {$(
        #[tokio::test]
        async fn $name() {
            killed_at_every_change(Cause::$cause).await;
        }
    )*};
}

kinds! {
    a_cluster_is_created: Create,
    a_cluster_is_scaled_up: ScaleUp,
    a_cluster_is_scaled_down: ScaleDown,
    a_scale_down_is_taken_back: ScaleDownTakenBack,
    a_cluster_is_rolled: Roll,
    a_bad_template_is_taken_back: BadTemplateTakenBack,
    volumes_grow: GrowVolumes,
    a_machine_is_lost: MachineLost,
    a_volume_is_lost: VolumeLost,
    a_cluster_is_stopped: Stop,
    a_cluster_is_started: Start,
}
