//! The steps that a plan may have, each condition that is waited for, and each refusal.
//!
//! Invariant: reasons are stable names that users may rely on; messages are for people and say what
//! to do.

use std::fmt;

use super::super::{
    build::CLUSTER_ID_ANNOTATION,
    identity::{ClusterId, Stranger},
    observed::Ordinal,
};

/// What the set is to be, and the one thing to do besides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Pods that the set is to keep.
    pub replicas: u32,
    /// The size of the volumes in the set's template, in bytes; it cannot be changed in place.
    pub storage_bytes: u64,
    /// To be noted at the set; see [`super::super::observed::Set::leaving`].
    pub leaving: Option<Ordinal>,
    /// What to do.
    pub step: Step,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This.
    Act(Action),
    /// Nothing, until this has come about by itself.
    Wait(Waiting),
    /// Nothing, for this reason.
    Refuse(Refusal),
    /// Nothing: all is as wanted.
    Done,
}

/// Something to do, that is done when it returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Note at the SyncCluster which cluster it is, before anything is done by what that says.
    PinCluster(ClusterId),
    /// Change the number of pods: applying the set does it.
    Resize {
        /// From so many pods.
        from: u32,
        /// To so many.
        to: u32,
    },
    /// Give the set its pods back that somebody else took from it, or note those that somebody added, so
    /// that they leave in order: applying the set does it.
    UndoScale {
        /// How many it has.
        found: u32,
        /// How many it was given.
        recorded: u32,
    },
    /// Have a member emptied.
    Drain {
        /// Which.
        node: u64,
        /// Its pod.
        ordinal: Ordinal,
    },
    /// Have a member that is being emptied hold its share again.
    Activate {
        /// Which.
        node: u64,
        /// Its pod.
        ordinal: Ordinal,
    },
    /// Have a member that was declared lost, and has come back, hold its share again.
    Reinstate {
        /// Which.
        node: u64,
        /// Its name.
        name: String,
    },
    /// Declare a member lost.
    Replace {
        /// Which.
        node: u64,
        /// Its name.
        name: String,
        /// The volume with its data, if that still exists: to be marked as given up, beforehand.
        volume: Option<Ordinal>,
    },
    /// Take a member that holds nothing out of the cluster.
    Remove {
        /// Which.
        node: u64,
        /// Its name.
        name: String,
    },
    /// Delete a volume that holds nothing which the cluster needs, and the pod on it.
    DiscardVolume {
        /// Its pod's number.
        ordinal: Ordinal,
        /// The volume's.
        claim_uid: String,
        /// The pod's, if there is one.
        pod_uid: Option<String>,
    },
    /// Delete a pod that does not serve, so that it is made from the new template. If anything about
    /// it has changed it stays, and is looked at again: it may serve by now.
    ReleasePod {
        /// Its number.
        ordinal: Ordinal,
        /// It, and no other of its name.
        uid: String,
        /// It as it was seen.
        version: String,
    },
    /// Hand a serving node's leads over and evict its pod, so that it is made from the new template.
    RestartPod {
        /// Its number.
        ordinal: Ordinal,
        /// It, and no other of its name.
        uid: String,
        /// Which member it is.
        node: u64,
        /// All of the pod is ready: then the budget is asked whether it may go. One that is not is no
        /// loss to the budget, which would keep it for ever.
        is_ready: bool,
    },
    /// Ask for larger volumes.
    GrowVolumes {
        /// Whose.
        ordinals: Vec<Ordinal>,
        /// How large, in bytes.
        bytes: u64,
    },
    /// Delete the set and leave its pods, so that it is made with the larger volumes in its template.
    RecreateSet,
}

/// Something that comes about by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Objects were just made.
    Creating,
    /// The set is on its way out, and will be made again.
    SetTerminating,
    /// Pods stop.
    Stopping,
    /// Nothing runs, as wanted.
    Stopped,
    /// Pods start.
    PodsStarting(Vec<Ordinal>),
    /// Pods are ready, and their nodes join and catch up.
    Joining(Vec<Ordinal>),
    /// A member is being emptied.
    Draining {
        /// Its pod.
        ordinal: Ordinal,
        /// Replicas that are still on it.
        replicas: u32,
        /// What is in the way, in the members' words.
        obstacles: Vec<String>,
    },
    /// A lost member's replicas are being made anew.
    Replacing {
        /// Its name.
        name: String,
        /// Replicas that are still counted on it.
        replicas: u32,
    },
    /// A pod that has to leave stops.
    PodLeaving(Ordinal),
    /// A shard's replicas catch up.
    CatchingUp(u32),
    /// Replicas and leads are being moved to where they should be.
    Balancing(Vec<String>),
    /// A member does not reach another one that others reach.
    Unheard {
        /// The one that does not reach.
        from: String,
        /// The one that is not reached.
        to: String,
    },
    /// The set's controller has not seen the latest template.
    TemplateUnseen,
}

/// Why nothing is done although something is not as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The user said so.
    Paused,
    /// Pods are ready, and no member answers.
    MembersSilent,
    /// A pod's node is of another cluster.
    ForeignAnswer {
        /// Which, and of which.
        stranger: Stranger,
        /// The cluster that this is, if that is known.
        pinned: Option<ClusterId>,
    },
    /// Shards have no majority.
    QuorumLost {
        /// Which.
        shards: Vec<u32>,
        /// The members that do not answer.
        nodes: Vec<String>,
        /// Those that do.
        left: Vec<String>,
    },
    /// A pod does not start.
    PodStuck {
        /// Which.
        ordinal: Ordinal,
        /// What Kubernetes says.
        why: String,
    },
    /// A pod is not made.
    PodNotCreated {
        /// Which.
        ordinal: Ordinal,
        /// What Kubernetes says, if anything.
        why: Option<String>,
    },
    /// Volumes cannot be enlarged.
    GrowthRefused {
        /// What Kubernetes says.
        why: String,
    },
    /// A shard would have no majority without this member.
    WouldLoseMajority {
        /// The member.
        name: String,
        /// The first such shard.
        shard: u32,
    },
}

impl Step {
    /// A stable name.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Act(action) => action.reason(),
            Self::Wait(waiting) => waiting.reason(),
            Self::Refuse(refusal) => refusal.reason(),
            Self::Done => "Done",
        }
    }
}

impl Waiting {
    /// A stable name.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::SetTerminating => "RecreatingStatefulSet",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
            Self::PodsStarting(_) => "PodsStarting",
            Self::Joining(_) => "NodesJoining",
            Self::Draining { .. } => "Draining",
            Self::Replacing { .. } => "Replacing",
            Self::PodLeaving(_) => "PodLeaving",
            Self::CatchingUp(_) => "CatchingUp",
            Self::Balancing(_) => "Balancing",
            Self::Unheard { .. } => "NodesConnecting",
            Self::TemplateUnseen => "TemplateUnseen",
        }
    }
}

impl Waiting {
    /// True for what will not change by itself, because it is as wanted.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(self, Self::Stopped)
    }
}

impl Refusal {
    /// A stable name.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Paused => "Paused",
            Self::MembersSilent => "MembersSilent",
            Self::ForeignAnswer { .. } => "ForeignAnswer",
            Self::QuorumLost { .. } => "QuorumLost",
            Self::PodStuck { .. } => "PodStuck",
            Self::PodNotCreated { .. } => "PodNotCreated",
            Self::GrowthRefused { .. } => "GrowthRefused",
            Self::WouldLoseMajority { .. } => "WouldLoseMajority",
        }
    }
}

impl Action {
    /// A stable name.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::PinCluster(_) => "ClusterPinned",
            Self::Resize { from, to } if *from < *to => "ScaledUp",
            Self::Resize { .. } => "ScaledDown",
            Self::UndoScale { .. } => "ScaleUndone",
            Self::Drain { .. } => "DrainStarted",
            Self::Activate { .. } => "DrainCancelled",
            Self::Replace { .. } => "NodeDeclaredLost",
            Self::Reinstate { .. } => "NodeReinstated",
            Self::Remove { .. } => "NodeRemoved",
            Self::DiscardVolume { .. } => "VolumeDiscarded",
            Self::ReleasePod { .. } => "PodReleased",
            Self::RestartPod { .. } => "PodRestarted",
            Self::GrowVolumes { .. } => "VolumesGrown",
            Self::RecreateSet => "StatefulSetRecreated",
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Creating => write!(out, "the cluster's objects are being made"),
            Self::SetTerminating => {
                write!(out, "the StatefulSet goes, to be made again; its pods stay")
            }
            Self::Stopping => write!(out, "pods stop, because spec.state is Stopped"),
            Self::Stopped => write!(out, "there are no pods, because spec.state is Stopped"),
            Self::PodsStarting(pods) => write!(out, "pods {} are not ready yet", List(pods)),
            Self::Joining(pods) => write!(
                out,
                "the nodes of pods {} are not ready in the cluster yet",
                List(pods)
            ),
            Self::Draining {
                ordinal,
                replicas,
                obstacles,
            } => {
                write!(
                    out,
                    "pod {ordinal} is being emptied before it goes: {replicas} replicas left"
                )?;
                obstacles
                    .first()
                    .map_or(Ok(()), |first| write!(out, "; {first}"))
            }
            Self::Replacing { name, replicas } => {
                write!(
                    out,
                    "{name} is lost: {replicas} of its replicas are not made anew yet"
                )
            }
            Self::PodLeaving(pod) => write!(out, "pod {pod} has been emptied and stops"),
            Self::CatchingUp(shard) => write!(out, "replicas of shard {shard} catch up"),
            Self::Balancing(obstacles) => match obstacles.first() {
                Some(first) => write!(out, "replicas are being moved: {first}"),
                None => write!(
                    out,
                    "replicas and leads are being moved to where they should be"
                ),
            },
            Self::Unheard { from, to } => write!(
                out,
                "{from} does not reach {to} yet, which others reach: with both needed, none may go"
            ),
            Self::TemplateUnseen => write!(
                out,
                "the StatefulSet controller has not seen the new template yet"
            ),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Paused => write!(out, "nothing is changed while spec.state is Paused"),
            Self::MembersSilent => write!(
                out,
                "all pods are ready, but none answers the operator at its port 7400: look at the pods' logs and at network policies"
            ),
            Self::ForeignAnswer {
                stranger: Stranger { ordinal, cluster },
                pinned: Some(pinned),
            } => write!(
                out,
                "the node of pod {ordinal} is of cluster {cluster}, and this is cluster {pinned}, so that nothing is done by what it says. If you have recovered the cluster under that id, set the annotation {CLUSTER_ID_ANNOTATION} of the SyncCluster to it; otherwise the volume of pod {ordinal} is another cluster's, or was left out of a recovery: keep what you need of it, and delete its claim and the pod"
            ),
            Self::ForeignAnswer {
                stranger: Stranger { ordinal, cluster },
                pinned: None,
            } => write!(
                out,
                "the pods do not agree on which cluster this is: no majority of them answers with one id, and pod {ordinal} with {cluster}. Bring the others back; or set the annotation {CLUSTER_ID_ANNOTATION} of the SyncCluster to the id of the one that it is"
            ),
            Self::QuorumLost {
                shards,
                nodes,
                left,
            } => write!(
                out,
                "shards {} have no majority, because {} do not answer: bring them back. If they are gone for good, only a person can decide what to give up: set spec.state to Stopped, and run `lockstepctl recover --data-dir DIR` once, with the directories of all that are left ({}); then set the annotation {CLUSTER_ID_ANNOTATION} of the SyncCluster to the new cluster's id, which that prints; see \"When a majority is lost for good\" in the README",
                List(shards),
                nodes.join(", "),
                left.join(", ")
            ),
            Self::PodStuck { ordinal, why } => write!(
                out,
                "pod {ordinal} does not start: {why}. Correct the spec, or take the change back"
            ),
            Self::PodNotCreated { ordinal, why } => write!(
                out,
                "pod {ordinal} is not created: {}. Look at the namespace's quotas, pod security and admission webhooks, or correct the spec",
                why.as_deref()
                    .unwrap_or("Kubernetes does not say why (see the events of the StatefulSet)")
            ),
            Self::GrowthRefused { why } => write!(
                out,
                "the volumes do not grow: {why}. Everything else goes on; set spec.storage.size back, or have the storage class allow it (allowVolumeExpansion)"
            ),
            Self::WouldLoseMajority { name, shard } => write!(
                out,
                "{name} is away and cannot be replaced: without it shard {shard} would have no majority of replicas that are up to date"
            ),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PinCluster(id) => write!(
                out,
                "this is cluster {id}; what other clusters say is not believed from now on"
            ),
            Self::Resize { from, to } => write!(out, "from {from} to {to} pods"),
            Self::UndoScale { found, recorded } if found < recorded => write!(
                out,
                "the StatefulSet was scaled to {found} pods by somebody else, and has {recorded} again: set spec.nodes of the SyncCluster instead"
            ),
            Self::UndoScale { found, recorded } => write!(
                out,
                "the StatefulSet was scaled from {recorded} to {found} pods by somebody else; those too many leave in order: set spec.nodes of the SyncCluster instead"
            ),
            Self::Drain { ordinal, node } => write!(
                out,
                "node {node} (pod {ordinal}) is being emptied, because fewer nodes are wanted"
            ),
            Self::Activate { ordinal, node } => {
                write!(out, "node {node} (pod {ordinal}) stays after all")
            }
            Self::Replace { node, name, .. } => write!(
                out,
                "node {node} ({name}) is lost; its replicas are made anew elsewhere"
            ),
            Self::Reinstate { node, name } => write!(
                out,
                "node {node} ({name}), declared lost, has come back and stays: another is away, and its vote is needed"
            ),
            Self::Remove { node, name } => write!(
                out,
                "node {node} ({name}) holds nothing any more and left the cluster"
            ),
            Self::DiscardVolume { ordinal, .. } => write!(
                out,
                "the volume of pod {ordinal} was deleted: its node is no member any more"
            ),
            Self::ReleasePod { ordinal, .. } => write!(
                out,
                "pod {ordinal}, which did not serve, is made anew from the new template"
            ),
            Self::RestartPod { ordinal, .. } => write!(
                out,
                "pod {ordinal} handed its leads over and is made anew from the new template"
            ),
            Self::GrowVolumes { ordinals, bytes } => write!(
                out,
                "the volumes of pods {} grow to {bytes} bytes",
                List(ordinals)
            ),
            Self::RecreateSet => write!(
                out,
                "the StatefulSet is made anew with larger volumes; its pods stay"
            ),
        }
    }
}

/// Numbers with commas.
struct List<'a>(&'a [u32]);

impl fmt::Display for List<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, number) in self.0.iter().enumerate() {
            let sign = if at == 0 { "" } else { ", " };
            write!(out, "{sign}{number}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
impl Plan {
    /// What people are told.
    pub(super) fn step_text(&self) -> String {
        match &self.step {
            Step::Act(action) => action.to_string(),
            Step::Wait(waiting) => waiting.to_string(),
            Step::Refuse(refusal) => refusal.to_string(),
            Step::Done => String::new(),
        }
    }
}
