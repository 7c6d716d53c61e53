//! Makes it so: applies every object, and carries out the one action of the plan.
//!
//! Invariants: objects are applied as a whole under the operator's own field manager, the StatefulSet
//! last, so that pods find what they need. Whatever is deleted is named by its unique id, so that
//! nothing is deleted that was not seen. Everything may be repeated.

mod action;

use kube::{
    Api, Client, Resource,
    api::{DeleteParams, DynamicObject, Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::{
    build::{MANAGER, Objects, Served, VOLUME, pod_monitor_resource},
    dereference::Dereferenced,
    validate::Valid,
};
use crate::crd::v1alpha1::ReclaimPolicy;

pub use action::{ActionError, carry_out};

/// Its own manager for what it says about volumes, which the StatefulSet's controller makes.
const VOLUME_MANAGER: &str = "lockstep-operator-volumes";

/// Why not everything is as it was built.
#[derive(Debug, thiserror::Error)]
#[error("cannot apply the {what}: {source}")]
pub struct ApplyError {
    /// What was refused.
    what: &'static str,
    /// Why.
    source: Box<kube::Error>,
}

fn refused(what: &'static str) -> impl Fn(kube::Error) -> ApplyError {
    move |source| ApplyError {
        what,
        source: Box::new(source),
    }
}

/// True if an error says that an object is not there.
fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// Applies every object.
///
/// # Errors
/// With the first that is refused.
pub async fn apply(
    client: &Client,
    valid: &Valid,
    seen: &Dereferenced,
    objects: Objects,
    served: Served,
) -> Result<(), ApplyError> {
    let Objects {
        service_account,
        peers,
        clients,
        budget,
        network_policy,
        pod_monitor,
        stateful_set,
    } = objects;
    let applier = Applier {
        client,
        namespace: &valid.namespace,
    };
    applier
        .apply("ServiceAccount", &valid.name, &service_account)
        .await?;
    applier
        .apply(
            "Service of the nodes",
            peers.metadata.name.as_deref().unwrap_or_default(),
            &peers,
        )
        .await?;
    applier
        .apply("Service for clients", &valid.name, &clients)
        .await?;
    let budgets = Api::namespaced_with(client.clone(), &valid.namespace, &served.budget.resource());
    applier
        .apply_to("PodDisruptionBudget", &budgets, &valid.name, &budget)
        .await?;
    match &network_policy {
        Some(policy) => applier.apply("NetworkPolicy", &valid.name, policy).await?,
        None => {
            let policies = Api::<k8s_openapi::api::networking::v1::NetworkPolicy>::namespaced(
                client.clone(),
                &valid.namespace,
            );
            applier
                .delete("NetworkPolicy", &policies, &valid.name)
                .await?;
        }
    }
    if served.pod_monitor {
        let monitors: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &valid.namespace, &pod_monitor_resource());
        match &pod_monitor {
            Some(monitor) => {
                let name = &valid.name;
                let applied = applier.apply_to("PodMonitor", &monitors, name, monitor);
                applied.await?;
            }
            None => applier.delete("PodMonitor", &monitors, &valid.name).await?,
        }
    }
    applier
        .apply("StatefulSet", &valid.name, &stateful_set)
        .await?;
    own_volumes(client, valid, seen).await
}

/// Has volumes deleted with the cluster, or not, as the user says.
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
        if claim.is_terminating || seen.owned_claims.contains(ordinal) == wanted {
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
            "metadata": {"name": name, "uid": claim.uid, "ownerReferences": owners.unwrap_or_else(|| json!([]))},
        });
        let parameters = PatchParams::apply(VOLUME_MANAGER).force();
        match claims
            .patch(&name, &parameters, &Patch::Apply(&patch))
            .await
        {
            Ok(_) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(refused("owner of a volume")(error)),
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
    namespace: &'a str,
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
        let api = Api::<K>::namespaced(self.client.clone(), self.namespace);
        self.apply_to(what, &api, name, object).await
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
        let parameters = PatchParams::apply(MANAGER).force();
        api.patch(name, &parameters, &Patch::Apply(object))
            .await
            .map(drop)
            .map_err(refused(what))
    }

    async fn delete<K>(
        &self,
        what: &'static str,
        api: &Api<K>,
        name: &str,
    ) -> Result<(), ApplyError>
    where
        K: Clone + std::fmt::Debug + DeserializeOwned,
    {
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(refused(what)(error)),
        }
    }
}
