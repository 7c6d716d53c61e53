//! What pods do, in this operator's eyes.
//!
//! Invariant: how long something has been so is counted by this operator, and by no time stamp.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Event as KubeEvent, PersistentVolumeClaim, Pod as KubePod, PodStatus},
};
use kube::{Api, Client, ResourceExt as _, api::ListParams, runtime::reflector::ObjectRef};

use super::observe_set;
use crate::{
    cluster::{
        build::CONTAINER,
        machines,
        memory::Memory,
        observed::{Ordinal, Pod, PodPhase, Uncreated},
        plan::STUCK_AFTER,
    },
    crd::v1alpha1::SyncCluster,
};

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
/// Most events that are read about pods that are not created: the controller repeats one for each pod.
const MAX_EVENTS: u32 = 200;

/// Where the operator looks, and what it remembers.
pub(super) struct Sight<'a> {
    pub(super) client: &'a Client,
    pub(super) cluster: &'a ObjectRef<SyncCluster>,
    pub(super) memory: &'a Memory,
}

impl Sight<'_> {
    /// What the pods do, and for how long their machines have been away.
    pub(super) async fn pods(
        &self,
        pods: &BTreeMap<Ordinal, &KubePod>,
        volumes: &BTreeMap<Ordinal, PersistentVolumeClaim>,
    ) -> BTreeMap<Ordinal, Pod> {
        let away = machines::away(self.client, pods, volumes).await;
        let uids = volumes
            .iter()
            .filter_map(|(ordinal, claim)| Some((*ordinal, claim.metadata.uid.clone()?)));
        let here = pods.keys().copied().collect();
        let away = self
            .memory
            .count_away(self.cluster, &here, &uids.collect(), &away);
        let observed = pods.iter().map(|(ordinal, pod)| {
            let away = away.get(ordinal).copied();
            (*ordinal, observe_pod(pod, away))
        });
        observed.collect()
    }

    /// The pods that the set should have made, with a look at why it has not. Notes at the others for how long
    /// they have not started.
    pub(super) async fn uncreated(
        &self,
        set: Option<&StatefulSet>,
        pods: &mut BTreeMap<Ordinal, Pod>,
    ) -> BTreeMap<Ordinal, Uncreated> {
        let set = set.map(observe_set).filter(|set| !set.is_terminating);
        let replicas = set.map_or(0, |set| set.replicas);
        let missing = (0..replicas).filter(|ordinal| !pods.contains_key(ordinal));
        let missing: Vec<Ordinal> = missing.collect();
        let troubled = pods.iter().filter_map(|(ordinal, pod)| match pod.phase {
            PodPhase::Stuck(_) | PodPhase::Unschedulable(_) => {
                Some((*ordinal, Some(pod.uid.clone())))
            }
            PodPhase::Ready
            | PodPhase::Impaired(_)
            | PodPhase::NotReady
            | PodPhase::Terminating => None,
        });
        let troubled = troubled.chain(missing.iter().map(|ordinal| (*ordinal, None)));
        let times = self.memory.count_troubled(self.cluster, troubled.collect());
        let time = |ordinal: &Ordinal| times.get(ordinal).copied().unwrap_or_default();
        for (ordinal, pod) in pods.iter_mut() {
            pod.troubled = time(ordinal);
        }
        let is_asked = missing.iter().any(|ordinal| time(ordinal) >= STUCK_AFTER);
        let said = if is_asked {
            self.creation_failures().await
        } else {
            Vec::new()
        };
        let uncreated = missing.into_iter().map(|ordinal| {
            let pod = format!("{}-{ordinal} in ", self.cluster.name);
            let why = said.iter().rev().find(|note| note.contains(&pod)).cloned();
            let missed = time(&ordinal);
            (ordinal, Uncreated { missed, why })
        });
        uncreated.collect()
    }

    /// What the StatefulSet's controller says about pods that it could not create, the last one last: it says
    /// so in events alone.
    async fn creation_failures(&self) -> Vec<String> {
        let namespace = self.cluster.namespace.as_deref().unwrap_or_default();
        let events: Api<KubeEvent> = Api::namespaced(self.client.clone(), namespace);
        let about = format!(
            "involvedObject.kind=StatefulSet,involvedObject.name={},reason=FailedCreate",
            self.cluster.name
        );
        let asked = ListParams::default().fields(&about).limit(MAX_EVENTS);
        let mut found = match events.list(&asked).await {
            Ok(found) => found.items,
            Err(error) => {
                tracing::warn!(%error, "cannot read why pods are not created");
                return Vec::new();
            }
        };
        found.sort_by_key(|event| {
            let last = event.last_timestamp.as_ref().map(|time| time.0);
            last.or_else(|| event.event_time.as_ref().map(|time| time.0))
        });
        found
            .into_iter()
            .filter_map(|event| event.message)
            .collect()
    }
}

fn observe_pod(pod: &KubePod, away: Option<Duration>) -> Pod {
    Pod {
        uid: pod.metadata.uid.clone().unwrap_or_default(),
        version: pod.metadata.resource_version.clone().unwrap_or_default(),
        revision: pod
            .labels()
            .get("controller-revision-hash")
            .cloned()
            .unwrap_or_default(),
        phase: phase(pod, away.is_some()),
        away,
        troubled: Duration::ZERO,
        image: running_image(pod),
    }
}

/// The image that the node of a pod runs, in the words of its spec: the container's status may name it by
/// another of its tags.
fn running_image(pod: &KubePod) -> Option<String> {
    let mut statuses = pod.status.as_ref()?.container_statuses.as_ref()?.iter();
    statuses.find(|status| {
        let state = status.state.as_ref();
        status.name == CONTAINER && state.is_some_and(|state| state.running.is_some())
    })?;
    let mut containers = pod.spec.as_ref()?.containers.iter();
    let node = containers.find(|container| container.name == CONTAINER)?;
    node.image.clone()
}

/// What a pod does. Of one whose machine is away Kubernetes keeps telling what its containers did last.
pub(super) fn phase(pod: &KubePod, is_away: bool) -> PodPhase {
    if pod.metadata.deletion_timestamp.is_some() {
        return PodPhase::Terminating;
    }
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
    if condition("Ready").is_some_and(|ready| ready.status == "True") {
        return PodPhase::Ready;
    }
    if let Some(scheduled) =
        condition("PodScheduled").filter(|scheduled| scheduled.status == "False")
    {
        return PodPhase::Unschedulable(scheduled.message.clone().unwrap_or_default());
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
