//! What the operator sees of the world.

use std::collections::BTreeMap;

use super::{
    Claim, ClusterId, EVICTED_AFTER, Identity, Lifecycle, Member, Members, Observed, Pod, PodPhase,
    Replica, Set, Shard, Stranger, Template, Uncreated, World, WorldPod,
};

impl World {
    pub(in super::super) fn observe(&self) -> Observed {
        let pods = self.pods.iter().map(|(ordinal, pod)| {
            let phase = if self.is_foreign(*ordinal) {
                PodPhase::Ready
            } else {
                self.phase(pod)
            };
            (
                *ordinal,
                Pod {
                    uid: pod.uid.to_string(),
                    version: pod.version(),
                    revision: pod.revision.to_string(),
                    phase,
                    away: self.absences.get(&self.claims[ordinal].uid).copied(),
                    troubled: pod.away,
                    image: None,
                },
            )
        });
        let claims = self.claims.iter().map(|(ordinal, claim)| {
            (
                *ordinal,
                Claim {
                    uid: claim.uid.to_string(),
                    requested_bytes: claim.requested,
                    capacity_bytes: claim.requested,
                    is_terminating: false,
                    node_id: claim.noted,
                },
            )
        });
        Observed {
            set: self.set.as_ref().map(|set| Set {
                replicas: set.replicas,
                recorded: Some(set.recorded),
                revision: set.revision.to_string(),
                is_current: true,
                storage_bytes: set.storage,
                leaving: set.leaving,
                is_terminating: false,
            }),
            pods: pods.collect(),
            uncreated: self.uncreated(),
            refused_growth: self.refused_growth.clone(),
            claims: claims.collect(),
            identity: self.identity(),
            strangers: self.strangers(),
            members: self
                .pods
                .values()
                .any(|pod| pod.is_serving)
                .then(|| self.members()),
        }
    }

    fn uncreated(&self) -> BTreeMap<u32, Uncreated> {
        let replicas = self.set.as_ref().map_or(0, |set| set.replicas);
        let missing = (0..replicas).filter(|ordinal| !self.pods.contains_key(ordinal));
        let missed = self.denied.unwrap_or_default();
        let why = self.denied.map(|_| "exceeded quota".to_owned());
        missing
            .map(|ordinal| {
                let why = why.clone();
                (ordinal, Uncreated { missed, why })
            })
            .collect()
    }

    /// True if a node of another cluster answers.
    pub(super) fn is_foreign(&self, ordinal: u32) -> bool {
        let claim = self.claims.get(&ordinal);
        claim.is_some_and(|claim| claim.is_foreign) && self.runs(ordinal)
    }

    fn identity(&self) -> Identity {
        let id = ClusterId::parse(&"c".repeat(32)).unwrap();
        if self.is_pinned {
            Identity::Pinned(id)
        } else if self.pods.values().any(|pod| pod.is_serving) {
            Identity::Agreed(id)
        } else {
            Identity::Unknown
        }
    }

    fn strangers(&self) -> Vec<Stranger> {
        let foreign = self.pods.keys().filter(|pod| self.is_foreign(**pod));
        let cluster = ClusterId::parse(&"f".repeat(32)).unwrap();
        foreign
            .map(|ordinal| Stranger {
                ordinal: *ordinal,
                cluster: cluster.clone(),
            })
            .collect()
    }

    fn phase(&self, pod: &WorldPod) -> PodPhase {
        let Some(host) = pod.host else {
            return PodPhase::Unschedulable("no machine".to_owned());
        };
        if !self.hosts[host].is_up() {
            return if pod.away >= EVICTED_AFTER {
                PodPhase::Terminating
            } else {
                PodPhase::NotReady
            };
        }
        match (self.template_of(pod.revision), pod.is_serving) {
            (Template::Sidecar, true) => PodPhase::Impaired("CrashLoopBackOff".to_owned()),
            (Template::Good | Template::Bad | Template::Hangs, true) => PodPhase::Ready,
            (Template::Bad, false) => PodPhase::Stuck("ImagePullBackOff".to_owned()),
            (Template::Good | Template::Hangs | Template::Sidecar, false) => PodPhase::NotReady,
        }
    }

    fn members(&self) -> Members {
        let nodes = self.members.iter().map(|(id, member)| {
            let serves = self.serves(*id);
            let led = self
                .shards
                .iter()
                .filter(|shard| shard.keys().find(|id| self.serves(**id)) == Some(id))
                .count();
            (
                *id,
                Member {
                    name: format!("demo-{}", member.ordinal),
                    ordinal: Some(member.ordinal),
                    lifecycle: member.lifecycle,
                    is_reachable: serves,
                    is_ready: serves,
                    version: String::new(),
                    zone: String::new(),
                    led: u32::try_from(led).unwrap(),
                    held: self.placed(*id),
                    placed: self.placed(*id),
                },
            )
        });
        let shards = self.shards.iter().enumerate().map(|(at, shard)| Shard {
            id: u32::try_from(at).unwrap(),
            leader: shard.keys().find(|id| self.serves(**id)).copied(),
            replicas: shard
                .iter()
                .map(|(id, lag)| Replica {
                    node: *id,
                    is_voter: true,
                    lag: *lag,
                })
                .collect(),
        });
        let is_settled = self
            .shards
            .iter()
            .flatten()
            .all(|(id, _)| self.members[id].lifecycle == Lifecycle::Active);
        Members {
            revision: 1,
            nodes: nodes.collect(),
            shards: shards.collect(),
            is_settled,
            obstacles: Vec::new(),
            unheard: None,
        }
    }
}
