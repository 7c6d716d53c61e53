//! Makes it so: applies every object, and carries out the one action of the plan.
//!
//! Invariants: objects are applied as a whole under the operator's own field manager, the StatefulSet
//! last, so that pods find what they need. Only what the cluster controls is changed or deleted, and it is
//! named by its unique id: an object that merely has the name is left as it is. Everything may be repeated.

mod action;

use k8s_openapi::{
    api::networking::v1::NetworkPolicy, apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, DynamicObject, Patch, PatchParams, Preconditions},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    build::{MANAGER, Objects, Served, VOLUME, pod_monitor_resource, selector},
    dereference::{Dereferenced, is_ours},
    validate::Valid,
};
use crate::crd::v1alpha1::ReclaimPolicy;

pub use action::{ActionError, carry_out};

/// Its own manager for what it says about volumes, which the StatefulSet's controller makes.
const VOLUME_MANAGER: &str = "lockstep-operator-volumes";

/// Why an object is not as it was built.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server, or what it asks, refuses it.
    #[error("cannot apply the {what}: {source}")]
    Refused {
        /// What was refused.
        what: &'static str,
        /// Why.
        source: Box<kube::Error>,
    },
    /// Somebody else's object has its name.
    #[error(
        "there is a {what} {name} that does not belong to this SyncCluster, so it is left as it is: delete or rename it, or switch it off in the spec"
    )]
    Foreign {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
    },
}

impl ApplyError {
    /// A stable name.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "ObjectRefused",
            Self::Foreign { .. } => "ForeignObject",
        }
    }
}

fn refused(what: &'static str) -> impl Fn(kube::Error) -> ApplyError {
    move |source| ApplyError::Refused {
        what,
        source: Box::new(source),
    }
}

/// True if an error says that an object is not there.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Applies every object. Gives what a cluster can be kept without and could not be applied: a webhook
/// that denies a `NetworkPolicy` must not keep a lost node from being replaced.
///
/// # Errors
/// With the first that is needed and not applied: the StatefulSet, and before there is one, what its
/// pods need.
pub async fn apply(
    client: &Client,
    valid: &Valid,
    seen: &Dereferenced,
    objects: Objects,
    served: Served,
) -> Result<Vec<ApplyError>, ApplyError> {
    let Objects {
        service_account,
        peers,
        clients,
        budget,
        network_policy,
        pod_monitor,
        stateful_set,
    } = objects;
    let applier = Applier { client, valid };
    let name = valid.name.as_str();
    let peers_name = peers.metadata.name.as_deref().unwrap_or_default();
    let needed = [
        applier
            .apply("ServiceAccount", name, &service_account)
            .await,
        applier
            .apply("Service of the nodes", peers_name, &peers)
            .await,
        applier.apply("Service for clients", name, &clients).await,
    ];
    let mut missing: Vec<ApplyError> = needed.into_iter().filter_map(Result::err).collect();
    if seen.observed.set.is_none() && !missing.is_empty() {
        return Err(missing.swap_remove(0));
    }
    let budgets = Api::namespaced_with(client.clone(), &valid.namespace, &served.budget.resource());
    let budget = applier
        .apply_to("PodDisruptionBudget", &budgets, name, &budget)
        .await;
    let policies: Api<NetworkPolicy> = Api::namespaced(client.clone(), &valid.namespace);
    let policy = applier
        .keep("NetworkPolicy", &policies, name, network_policy.as_ref())
        .await;
    missing.extend([budget, policy].into_iter().filter_map(Result::err));
    if served.pod_monitor {
        let monitors: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &valid.namespace, &pod_monitor_resource());
        let monitor = applier
            .keep("PodMonitor", &monitors, name, pod_monitor.as_ref())
            .await;
        missing.extend(monitor.err());
    }
    applier.apply("StatefulSet", name, &stateful_set).await?;
    missing.extend(own_volumes(client, valid, seen).await.err());
    Ok(missing)
}

/// Has volumes deleted with the cluster, or not, as the user says; and found by the cluster's labels.
async fn own_volumes(
    client: &Client,
    valid: &Valid,
    seen: &Dereferenced,
) -> Result<(), ApplyError> {
    let claims: Api<k8s_openapi::api::core::v1::PersistentVolumeClaim> =
        Api::namespaced(client.clone(), &valid.namespace);
    let wanted = match valid.spec.storage.reclaim_policy {
        ReclaimPolicy::Delete => true,
        ReclaimPolicy::Retain => false,
    };
    for (ordinal, claim) in &seen.observed.claims {
        let is_labelled = !seen.unlabelled_claims.contains(ordinal);
        let is_as_wanted = is_labelled && seen.owned_claims.contains(ordinal) == wanted;
        if claim.is_terminating || is_as_wanted {
            continue;
        }
        let owners = wanted.then(|| {
            json!([{
                "apiVersion": "lockstep.dev/v1alpha1", "kind": "SyncCluster",
                "name": valid.name, "uid": valid.uid,
            }])
        });
        let name = claim_name(&valid.name, *ordinal);
        // The unique id keeps a claim from being made that was deleted meanwhile.
        let patch = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": name, "uid": claim.uid, "labels": selector(&valid.name),
                "ownerReferences": owners.unwrap_or_else(|| json!([])),
            },
        });
        let parameters = PatchParams::apply(VOLUME_MANAGER).force();
        match claims
            .patch(&name, &parameters, &Patch::Apply(&patch))
            .await
        {
            Ok(_) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(refused("labels and owner of a volume")(error)),
        }
    }
    Ok(())
}

/// The name of a pod's volume claim.
#[must_use]
pub fn claim_name(cluster: &str, ordinal: u32) -> String {
    format!("{VOLUME}-{cluster}-{ordinal}")
}

struct Applier<'a> {
    client: &'a Client,
    valid: &'a Valid,
}

impl Applier<'_> {
    async fn apply<K>(&self, what: &'static str, name: &str, object: &K) -> Result<(), ApplyError>
    where
        K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.client.clone(), &self.valid.namespace);
        self.apply_to(what, &api, name, object).await
    }

    /// Applies an object, or deletes the one that is no longer wanted.
    async fn keep<K>(
        &self,
        what: &'static str,
        api: &Api<K>,
        name: &str,
        object: Option<&K>,
    ) -> Result<(), ApplyError>
    where
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        match object {
            Some(object) => self.apply_to(what, api, name, object).await,
            None => self.delete(what, api, name).await,
        }
    }

    async fn apply_to<K>(
        &self,
        what: &'static str,
        api: &Api<K>,
        name: &str,
        object: &K,
    ) -> Result<(), ApplyError>
    where
        K: Clone + std::fmt::Debug + Serialize + DeserializeOwned,
    {
        let Some(found) = self.look(what, api, name).await? else {
            return self.put(what, api, name, object).await;
        };
        if !is_ours(&found, &self.valid.name, &self.valid.uid) {
            let name = name.to_owned();
            return Err(ApplyError::Foreign { what, name });
        }
        // The unique id keeps another of its name from being taken that has come meanwhile.
        let mut object = serde_json::to_value(object)
            .map_err(|error| refused(what)(kube::Error::SerdeError(error)))?;
        if let Some(metadata) = object.get_mut("metadata") {
            metadata["uid"] = json!(found.uid);
        }
        self.put(what, api, name, &object).await
    }

    async fn put<K, P>(
        &self,
        what: &'static str,
        api: &Api<K>,
        name: &str,
        object: &P,
    ) -> Result<(), ApplyError>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
        P: Serialize + std::fmt::Debug,
    {
        let parameters = PatchParams::apply(MANAGER).force();
        api.patch(name, &parameters, &Patch::Apply(object))
            .await
            .map(drop)
            .map_err(refused(what))
    }

    async fn look<K>(
        &self,
        what: &'static str,
        api: &Api<K>,
        name: &str,
    ) -> Result<Option<ObjectMeta>, ApplyError>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let found = api.get_metadata_opt(name).await.map_err(refused(what))?;
        Ok(found.map(|found| found.metadata))
    }

    /// Deletes the cluster's own object. Another's of its name is nobody's business here.
    async fn delete<K>(
        &self,
        what: &'static str,
        api: &Api<K>,
        name: &str,
    ) -> Result<(), ApplyError>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        let Some(found) = self.look(what, api, name).await? else {
            return Ok(());
        };
        if !is_ours(&found, &self.valid.name, &self.valid.uid) {
            return Ok(());
        }
        let this = Preconditions {
            uid: found.uid,
            resource_version: None,
        };
        let parameters = DeleteParams::default().preconditions(this);
        match api.delete(name, &parameters).await {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(refused(what)(error)),
        }
    }
}
