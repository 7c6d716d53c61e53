//! When clusters are reconciled: whenever something changes that belongs to them.
//!
//! Invariant: a cluster is reconciled by one task at a time, and a failing one waits longer and longer,
//! up to a bound, while the others go on: also if it cannot even be read, because its definition is of
//! another version than the operator.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, future::join_all, stream};
use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod, Service, ServiceAccount},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, ResourceExt as _,
    core::DeserializeGuard,
    runtime::{
        Controller,
        controller::{self, Action as Requeue, Config},
        reflector::ObjectRef,
        watcher,
    },
};
use tokio::sync::{broadcast, mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{
        self, ReconcileError,
        build::{INSTANCE_LABEL, MANAGED_BY_LABEL, MANAGER},
    },
    context::Context,
    crd::v1alpha1::SyncCluster,
    health::Health,
};

/// A cluster, or that it cannot be read.
type Guarded = DeserializeGuard<SyncCluster>;

/// What claims of all clusters have in common.
const NODES: &str = "app.kubernetes.io/name=lockstep,app.kubernetes.io/component=node";
/// Clusters that are reconciled at the same time: mostly they wait for answers, those of a silent one for
/// seconds, so that many such leave room for the others.
const CONCURRENCY: u16 = 32;
/// How long a reconcile may take: leads that are handed over slowly, and then some. It may end anywhere, and
/// a connection that hangs must not keep a cluster from being kept.
const LONGEST: Duration = Duration::from_secs(120);
/// Changes that come in a burst are looked at once.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// How long a failing cluster waits at first; doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long it waits at most.
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Changes that members reported and that a namespace's controller has not taken up yet.
const CHANGES: usize = 256;

/// Reconciles the clusters of these namespaces (none named: of all) until cancelled, and returns when
/// the reconciles under way have ended.
pub async fn run(
    context: Arc<Context>,
    health: Arc<Health>,
    namespaces: &[String],
    mut changes: mpsc::Receiver<ObjectRef<SyncCluster>>,
    stop: CancellationToken,
) {
    let (spread, _) = broadcast::channel(CHANGES);
    let distribute = async {
        while let Some(cluster) = changes.recv().await {
            // Fails only while nobody listens yet.
            let _ = spread.send(cluster);
        }
    };
    let scopes: Vec<Option<String>> = if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().cloned().map(Some).collect()
    };
    let controllers = scopes.into_iter().map(|scope| {
        control(
            Arc::clone(&context),
            Arc::clone(&health),
            scope,
            spread.subscribe(),
            stop.clone(),
        )
    });
    tokio::select! {
        () = async { join_all(controllers).await; } => {}
        () = distribute => {}
    }
}

fn api<K>(client: &Client, scope: Option<&str>) -> Api<K>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match scope {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn control(
    context: Arc<Context>,
    health: Arc<Health>,
    scope: Option<String>,
    changes: broadcast::Receiver<ObjectRef<SyncCluster>>,
    stop: CancellationToken,
) {
    let client = &context.client;
    let scope = scope.as_deref();
    let ours = watcher::Config::default().labels(&format!("{MANAGED_BY_LABEL}={MANAGER}"));
    // StatefulSets make claims with the labels that select pods.
    let nodes = watcher::Config::default().labels(NODES);
    let here = scope.map(str::to_owned);
    let changes = stream::unfold(changes, |mut changes| async {
        loop {
            match changes.recv().await {
                Ok(cluster) => return Some((cluster, changes)),
                // What was missed is found again by the sentinel.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    });
    let changes = changes.filter(move |cluster| {
        let is_here = here.is_none() || cluster.namespace == here;
        async move { is_here }
    });
    let changes = changes.map(|cluster| guarded(&cluster));
    Controller::new(api::<Guarded>(client, scope), watcher::Config::default())
        .with_config(
            Config::default()
                .concurrency(CONCURRENCY)
                .debounce(DEBOUNCE),
        )
        .owns(api::<StatefulSet>(client, scope), ours.clone())
        .owns(api::<Service>(client, scope), ours.clone())
        .owns(api::<ServiceAccount>(client, scope), ours.clone())
        .owns(api::<NetworkPolicy>(client, scope), ours.clone())
        .watches(api::<PersistentVolumeClaim>(client, scope), nodes, instance)
        .watches(api::<Pod>(client, scope), ours, instance)
        .reconcile_on(changes)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(reconcile, again, Arc::clone(&context))
        .for_each(|result| {
            // What a reconcile says is known already.
            if let Err(controller::Error::QueueError(error)) = result {
                tracing::warn!(%error, "a watch failed, and is begun anew");
                health.watch_failed(error.to_string());
            }
            async {}
        })
        .await;
}

/// The cluster that an object belongs to, by its label.
fn instance<K: kube::Resource>(object: K) -> Option<ObjectRef<Guarded>> {
    let name = object.labels().get(INSTANCE_LABEL)?;
    Some(ObjectRef::new(name).within(&object.namespace()?))
}

fn guarded(cluster: &ObjectRef<SyncCluster>) -> ObjectRef<Guarded> {
    ObjectRef::new(&cluster.name).within(cluster.namespace.as_deref().unwrap_or_default())
}

fn named(cluster: &Guarded) -> ObjectRef<SyncCluster> {
    ObjectRef::new(&cluster.name_any()).within(&cluster.namespace().unwrap_or_default())
}

async fn reconcile(
    cluster: Arc<Guarded>,
    context: Arc<Context>,
) -> Result<Requeue, ReconcileError> {
    let began = Instant::now();
    let result = match &cluster.0 {
        Ok(read) => {
            let read = Arc::new(read.clone());
            let reconciled = Box::pin(cluster::reconcile(read, Arc::clone(&context)));
            tokio::time::timeout(LONGEST, reconciled).await
        }
        Err(unread) => {
            let reported = Box::pin(cluster::report_unreadable(unread, &context));
            tokio::time::timeout(LONGEST, reported).await
        }
    };
    let result = result.unwrap_or_else(|_| {
        let why = format!("not done within {} s", LONGEST.as_secs());
        Err(ReconcileError::Failed(why))
    });
    let outcome = match &result {
        Ok(_) => {
            context.succeeded(&named(&cluster));
            "ok"
        }
        Err(error) => error.category(),
    };
    context.metrics.reconciled(outcome, began.elapsed());
    result
}

fn again(cluster: Arc<Guarded>, error: &ReconcileError, context: Arc<Context>) -> Requeue {
    let failures = context.failed(named(&cluster));
    tracing::warn!(cluster = %cluster.name_any(), namespace = ?cluster.namespace(), failures, %error, "a reconcile failed");
    let factor = 2_u32.saturating_pow(failures.saturating_sub(1).min(10));
    Requeue::requeue(FIRST_RETRY.saturating_mul(factor).min(LAST_RETRY))
}
