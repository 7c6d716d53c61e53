//! Reads everything that a decision depends on.
//!
//! Invariant: all of it is read from the API server and from the members at the time, and nothing from
//! a cache, because volumes are deleted by it. Pods are read before volumes, so that every pod that is
//! seen has had its volume asked for.

mod pods;

use std::collections::BTreeMap;

use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        core::v1::{PersistentVolumeClaim, Pod as KubePod, Service, ServiceAccount},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, ResourceExt as _, api::ListParams, core::PartialObjectMeta,
    runtime::reflector::ObjectRef,
};

use super::{
    build::{
        CLUSTER_ID_ANNOTATION, INSTANCE_LABEL, LEAVING_ANNOTATION, MANAGED_BY_LABEL, MANAGER,
        NODE_ID_ANNOTATION, OPERATOR_ANNOTATION, REPLICAS_ANNOTATION,
        REPLICATION_FACTOR_ANNOTATION, SHARDS_ANNOTATION, SPEC_ANNOTATION, VOLUME, peers_name,
        selector,
    },
    identity::{ClusterId, Electorate},
    memory::Memory,
    observed::{Claim, Observed, Ordinal, Set},
    validate::{Founded, FoundedStorage, bytes},
};
use crate::{
    crd::v1alpha1::{MAX_NODES, SyncCluster, SyncClusterSpec},
    members::{self, Door},
};
use pods::Sight;

/// Everything that was read.
#[derive(Debug)]
pub struct Dereferenced {
    /// As plain data.
    pub observed: Observed,
    /// What is for ever, if the cluster was made.
    pub founded: Option<Founded>,
    /// The StatefulSet's unique id, if there is one.
    pub set_uid: Option<String>,
    /// The version of the SyncCluster whose annotations were read.
    pub cluster_version: String,
    /// Where nodes may be asked, the ready ones first.
    pub doors: Vec<Door>,
    /// Where members of this cluster have answered.
    pub addresses: Vec<String>,
    /// Whose volumes are deleted with the cluster.
    pub owned_claims: Vec<u32>,
    /// Whose volumes lack the cluster's labels.
    pub unlabelled_claims: Vec<u32>,
    /// Which operators keep the cluster, if any do.
    pub keeper: Option<String>,
    /// The last spec that was valid, as it was noted at the StatefulSet.
    pub last_spec: Option<SyncClusterSpec>,
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
    /// The SyncCluster is gone, or another one has its name.
    #[error("the SyncCluster is gone")]
    Gone,
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
    memory: &Memory,
) -> Result<Dereferenced, DereferenceError> {
    let name = cluster.name_any();
    let namespace = cluster.namespace().unwrap_or_default();
    let uid = cluster.metadata.uid.clone().unwrap_or_default();
    let live = live(client, &namespace, &name, &uid).await?;
    let set = own_set(client, &namespace, &name, &uid).await?;
    let set = set.as_ref();
    let (pods, volumes) = belongings(client, &namespace, cluster, set).await?;
    let doors = doors(&pods, &name);
    let pinned = annotated(&live, CLUSTER_ID_ANNOTATION);
    let pinned = pinned.and_then(|id: String| ClusterId::parse(&id));
    let answers = members::ask(&doors, pinned.as_ref()).await;
    let heard = members::hear(answers, &name, pinned.as_ref(), electorate(cluster, set));
    let by_ordinal = pods
        .iter()
        .filter_map(|pod| Some((members::ordinal(&pod.name_any(), &name)?, pod)));
    let by_ordinal: BTreeMap<Ordinal, &KubePod> = by_ordinal.collect();
    let sight = Sight {
        client,
        cluster: &ObjectRef::from_obj(cluster),
        memory,
    };
    let mut observed_pods = sight.pods(&by_ordinal, &volumes).await;
    let uncreated = sight.uncreated(set, &mut observed_pods).await;
    let ordinals = |which: &dyn Fn(&PersistentVolumeClaim) -> bool| {
        let which = volumes.iter().filter(|(_, claim)| which(claim));
        which.map(|(ordinal, _)| *ordinal).collect()
    };
    Ok(Dereferenced {
        founded: set.map(founded).or_else(|| {
            let mut volumes = volumes.values().map(founded_on);
            volumes.find(|founded| founded.shards.is_some())
        }),
        set_uid: set.and_then(|set| set.metadata.uid.clone()),
        owned_claims: ordinals(&|claim| is_owned(claim, &uid)),
        unlabelled_claims: ordinals(&|claim| !is_labelled(claim, &name)),
        keeper: set.and_then(|set| annotated(set, OPERATOR_ANNOTATION)),
        last_spec: set.and_then(last_spec),
        observed: Observed {
            set: set.map(observe_set),
            pods: observed_pods,
            uncreated,
            claims: volumes
                .iter()
                .map(|(ordinal, claim)| (*ordinal, observe_claim(claim)))
                .collect(),
            refused_growth: memory.refused_growth(sight.cluster),
            identity: heard.identity,
            strangers: heard.strangers,
            members: heard.members,
        },
        cluster_version: live.metadata.resource_version.unwrap_or_default(),
        doors,
        addresses: heard.addresses,
    })
}

/// What the API server says of the SyncCluster itself, now: which cluster is believed depends on it.
async fn live(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<PartialObjectMeta<SyncCluster>, DereferenceError> {
    let clusters: Api<SyncCluster> = Api::namespaced(client.clone(), namespace);
    let live = clusters.get_metadata_opt(name).await;
    let live = live.map_err(unreadable("the SyncCluster"))?;
    live.filter(|live| {
        live.metadata.uid.as_deref() == Some(uid) && live.metadata.deletion_timestamp.is_none()
    })
    .ok_or(DereferenceError::Gone)
}

/// The StatefulSet, if there is one; where there is none, that nothing is in its way.
async fn own_set(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<Option<StatefulSet>, DereferenceError> {
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), namespace);
    let set = sets.get_opt(name).await;
    let set = set.map_err(unreadable("the StatefulSet"))?;
    match &set {
        Some(set) if !is_ours(&set.metadata, name, uid) => Err(DereferenceError::Foreign {
            kind: "StatefulSet",
            name: name.to_owned(),
        }),
        Some(_) => Ok(set),
        None => {
            refuse_foreign(client, namespace, name, uid).await?;
            Ok(None)
        }
    }
}

/// Those whose answers say which cluster it is.
fn electorate(cluster: &SyncCluster, set: Option<&StatefulSet>) -> Electorate {
    let observed = set.map(observe_set);
    let founded = set.and_then(|set| founded(set).replication_factor);
    Electorate {
        pods: observed.map_or(cluster.spec.nodes, |set| {
            set.recorded.unwrap_or(set.replicas)
        }),
        founders: founded.unwrap_or(cluster.spec.replication_factor),
    }
}

/// The pods and the volume claims, in this order.
async fn belongings(
    client: &Client,
    namespace: &str,
    cluster: &SyncCluster,
    set: Option<&StatefulSet>,
) -> Result<(Vec<KubePod>, BTreeMap<Ordinal, PersistentVolumeClaim>), DereferenceError> {
    let name = cluster.name_any();
    let labels: Vec<String> = selector(&name)
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let mine = ListParams::default().labels(&labels.join(","));
    let pods: Api<KubePod> = Api::namespaced(client.clone(), namespace);
    let pods = pods.list(&mine).await.map_err(unreadable("the pods"))?;
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let unread = unreadable("the volume claims");
    let found = claims.list(&mine).await.map_err(&unread)?;
    let prefix = format!("{VOLUME}-{name}");
    let mut volumes: BTreeMap<Ordinal, PersistentVolumeClaim> = found
        .items
        .into_iter()
        .filter_map(|claim| Some((members::ordinal(&claim.name_any(), &prefix)?, claim)))
        .collect();
    // One that was restored from a snapshot may have no labels; the pod of its name takes it all the same.
    let expected = set.map_or(cluster.spec.nodes, |set| observe_set(set).replicas);
    for ordinal in 0..MAX_NODES {
        if volumes.contains_key(&ordinal) {
            continue;
        }
        let is_beyond = ordinal >= expected;
        if is_beyond && set.is_some() {
            break;
        }
        let claim = claims.get_opt(&format!("{prefix}-{ordinal}")).await;
        match claim.map_err(&unread)? {
            Some(claim) => {
                volumes.insert(ordinal, claim);
            }
            None if is_beyond => break,
            None => {}
        }
    }
    Ok((pods.items, volumes))
}

fn is_labelled(object: &impl kube::ResourceExt, cluster: &str) -> bool {
    let labels = object.labels();
    let mut wanted = selector(cluster).into_iter();
    wanted.all(|(key, value)| labels.get(&key) == Some(&value))
}

fn last_spec(set: &StatefulSet) -> Option<SyncClusterSpec> {
    serde_json::from_str(set.annotations().get(SPEC_ANNOTATION)?).ok()
}

/// What a cluster's pods cannot do without has to be its own before the first of them is made.
async fn refuse_foreign(
    client: &Client,
    namespace: &str,
    cluster: &str,
    uid: &str,
) -> Result<(), DereferenceError> {
    let peers = peers_name(cluster);
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let found = [
        ("Service", cluster, services.get_metadata_opt(cluster).await),
        ("Service", &peers, services.get_metadata_opt(&peers).await),
    ];
    for (kind, name, found) in found {
        refuse(kind, name, cluster, uid, found)?;
    }
    let account = accounts.get_metadata_opt(cluster).await;
    refuse("ServiceAccount", cluster, cluster, uid, account)
}

fn refuse<K>(
    kind: &'static str,
    name: &str,
    cluster: &str,
    uid: &str,
    found: kube::Result<Option<PartialObjectMeta<K>>>,
) -> Result<(), DereferenceError> {
    match found.map_err(unreadable("the objects of the cluster's name"))? {
        Some(found) if !is_ours(&found.metadata, cluster, uid) => Err(DereferenceError::Foreign {
            kind,
            name: name.to_owned(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// True if the cluster is the object's controller: being one of several owners is not enough, for those who are
/// not the controller leave it alone. Or if nobody is, and it has our labels: so it is left by a deletion of
/// the SyncCluster that orphans what belongs to it.
pub(super) fn is_ours(object: &ObjectMeta, cluster: &str, uid: &str) -> bool {
    let owners = object.owner_references.iter().flatten();
    let mut controllers = owners.filter(|owner| owner.controller == Some(true));
    if let Some(owner) = controllers.next() {
        return owner.uid == uid;
    }
    let labelled = |key: &str, value: &str| {
        let labels = object.labels.as_ref();
        labels
            .and_then(|labels| labels.get(key))
            .map(String::as_str)
            == Some(value)
    };
    labelled(MANAGED_BY_LABEL, MANAGER) && labelled(INSTANCE_LABEL, cluster)
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
        storage: Some(FoundedStorage {
            class: template.and_then(|template| template.spec.as_ref()?.storage_class_name.clone()),
            bytes: template.map_or(0, requested),
        }),
    }
}

/// What is for ever of a cluster whose volumes alone are left. Their class may be the default one's name, and
/// one of them may be larger than the others.
fn founded_on(volume: &PersistentVolumeClaim) -> Founded {
    Founded {
        shards: annotated(volume, SHARDS_ANNOTATION),
        replication_factor: annotated(volume, REPLICATION_FACTOR_ANNOTATION),
        storage: None,
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

/// Where pods that run may be asked, the ready ones first.
fn doors(pods: &[KubePod], cluster: &str) -> Vec<Door> {
    let mut found: Vec<(bool, Ordinal, String)> = pods
        .iter()
        .filter_map(|pod| {
            let ordinal = members::ordinal(&pod.name_any(), cluster)?;
            let status = pod.status.as_ref()?;
            let is_ready = status
                .conditions
                .iter()
                .flatten()
                .any(|condition| condition.type_ == "Ready" && condition.status == "True");
            Some((!is_ready, ordinal, status.pod_ip.clone()?))
        })
        .collect();
    found.sort();
    let doors = found.into_iter();
    doors
        .map(|(_, ordinal, address)| Door { ordinal, address })
        .collect()
}

#[cfg(test)]
mod tests;
