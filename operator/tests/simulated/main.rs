//! The operator against an API server and members that are simulated in this process, so that every request
//! can be counted, answered, or refused. The world says if something is asked for that would harm.

#![cfg(test)]

mod api;
mod foreign;
mod killed;
mod member;
mod objects;
mod random;
mod states;
mod world;

use std::sync::Arc;

use kube::{
    Client,
    runtime::{
        events::{Recorder, Reporter},
        reflector::ObjectRef,
    },
};
use lockstep_operator::{
    cluster, context::Context, crd::v1alpha1::SyncCluster, sentinel::Sentinel,
};

use world::Shared;

/// Reconciles in which every kind of change ends, with a margin: none takes a third of it.
const ROUNDS: u32 = 120;
/// Reconciles in a row that change nothing, after which nothing more is expected.
const QUIET: u32 = 3;

/// A new operator, which knows nothing.
pub(crate) fn operator(client: &Client, world: &Shared) -> Arc<Context> {
    let reporter = Reporter {
        controller: "lockstep-operator".to_owned(),
        instance: None,
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let (sentinel, _) = Sentinel::new();
    let served = cluster::build::Served {
        pod_monitor: true,
        ..cluster::build::Served::default()
    };
    let mut context = Context::new(
        client.clone(),
        recorder,
        "lockstep-node:1".to_owned(),
        "default/lockstep-operator".to_owned(),
        sentinel,
        served,
    );
    let world = Arc::clone(world);
    context.memory = cluster::Memory::with_clock(move || world.lock().now());
    Arc::new(context)
}

/// Lets time pass and operators reconcile until nothing changes any more.
pub(crate) async fn settle(world: &Shared, client: &Client, what: &str) {
    let mut context = operator(client, world);
    let mut quiet = 0;
    for _ in 0..ROUNDS {
        let (cluster, before, killed): (SyncCluster, _, _) = {
            let mut world = world.lock();
            world.tick();
            let cluster = serde_json::from_value(world.cluster()).unwrap();
            (cluster, world.moves(), world.killed())
        };
        tokio::select! {
            biased;
            () = killed.notified() => context = operator(client, world),
            ended = Box::pin(cluster::reconcile(Arc::new(cluster), Arc::clone(&context))) => {
                // One that fails is tried again.
                drop(ended);
            }
        }
        let world = world.lock();
        assert_eq!(world.harm(), [] as [String; 0], "{what}");
        quiet = if world.moves() == before {
            quiet + 1
        } else {
            0
        };
        if quiet == QUIET {
            return;
        }
    }
    panic!("{what}: no end: {:#}", world.lock().picture());
}

/// Lets an operator reconcile so many times, each of which fails.
pub(crate) async fn fail(world: &Shared, client: &Client, rounds: u32) {
    let context = operator(client, world);
    for _ in 0..rounds {
        let cluster: SyncCluster = {
            let mut world = world.lock();
            world.tick();
            serde_json::from_value(world.cluster()).unwrap()
        };
        let this = ObjectRef::from_obj(&cluster);
        let ended = Box::pin(cluster::reconcile(Arc::new(cluster), Arc::clone(&context))).await;
        assert!(ended.is_err());
        context.failed(this);
    }
}
