//! The one action of a plan.
//!
//! Invariant: an action that was carried out, or half carried out, may be carried out again.

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{PersistentVolumeClaim, Pod},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy},
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{VOLUME_MANAGER, claim_name, is_gone};
use crate::{
    cluster::{
        build::{CLUSTER_ID_ANNOTATION, MANAGER, NODE_ID_ANNOTATION, Served},
        dereference::Dereferenced,
        identity::ClusterId,
        plan::Action,
        validate::Valid,
    },
    crd::v1alpha1::SyncCluster,
    members::{self, Change, ChangeError},
};

/// Why an action was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ActionError {
    /// The API server refuses.
    #[error("Kubernetes refused to {what}: {source}")]
    Refused {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// The members refuse.
    #[error(transparent)]
    Members(#[from] ChangeError),
    /// Another eviction is under way.
    #[error(
        "pod {0} is not evicted now, because the PodDisruptionBudget does not allow another one to be away"
    )]
    BudgetSpent(String),
}

fn refused(what: &'static str) -> impl Fn(kube::Error) -> ActionError {
    move |source| ActionError::Refused {
        what,
        source: Box::new(source),
    }
}

/// Carries an action out.
///
/// # Errors
/// If Kubernetes or the members refuse; it is decided anew then.
pub async fn carry_out(
    client: &Client,
    valid: &Valid,
    seen: &Dereferenced,
    served: Served,
    action: &Action,
) -> Result<(), ActionError> {
    let hands = Hands {
        client,
        valid,
        seen,
    };
    match action {
        // The StatefulSet was applied with the new number.
        Action::Resize { .. } | Action::UndoScale { .. } => Ok(()),
        Action::Drain { node, .. } => hands.change(Change::Drain(*node)).await,
        Action::Activate { node, .. } | Action::Reinstate { node, .. } => {
            hands.change(Change::Activate(*node)).await
        }
        Action::Replace { node, volume, .. } => {
            if let Some(ordinal) = volume {
                hands.mark_volume(*ordinal, *node).await?;
            }
            hands.change(Change::Replace(*node)).await
        }
        Action::Remove { node, .. } => hands.change(Change::Remove(*node)).await,
        Action::PinCluster(id) => hands.pin(id).await,
        Action::DiscardVolume {
            ordinal,
            claim_uid,
            pod_uid,
        } => {
            hands
                .discard_volume(*ordinal, claim_uid, pod_uid.as_deref())
                .await
        }
        Action::ReleasePod {
            ordinal,
            uid,
            version,
        } => hands.release_pod(*ordinal, uid, version).await,
        Action::RestartPod {
            ordinal,
            uid,
            node,
            is_ready,
        } => {
            let budget = is_ready.then_some(served);
            hands.restart_pod(*ordinal, uid, *node, budget).await
        }
        Action::GrowVolumes { ordinals, bytes } => {
            let mut grown = Ok(());
            for ordinal in ordinals {
                grown = grown.and(hands.grow_volume(*ordinal, *bytes).await);
            }
            grown
        }
        Action::RecreateSet => {
            let sets: Api<StatefulSet> = hands.api();
            let orphan = DeleteParams {
                propagation_policy: Some(PropagationPolicy::Orphan),
                preconditions: Some(only(seen.set_uid.as_deref().unwrap_or_default())),
                ..DeleteParams::default()
            };
            delete(&sets, &valid.name, orphan, "make the StatefulSet anew").await
        }
    }
}

/// The one that was seen, and no other of its name.
fn only(uid: &str) -> Preconditions {
    Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    }
}

/// True if an object has changed since it was seen.
fn is_outdated(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// Deletes an object, on conditions.
async fn delete<K>(
    api: &Api<K>,
    name: &str,
    parameters: DeleteParams,
    what: &'static str,
) -> Result<(), ActionError>
where
    K: Clone + std::fmt::Debug + DeserializeOwned,
{
    match api.delete(name, &parameters).await {
        Ok(_) => Ok(()),
        Err(error) if is_gone(&error) => Ok(()),
        Err(error) => Err(refused(what)(error)),
    }
}

struct Hands<'a> {
    client: &'a Client,
    valid: &'a Valid,
    seen: &'a Dereferenced,
}

impl Hands<'_> {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.valid.namespace)
    }

    fn pod_name(&self, ordinal: u32) -> String {
        format!("{}-{ordinal}", self.valid.name)
    }

    async fn change(&self, change: Change) -> Result<(), ActionError> {
        let revision = self
            .seen
            .observed
            .members
            .as_ref()
            .map_or(0, |members| members.revision);
        Ok(members::change(&self.seen.addresses, change, revision).await?)
    }

    /// Notes at the SyncCluster which cluster it is, unless somebody has changed it meanwhile.
    async fn pin(&self, id: &ClusterId) -> Result<(), ActionError> {
        let patch = json!({"metadata": {
            "uid": self.valid.uid,
            "resourceVersion": self.seen.cluster_version,
            "annotations": {CLUSTER_ID_ANNOTATION: id.to_string()},
        }});
        let clusters: Api<SyncCluster> = self.api();
        let parameters = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let name = &self.valid.name;
        let patch = Patch::Merge(&patch);
        match clusters.patch_metadata(name, &parameters, &patch).await {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) || is_outdated(&error) => Ok(()),
            Err(error) => Err(refused("note the id of the cluster")(error)),
        }
    }

    async fn delete_pod(&self, ordinal: u32, parameters: DeleteParams) -> Result<(), ActionError> {
        let pods: Api<Pod> = self.api();
        delete(&pods, &self.pod_name(ordinal), parameters, "delete a pod").await
    }

    /// Deletes a pod, unless it has changed since it was seen as `version`.
    async fn release_pod(&self, ordinal: u32, uid: &str, version: &str) -> Result<(), ActionError> {
        let unchanged = Preconditions {
            resource_version: Some(version.to_owned()),
            ..only(uid)
        };
        let parameters = DeleteParams::default().preconditions(unchanged);
        match self.delete_pod(ordinal, parameters).await {
            Err(ActionError::Refused { source, .. }) if is_outdated(&source) => Ok(()),
            done => done,
        }
    }

    /// Has a node hand its leads over, and its pod go: under the budget, if that counts it.
    async fn restart_pod(
        &self,
        ordinal: u32,
        uid: &str,
        node: u64,
        budget: Option<Served>,
    ) -> Result<(), ActionError> {
        if let Some(served) = budget {
            // Leads that were handed over for nothing would be handed over every few seconds.
            self.evict(ordinal, uid, served, true).await?;
        }
        members::transfer_leaders(&self.seen.addresses, node).await?;
        match budget {
            Some(served) => self.evict(ordinal, uid, served, false).await,
            None => {
                let parameters = DeleteParams::default().preconditions(only(uid));
                self.delete_pod(ordinal, parameters).await
            }
        }
    }

    /// Deletes a volume, and then the pod on it without waiting for its machine: that may be away and
    /// never confirm, and what it does there, it does without its vote.
    async fn discard_volume(
        &self,
        ordinal: u32,
        claim_uid: &str,
        pod_uid: Option<&str>,
    ) -> Result<(), ActionError> {
        let claims: Api<PersistentVolumeClaim> = self.api();
        let name = claim_name(&self.valid.name, ordinal);
        let parameters = DeleteParams::default().preconditions(only(claim_uid));
        delete(&claims, &name, parameters, "delete a volume").await?;
        let Some(uid) = pod_uid else { return Ok(()) };
        let at_once = DeleteParams::default().grace_period(0);
        self.delete_pod(ordinal, at_once.preconditions(only(uid)))
            .await
    }

    /// Notes at a volume whose data it is given up with.
    async fn mark_volume(&self, ordinal: u32, node: u64) -> Result<(), ActionError> {
        let Some(claim) = self.seen.observed.claims.get(&ordinal) else {
            return Ok(());
        };
        let patch = json!({"metadata": {"uid": claim.uid, "annotations": {NODE_ID_ANNOTATION: node.to_string()}}});
        let claims: Api<PersistentVolumeClaim> = self.api();
        let parameters = PatchParams {
            field_manager: Some(VOLUME_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        match claims
            .patch(
                &claim_name(&self.valid.name, ordinal),
                &parameters,
                &Patch::Merge(&patch),
            )
            .await
        {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) => Err(refused("mark a volume")(error)),
        }
    }

    async fn grow_volume(&self, ordinal: u32, bytes: u64) -> Result<(), ActionError> {
        // The user's own spelling where it says the same.
        let size = if bytes == self.valid.desired.storage_bytes {
            self.valid.spec.storage.size.clone()
        } else {
            bytes.to_string()
        };
        let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
        let claims: Api<PersistentVolumeClaim> = self.api();
        let parameters = PatchParams {
            field_manager: Some(VOLUME_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let name = claim_name(&self.valid.name, ordinal);
        claims
            .patch(&name, &parameters, &Patch::Merge(&patch))
            .await
            .map(drop)
            .map_err(refused("enlarge a volume"))
    }

    /// Evicts a pod, so that the budget counts it, whoever else evicts at the same time; or only asks
    /// whether it could be.
    async fn evict(
        &self,
        ordinal: u32,
        uid: &str,
        served: Served,
        is_trial: bool,
    ) -> Result<(), ActionError> {
        const WHAT: &str = "evict a pod";
        let pod = self.pod_name(ordinal);
        let eviction = json!({
            "apiVersion": served.budget.api_version(),
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": self.valid.namespace},
            "deleteOptions": {
                "preconditions": {"uid": uid},
                "dryRun": if is_trial { json!(["All"]) } else { json!([]) },
            },
        });
        let path = format!(
            "/api/v1/namespaces/{}/pods/{pod}/eviction",
            self.valid.namespace
        );
        let request = http::Request::post(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(eviction.to_string().into_bytes())
            .map_err(|error| refused(WHAT)(kube::Error::HttpError(error)))?;
        match self.client.request::<serde_json::Value>(request).await {
            Ok(_) => Ok(()),
            Err(error) if is_gone(&error) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 429 => {
                Err(ActionError::BudgetSpent(pod))
            }
            Err(error) => Err(refused(WHAT)(error)),
        }
    }
}
