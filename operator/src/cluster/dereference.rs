//! Reads everything that a decision depends on.
//!
//! Invariant: all of it is read from the API server and from the members at the time, and nothing from
//! a cache, because volumes are deleted by it. Pods are read before volumes, so that every pod that is
//! seen has had its volume asked for.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod as KubePod, PodStatus, Service, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt as _, api::ListParams, core::PartialObjectMeta,
    runtime::reflector::ObjectRef,
};

use super::{
    absences::Absences,
    build::{
        CONTAINER, LEAVING_ANNOTATION, NODE_ID_ANNOTATION, REPLICAS_ANNOTATION,
        REPLICATION_FACTOR_ANNOTATION, SHARDS_ANNOTATION, VOLUME, peers_name, selector,
    },
    machines,
    observed::{Claim, Observed, Pod, PodPhase, Set},
    validate::{Founded, bytes},
};
use crate::{crd::v1alpha1::SyncCluster, members};

/// Why a container waits that will not start by waiting.
const STUCK: [&str; 9] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ErrImagePull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "RunContainerError",
];

/// Everything that was read.
#[derive(Debug)]
pub struct Dereferenced {
    /// As plain data.
    pub observed: Observed,
    /// What is for ever, if the cluster was made.
    pub founded: Option<Founded>,
    /// The StatefulSet's unique id, if there is one.
    pub set_uid: Option<String>,
    /// Where members may be asked, the ready ones first.
    pub addresses: Vec<String>,
    /// Whose volumes are deleted with the cluster.
    pub owned_claims: Vec<u32>,
}

/// Why not everything could be read.
#[derive(Debug, thiserror::Error)]
pub enum DereferenceError {
    /// The API server did not answer as it should.
    #[error("cannot read {what}: {source}")]
    Unreadable {
        /// What was asked for.
        what: &'static str,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// There is an object of that name that is not this cluster's.
    #[error(
        "there is a {kind} {name} already that does not belong to this SyncCluster: delete it, or create the cluster under another name"
    )]
    Foreign {
        /// What it is.
        kind: &'static str,
        /// Its name.
        name: String,
    },
}

fn unreadable(what: &'static str) -> impl Fn(kube::Error) -> DereferenceError {
    move |source| DereferenceError::Unreadable {
        what,
        source: Box::new(source),
    }
}

/// Reads everything.
///
/// # Errors
/// If something cannot be read, or a name is taken.
pub async fn dereference(
    client: &Client,
    cluster: &SyncCluster,
    absences: &Absences,
) -> Result<Dereferenced, DereferenceError> {
    let name = cluster.name_any();
    let namespace = cluster.namespace().unwrap_or_default();
    let uid = cluster.metadata.uid.clone().unwrap_or_default();
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let set = sets
        .get_opt(&name)
        .await
        .map_err(unreadable("the StatefulSet"))?;
    match &set {
        Some(set) if !is_controlled(&set.metadata, &uid) => {
            return Err(DereferenceError::Foreign {
                kind: "StatefulSet",
                name,
            });
        }
        Some(_) => {}
        None => refuse_foreign(client, &namespace, &name, &uid).await?,
    }
    let (pods, claims) = belongings(client, &namespace, &name).await?;
    let addresses = addresses(&pods, &name);
    let members = members::ask(&addresses, &name).await;
    let claim_prefix = format!("{VOLUME}-{name}");
    let claim_ordinal =
        |claim: &PersistentVolumeClaim| members::ordinal(&claim.name_any(), &claim_prefix);
    let by_ordinal: BTreeMap<u32, &KubePod> = pods
        .iter()
        .filter_map(|pod| Some((members::ordinal(&pod.name_any(), &name)?, pod)))
        .collect();
    let volumes: BTreeMap<u32, &PersistentVolumeClaim> = claims
        .iter()
        .filter_map(|claim| Some((claim_ordinal(claim)?, claim)))
        .collect();
    let away = machines::away(client, &by_ordinal, &volumes).await;
    let volume_uids = volumes
        .iter()
        .filter_map(|(ordinal, claim)| Some((*ordinal, claim.metadata.uid.clone()?)));
    let away = absences.count(
        &ObjectRef::from_obj(cluster),
        &by_ordinal.keys().copied().collect(),
        &volume_uids.collect(),
        &away,
    );
    Ok(Dereferenced {
        founded: set.as_ref().map(founded),
        set_uid: set.as_ref().and_then(|set| set.metadata.uid.clone()),
        owned_claims: claims
            .iter()
            .filter(|claim| is_owned(*claim, &uid))
            .filter_map(claim_ordinal)
            .collect(),
        observed: Observed {
            set: set.as_ref().map(observe_set),
            pods: observe_pods(&by_ordinal, &away),
            claims: volumes
                .iter()
                .map(|(ordinal, claim)| (*ordinal, observe_claim(claim)))
                .collect(),
            members,
        },
        addresses,
    })
}

/// The pods and the volume claims, in this order.
async fn belongings(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<(Vec<KubePod>, Vec<PersistentVolumeClaim>), DereferenceError> {
    let labels: Vec<String> = selector(name)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mine = ListParams::default().labels(&labels.join(","));
    let pods: Api<KubePod> = Api::namespaced(client.clone(), namespace);
    let pods = pods.list(&mine).await.map_err(unreadable("the pods"))?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claims = claims.list(&mine).await;
    let claims = claims.map_err(unreadable("the volume claims"))?;
    Ok((pods.items, claims.items))
}

/// What a cluster's pods cannot do without has to be its own before the first of them is made.
async fn refuse_foreign(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<(), DereferenceError> {
    let peers = peers_name(name);
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let found = [
        ("Service", name, services.get_metadata_opt(name).await),
        ("Service", &peers, services.get_metadata_opt(&peers).await),
    ];
    for (kind, name, found) in found {
        refuse(kind, name, uid, found)?;
    }
    let account = accounts.get_metadata_opt(name).await;
    refuse("ServiceAccount", name, uid, account)
}

fn refuse<K>(
    kind: &'static str,
    name: &str,
    uid: &str,
    found: kube::Result<Option<PartialObjectMeta<K>>>,
) -> Result<(), DereferenceError> {
    match found.map_err(unreadable("the objects of the cluster's name"))? {
        Some(found) if !is_controlled(&found.metadata, uid) => Err(DereferenceError::Foreign {
            kind,
            name: name.to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// True if the cluster of this unique id is the object's controller. Being one of several owners is not
/// enough: those who are not the controller leave it alone.
pub(super) fn is_controlled(object: &ObjectMeta, uid: &str) -> bool {
    let mut owners = object.owner_references.iter().flatten();
    owners.any(|owner| owner.controller == Some(true) && owner.uid == uid)
}

fn is_owned(object: &impl kube::ResourceExt, uid: &str) -> bool {
    object
        .owner_references()
        .iter()
        .any(|owner| owner.uid == uid)
}

fn annotated<T: std::str::FromStr>(object: &impl kube::ResourceExt, key: &str) -> Option<T> {
    object.annotations().get(key)?.parse().ok()
}

fn storage_template(set: &StatefulSet) -> Option<&PersistentVolumeClaim> {
    set.spec.as_ref()?.volume_claim_templates.as_ref()?.first()
}

/// What a claim asks for, in bytes.
fn requested(claim: &PersistentVolumeClaim) -> u64 {
    let requests = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.resources.as_ref()?.requests.as_ref());
    requests
        .and_then(|requests| bytes(&requests.get("storage")?.0))
        .unwrap_or(0)
}

fn founded(set: &StatefulSet) -> Founded {
    let template = storage_template(set);
    Founded {
        shards: annotated(set, SHARDS_ANNOTATION),
        replication_factor: annotated(set, REPLICATION_FACTOR_ANNOTATION),
        storage_class: template
            .and_then(|template| template.spec.as_ref()?.storage_class_name.clone()),
        storage_bytes: template.map_or(0, requested),
    }
}

fn observe_set(set: &StatefulSet) -> Set {
    let spec = set.spec.as_ref();
    let status = set.status.as_ref();
    Set {
        replicas: spec
            .and_then(|spec| u32::try_from(spec.replicas?).ok())
            .unwrap_or(0),
        recorded: annotated(set, REPLICAS_ANNOTATION),
        revision: status
            .and_then(|status| status.update_revision.clone())
            .unwrap_or_default(),
        is_current: status.is_some_and(|status| {
            status.observed_generation == set.metadata.generation
                && status.update_revision.is_some()
        }),
        storage_bytes: storage_template(set).map_or(0, requested),
        leaving: annotated(set, LEAVING_ANNOTATION),
        is_terminating: set.metadata.deletion_timestamp.is_some(),
    }
}

fn observe_claim(claim: &PersistentVolumeClaim) -> Claim {
    let capacity = claim
        .status
        .as_ref()
        .and_then(|status| bytes(&status.capacity.as_ref()?.get("storage")?.0));
    Claim {
        uid: claim.metadata.uid.clone().unwrap_or_default(),
        requested_bytes: requested(claim),
        capacity_bytes: capacity.unwrap_or(0),
        is_terminating: claim.metadata.deletion_timestamp.is_some(),
        node_id: annotated(claim, NODE_ID_ANNOTATION),
    }
}

fn observe_pods(
    pods: &BTreeMap<u32, &KubePod>,
    away: &BTreeMap<u32, Duration>,
) -> BTreeMap<u32, Pod> {
    let now = Timestamp::now();
    let pods = pods.iter().map(|(ordinal, pod)| {
        let away = away.get(ordinal).copied();
        (*ordinal, observe_pod(pod, away, now))
    });
    pods.collect()
}

fn observe_pod(pod: &KubePod, away: Option<Duration>, now: Timestamp) -> Pod {
    Pod {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        version: pod.metadata.resource_version.clone().unwrap_or_default(),
        revision: pod
            .labels()
            .get("controller-revision-hash")
            .cloned()
            .unwrap_or_default(),
        phase: phase(pod, away.is_some(), now),
        away,
    }
}

fn since(time: Option<&Time>, now: Timestamp) -> Duration {
    time.and_then(|time| Duration::try_from(now.duration_since(time.0)).ok())
        .unwrap_or(Duration::ZERO)
}

/// What a pod does. Of one whose machine is away Kubernetes keeps telling what its containers did last.
fn phase(pod: &KubePod, is_away: bool, now: Timestamp) -> PodPhase {
    if pod.metadata.deletion_timestamp.is_some() {
        return PodPhase::Terminating;
    }
    let created = pod.metadata.creation_timestamp.as_ref();
    let Some(status) = &pod.status else {
        return PodPhase::NotReady;
    };
    let condition = |kind: &str| {
        status
            .conditions
            .iter()
            .flatten()
            .find(|condition| condition.type_ == kind)
    };
    let ready = condition("Ready");
    if ready.is_some_and(|ready| ready.status == "True") {
        return PodPhase::Ready;
    }
    if let Some(scheduled) =
        condition("PodScheduled").filter(|scheduled| scheduled.status == "False")
    {
        let time = since(scheduled.last_transition_time.as_ref().or(created), now);
        return PodPhase::Unschedulable(time, scheduled.message.clone().unwrap_or_default());
    }
    if is_away {
        return PodPhase::NotReady;
    }
    let mut containers = status.container_statuses.iter().flatten();
    if containers.any(|container| container.name == CONTAINER && container.ready) {
        let why = stuck(status);
        return PodPhase::Impaired(
            why.unwrap_or_else(|| "something beside the node is not ready".to_owned()),
        );
    }
    stuck(status).map_or(PodPhase::NotReady, PodPhase::Stuck)
}

/// Why a container does not start.
fn stuck(status: &PodStatus) -> Option<String> {
    let containers = status
        .init_container_statuses
        .iter()
        .chain(&status.container_statuses)
        .flatten();
    containers.into_iter().find_map(|container| {
        let waiting = container.state.as_ref()?.waiting.as_ref()?;
        let reason = waiting
            .reason
            .as_deref()
            .filter(|reason| STUCK.contains(reason))?;
        Some(match &waiting.message {
            Some(message) => format!("{reason}: {message}"),
            None => reason.to_owned(),
        })
    })
}

/// The addresses of pods that run, the ready ones first.
fn addresses(pods: &[KubePod], cluster: &str) -> Vec<String> {
    let mut found: Vec<(bool, String)> = pods
        .iter()
        .filter(|pod| members::ordinal(&pod.name_any(), cluster).is_some())
        .filter_map(|pod| {
            let status = pod.status.as_ref()?;
            let is_ready = status
                .conditions
                .iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True");
            Some((!is_ready, status.pod_ip.clone()?))
        })
        .collect();
    found.sort();
    found.into_iter().map(|(_, address)| address).collect()
}

#[cfg(test)]
mod tests;
