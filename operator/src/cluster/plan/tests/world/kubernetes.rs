//! Machines, and what Kubernetes does with pods and volumes.

use std::{collections::BTreeMap, time::Duration};

use super::{HOSTS, TICK, World, WorldClaim, WorldPod};

/// What becomes of a pod with a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Template {
    /// It serves.
    Good,
    /// Its container does not start, and Kubernetes says so.
    Bad,
    /// It waits to be created: for a Secret that is missing, for one.
    Hangs,
    /// Its node serves, and another container crashes.
    Sidecar,
}

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Host {
    Up,
    /// It runs what it has, and takes nothing new.
    Cordoned,
    NotReady,
    /// Its Node object is gone too.
    Gone,
}

impl Host {
    pub(super) const fn is_up(self) -> bool {
        match self {
            Self::Up | Self::Cordoned => true,
            Self::NotReady | Self::Gone => false,
        }
    }
}

impl World {
    pub(super) fn stop_on_dead_hosts(&mut self) {
        for pod in self.pods.values_mut() {
            if pod.host.is_some_and(|host| !self.hosts[host].is_up()) {
                pod.is_serving = false;
            }
        }
    }

    /// What the StatefulSet's controller, the scheduler and the kubelets do.
    pub(super) fn kubernetes(&mut self) {
        self.stop_on_dead_hosts();
        let hosts = self.hosts;
        // With its Node object, a machine's pods are deleted.
        self.pods
            .retain(|_, pod| pod.host.is_none_or(|host| hosts[host] != Host::Gone));
        let Some(set) = &self.set else { return };
        let (replicas, revision, storage) = (set.replicas, set.revision, set.storage);
        self.pods.retain(|ordinal, _| *ordinal < replicas);
        for ordinal in 0..replicas {
            let uid = self.number();
            self.claims.entry(ordinal).or_insert(WorldClaim {
                uid,
                host: None,
                requested: storage,
                disk: None,
                noted: None,
                is_full: false,
                is_foreign: false,
            });
            if self.denied.is_some() {
                continue;
            }
            let uid = self.number();
            self.pods.entry(ordinal).or_insert(WorldPod {
                uid,
                revision,
                host: None,
                is_serving: false,
                away: Duration::ZERO,
            });
        }
        let up: Vec<usize> = (0..HOSTS).filter(|host| hosts[*host] == Host::Up).collect();
        for (ordinal, pod) in &mut self.pods {
            let claim = self.claims.get_mut(ordinal).unwrap();
            if pod.host.is_none() {
                let host = *claim.host.get_or_insert(up[*ordinal as usize % up.len()]);
                pod.host = (hosts[host] == Host::Up).then_some(host);
            }
            let starts = match self.templates.get(&pod.revision) {
                None | Some(Template::Good | Template::Sidecar) => true,
                Some(Template::Bad | Template::Hangs) => false,
            };
            let runs = pod.host.is_some_and(|host| hosts[host].is_up()) && starts && !claim.is_full;
            if !runs {
                pod.is_serving = false;
                pod.away += TICK;
                continue;
            }
            pod.away = Duration::ZERO;
            let is_member = claim.disk.is_some_and(|id| self.members.contains_key(&id));
            pod.is_serving = is_member;
        }
    }

    pub(super) fn template_of(&self, revision: u32) -> Template {
        self.templates
            .get(&revision)
            .copied()
            .unwrap_or(Template::Good)
    }

    /// True if a pod's node could run.
    pub(super) fn runs(&self, ordinal: u32) -> bool {
        let starts = |pod: &WorldPod| match self.template_of(pod.revision) {
            Template::Good | Template::Sidecar => true,
            Template::Bad | Template::Hangs => false,
        };
        self.pods.get(&ordinal).is_some_and(|pod| {
            pod.host.is_some_and(|host| self.hosts[host].is_up())
                && starts(pod)
                && !self.claims[&ordinal].is_full
        })
    }

    /// True if the machine that has a volume is away.
    pub(super) fn is_away(&self, claim: &WorldClaim) -> bool {
        claim.host.is_some_and(|host| !self.hosts[host].is_up())
    }

    /// The operator counts how long it has seen machines away.
    pub(super) fn count_absences(&mut self) {
        let before = std::mem::take(&mut self.absences);
        let away = self.claims.values().filter(|claim| self.is_away(claim));
        let counted = away.map(|claim| {
            let before = before.get(&claim.uid);
            (
                claim.uid,
                before.map_or(Duration::ZERO, |time| *time + TICK),
            )
        });
        self.absences = counted.collect::<BTreeMap<_, _>>();
    }
}
