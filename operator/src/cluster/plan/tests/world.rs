//! A small world: machines, a StatefulSet controller, members that move replicas. It carries out what
//! the plan says, and fails where that would harm.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::cluster::{
    observed::{Claim, Lifecycle, Member, Members, Observed, Pod, PodPhase, Replica, Set, Shard},
    plan::{Action, Desired, Plan, RunState, Step, plan},
};

const HOSTS: usize = 8;
const SHARDS: u32 = 3;
const REPLICATION_FACTOR: u32 = 3;
const TICK: Duration = Duration::from_secs(10);
const REPLACE_AFTER: Duration = Duration::from_secs(60);
/// After so long Kubernetes deletes the pods of a machine that is away; they stay until it is back.
const EVICTED_AFTER: Duration = Duration::from_secs(30);
/// Ticks after which a world that is left alone has to be as wanted.
const PATIENCE: u32 = 600;
/// Ticks with nothing to do after which nothing will be done any more.
const CALM: u32 = 20;

#[derive(Clone, Debug)]
pub(super) enum Event {
    Ticks(u32),
    SetNodes(u32),
    NewTemplate { good: bool },
    RevertTemplate,
    CrashPod(u32),
    LoseHost(usize),
    RestoreHosts,
    LoseVolume(u32),
    GrowStorage(u64),
    Stop,
    Run,
    DrainByHand(u32),
    ActivateAll,
}

#[derive(Clone, Debug)]
struct WorldPod {
    uid: u64,
    revision: u32,
    host: Option<usize>,
    is_serving: bool,
    away: Duration,
}

impl WorldPod {
    /// Another one whenever its readiness changes.
    fn version(&self) -> String {
        format!("{} {}", self.uid, self.is_serving)
    }
}

#[derive(Clone, Debug)]
struct WorldClaim {
    uid: u64,
    host: Option<usize>,
    requested: u64,
    /// The member whose data is on it.
    disk: Option<u64>,
    noted: Option<u64>,
}

#[derive(Clone, Debug)]
struct WorldMember {
    ordinal: u32,
    lifecycle: Lifecycle,
}

#[derive(Debug)]
struct WorldSet {
    replicas: u32,
    revision: u32,
    storage: u64,
    leaving: Option<u32>,
}

pub(super) struct World {
    pub(super) desired: Desired,
    set: Option<WorldSet>,
    template: u32,
    bad: BTreeSet<u32>,
    hosts: [bool; HOSTS],
    pods: BTreeMap<u32, WorldPod>,
    claims: BTreeMap<u32, WorldClaim>,
    members: BTreeMap<u64, WorldMember>,
    /// Voters of each shard, and how far they are behind.
    shards: Vec<BTreeMap<u64, u64>>,
    by_hand: BTreeSet<u64>,
    next: u64,
    pub(super) last: Option<Plan>,
}

impl World {
    pub(super) fn new(nodes: u32) -> Self {
        Self {
            desired: Desired {
                nodes,
                replication_factor: REPLICATION_FACTOR,
                storage_bytes: 1,
                replace_after: Some(REPLACE_AFTER),
                state: RunState::Running,
            },
            set: None,
            template: 0,
            bad: BTreeSet::new(),
            hosts: [true; HOSTS],
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            members: BTreeMap::new(),
            shards: Vec::new(),
            by_hand: BTreeSet::new(),
            next: 1,
            last: None,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Ticks(ticks) => (0..ticks).for_each(|_| self.tick()),
            Event::SetNodes(nodes) => self.desired.nodes = nodes,
            Event::NewTemplate { good } => {
                self.template += 1;
                if !good {
                    self.bad.insert(self.template);
                }
            }
            Event::RevertTemplate => self.template = 0,
            Event::CrashPod(ordinal) => {
                if let Some(pod) = self.pods.get_mut(&ordinal) {
                    pod.is_serving = false;
                }
            }
            Event::LoseHost(host) => {
                // One at a time: of what is lost beyond that, nothing is promised.
                if self.hosts.iter().all(|is_up| *is_up) && self.everyone_serves() {
                    self.hosts[host] = false;
                    self.stop_on_dead_hosts();
                }
            }
            Event::RestoreHosts => {
                self.hosts = [true; HOSTS];
                self.kubernetes();
            }
            Event::LoseVolume(ordinal) => {
                if self.everyone_serves() && self.claims.remove(&ordinal).is_some() {
                    self.pods.remove(&ordinal);
                }
            }
            Event::GrowStorage(more) => self.desired.storage_bytes += more,
            Event::Stop => self.desired.state = RunState::Stopped,
            Event::Run => self.desired.state = RunState::Running,
            Event::DrainByHand(ordinal) => {
                let all = self.members.iter_mut();
                for (id, member) in all.filter(|(_, member)| {
                    member.ordinal == ordinal && member.lifecycle == Lifecycle::Active
                }) {
                    member.lifecycle = Lifecycle::Draining;
                    // While the set still names the pod, as it does until a drain of ours is seen to be
                    // cancelled, nobody can tell the two apart.
                    let leaving = self.set.as_ref().and_then(|set| set.leaving);
                    if leaving != Some(ordinal) {
                        self.by_hand.insert(*id);
                    }
                }
            }
            Event::ActivateAll => self.activate_by_hand(),
        }
    }

    fn activate_by_hand(&mut self) {
        for id in std::mem::take(&mut self.by_hand) {
            if let Some(member) = self.members.get_mut(&id)
                && member.lifecycle == Lifecycle::Draining
            {
                member.lifecycle = Lifecycle::Active;
            }
        }
    }

    /// Left alone, with all machines or all but one for ever.
    pub(super) fn settle(&mut self, is_host_lost: bool) {
        self.activate_by_hand();
        self.hosts = [true; HOSTS];
        self.desired.state = RunState::Running;
        self.bad.remove(&self.template);
        if is_host_lost {
            for _ in 0..PATIENCE {
                if self.everyone_serves() && !self.members.is_empty() {
                    break;
                }
                self.tick();
            }
            self.happen(Event::LoseHost(0));
        }
        let mut calm = 0;
        for _ in 0..PATIENCE {
            self.tick();
            let is_done = self
                .last
                .as_ref()
                .is_some_and(|last| last.step == Step::Done);
            calm = if is_done { calm + 1 } else { 0 };
            if calm == CALM {
                return;
            }
        }
    }

    pub(super) fn assert_as_wanted(&self) {
        let last = self.last.as_ref().unwrap();
        assert_eq!(last.step, Step::Done, "{:#?}", self.observe());
        let wanted: Vec<u32> = (0..self.desired.nodes).collect();
        assert_eq!(self.pods.keys().copied().collect::<Vec<_>>(), wanted);
        assert_eq!(self.claims.keys().copied().collect::<Vec<_>>(), wanted);
        let mut members: Vec<u32> = self.members.values().map(|member| member.ordinal).collect();
        members.sort_unstable();
        assert_eq!(members, wanted);
        assert!(
            self.pods
                .values()
                .all(|pod| pod.is_serving && pod.revision == self.template)
        );
        assert!(
            self.claims
                .values()
                .all(|claim| claim.requested == self.desired.storage_bytes)
        );
    }

    fn serves(&self, id: u64) -> bool {
        self.members.get(&id).is_some_and(|member| {
            self.claims
                .get(&member.ordinal)
                .is_some_and(|claim| claim.disk == Some(id))
                && self
                    .pods
                    .get(&member.ordinal)
                    .is_some_and(|pod| pod.is_serving)
        })
    }

    fn everyone_serves(&self) -> bool {
        self.members.keys().all(|id| self.serves(*id))
            && self.shards.iter().flatten().all(|(_, lag)| *lag == 0)
    }

    fn placed(&self, id: u64) -> u32 {
        u32::try_from(
            self.shards
                .iter()
                .filter(|shard| shard.contains_key(&id))
                .count(),
        )
        .unwrap()
    }

    /// Majorities of replicas whose data is still on some disk.
    fn assert_data(&self, after: &str) {
        for shard in &self.shards {
            let kept = shard
                .keys()
                .filter(|id| self.claims.values().any(|claim| claim.disk == Some(**id)));
            assert!(
                kept.count() > shard.len() / 2,
                "a majority's data is gone after {after}: {shard:?} {:#?}",
                self.claims
            );
        }
    }

    pub(super) fn tick(&mut self) {
        self.kubernetes();
        self.nodes();
        let observed = self.observe();
        let decided = plan(&self.desired, &observed);
        self.apply(&decided);
        if let Step::Act(action) = &decided.step {
            self.carry_out(action);
        }
        self.assert_data(&format!("{:?}", decided.step));
        self.last = Some(decided);
    }

    fn stop_on_dead_hosts(&mut self) {
        for pod in self.pods.values_mut() {
            if pod.host.is_some_and(|host| !self.hosts[host]) {
                pod.is_serving = false;
            }
        }
    }

    /// What the StatefulSet's controller, the scheduler and the kubelets do.
    fn kubernetes(&mut self) {
        self.stop_on_dead_hosts();
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
            });
            let uid = self.number();
            self.pods.entry(ordinal).or_insert(WorldPod {
                uid,
                revision,
                host: None,
                is_serving: false,
                away: Duration::ZERO,
            });
        }
        let up: Vec<usize> = (0..HOSTS).filter(|host| self.hosts[*host]).collect();
        for (ordinal, pod) in &mut self.pods {
            let claim = self.claims.get_mut(ordinal).unwrap();
            if pod.host.is_none() {
                let host = *claim.host.get_or_insert(up[*ordinal as usize % up.len()]);
                pod.host = self.hosts[host].then_some(host);
            }
            let runs =
                pod.host.is_some_and(|host| self.hosts[host]) && !self.bad.contains(&pod.revision);
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

    /// What the nodes do: found, join, catch up, move replicas.
    fn nodes(&mut self) {
        let runs = |pod: &WorldPod| {
            pod.host.is_some_and(|host| self.hosts[host]) && !self.bad.contains(&pod.revision)
        };
        let empty: Vec<u32> = self
            .pods
            .iter()
            .filter(|(ordinal, pod)| runs(pod) && self.claims[ordinal].disk.is_none())
            .map(|(ordinal, _)| *ordinal)
            .collect();
        let can_found = self.members.is_empty()
            && (0..REPLICATION_FACTOR).all(|ordinal| empty.contains(&ordinal));
        let has_quorum = !self.members.is_empty()
            && self
                .shards
                .iter()
                .all(|shard| shard.keys().filter(|id| self.serves(**id)).count() > shard.len() / 2);
        if can_found || has_quorum {
            for ordinal in empty {
                let id = self.number();
                self.members.insert(
                    id,
                    WorldMember {
                        ordinal,
                        lifecycle: Lifecycle::Active,
                    },
                );
                self.claims.get_mut(&ordinal).unwrap().disk = Some(id);
            }
        }
        if can_found {
            let founders: Vec<u64> = self
                .members
                .iter()
                .filter(|(_, member)| member.ordinal < REPLICATION_FACTOR)
                .map(|(id, _)| *id)
                .collect();
            self.shards = (0..SHARDS)
                .map(|_| founders.iter().map(|id| (*id, 0)).collect())
                .collect();
        }
        if has_quorum {
            self.move_one_replica();
        }
        let serving: BTreeSet<u64> = self
            .members
            .keys()
            .copied()
            .filter(|id| self.serves(*id))
            .collect();
        for shard in &mut self.shards {
            for (id, lag) in shard.iter_mut().filter(|(id, _)| serving.contains(id)) {
                let _ = id;
                *lag = 0;
            }
        }
    }

    fn move_one_replica(&mut self) {
        let may = |id: &u64| {
            self.members
                .get(id)
                .is_some_and(|member| member.lifecycle == Lifecycle::Active)
                && self.serves(*id)
        };
        for at in 0..self.shards.len() {
            let shard = &self.shards[at];
            let Some(from) = shard
                .keys()
                .find(|id| self.members[id].lifecycle != Lifecycle::Active)
                .copied()
            else {
                continue;
            };
            let others_fine = shard
                .iter()
                .filter(|(id, lag)| **id != from && self.serves(**id) && **lag == 0)
                .count()
                > shard.len() / 2;
            let free = self
                .members
                .keys()
                .filter(|id| may(id) && !shard.contains_key(id));
            let Some(to) = free.min_by_key(|id| self.placed(**id)).copied() else {
                continue;
            };
            if others_fine || self.serves(from) {
                self.shards[at].remove(&from);
                self.shards[at].insert(to, 0);
                return;
            }
        }
    }

    pub(super) fn observe(&self) -> Observed {
        let pods = self.pods.iter().map(|(ordinal, pod)| {
            let phase = if pod.is_serving {
                PodPhase::Ready
            } else if pod.host.is_none() {
                PodPhase::Unschedulable(pod.away, "no machine".to_owned())
            } else if pod.host.is_some_and(|host| self.hosts[host])
                && self.bad.contains(&pod.revision)
            {
                PodPhase::Stuck("ImagePullBackOff".to_owned())
            } else if pod.away >= EVICTED_AFTER && pod.host.is_some_and(|host| !self.hosts[host]) {
                PodPhase::Terminating(pod.away - EVICTED_AFTER)
            } else {
                PodPhase::NotReady(pod.away)
            };
            (
                *ordinal,
                Pod {
                    uid: pod.uid.to_string(),
                    version: pod.version(),
                    revision: pod.revision.to_string(),
                    phase,
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
                revision: set.revision.to_string(),
                is_current: true,
                storage_bytes: set.storage,
                leaving: set.leaving,
                is_terminating: false,
            }),
            pods: pods.collect(),
            claims: claims.collect(),
            members: self
                .pods
                .values()
                .any(|pod| pod.is_serving)
                .then(|| self.members()),
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

    fn apply(&mut self, decided: &Plan) {
        if let Some(set) = &self.set
            && decided.replicas < set.replicas
            && self.desired.state == RunState::Running
        {
            for ordinal in decided.replicas..set.replicas {
                for (id, _) in self
                    .members
                    .iter()
                    .filter(|(_, member)| member.ordinal == ordinal)
                {
                    assert_eq!(
                        self.placed(*id),
                        0,
                        "pod {ordinal} goes, and holds replicas"
                    );
                }
            }
            assert_eq!(set.replicas - decided.replicas, 1, "one at a time");
        }
        let set = self.set.get_or_insert(WorldSet {
            replicas: 0,
            revision: self.template,
            storage: decided.storage_bytes,
            leaving: None,
        });
        assert_eq!(
            set.storage, decided.storage_bytes,
            "a template's volumes cannot be changed"
        );
        set.replicas = decided.replicas;
        set.revision = self.template;
        set.leaving = decided.leaving;
        self.kubernetes();
    }

    fn assert_nothing_else_is_away(&self, but: u32, what: &str) {
        let set = self.set.as_ref().unwrap();
        for ordinal in (0..set.replicas).filter(|ordinal| *ordinal != but) {
            let serves = self.pods.get(&ordinal).is_some_and(|pod| pod.is_serving);
            assert!(serves, "{what} of pod {but} while pod {ordinal} is away");
        }
    }

    fn assert_majorities_without(&self, id: u64, what: &str) {
        for shard in self.shards.iter().filter(|shard| shard.contains_key(&id)) {
            let good = shard
                .iter()
                .filter(|(other, lag)| **other != id && **lag == 0 && self.serves(**other));
            assert!(
                good.count() > shard.len() / 2,
                "{what} of {id} takes a majority: {shard:?}"
            );
        }
    }

    fn carry_out(&mut self, action: &Action) {
        match action {
            // Already applied.
            Action::Resize { .. } => {}
            Action::Drain { node, ordinal } => {
                if self.set.as_ref().is_some_and(|set| *ordinal < set.replicas) {
                    self.assert_nothing_else_is_away(*ordinal, "a drain");
                }
                let member = self.members.get_mut(node).unwrap();
                assert_eq!(member.lifecycle, Lifecycle::Active);
                member.lifecycle = Lifecycle::Draining;
            }
            Action::Activate { node, .. } => {
                assert!(
                    !self.by_hand.contains(node),
                    "a person's drain was cancelled"
                );
                self.members.get_mut(node).unwrap().lifecycle = Lifecycle::Active;
            }
            Action::Reinstate { node, .. } => {
                assert!(self.serves(*node), "{node} is not back");
                let member = self.members.get_mut(node).unwrap();
                assert_eq!(member.lifecycle, Lifecycle::Lost);
                member.lifecycle = Lifecycle::Active;
            }
            Action::Replace { node, volume, .. } => {
                if let Some(claim) = volume.and_then(|ordinal| self.claims.get_mut(&ordinal)) {
                    claim.noted = Some(*node);
                }
                assert!(!self.serves(*node), "{node} serves and is declared lost");
                self.assert_majorities_without(*node, "the loss");
                let lost = self
                    .members
                    .values()
                    .filter(|member| member.lifecycle == Lifecycle::Lost);
                assert_eq!(lost.count(), 0, "two are replaced at once");
                self.members.get_mut(node).unwrap().lifecycle = Lifecycle::Lost;
            }
            Action::Remove { node, .. } => {
                assert_eq!(
                    self.placed(*node),
                    0,
                    "{node} holds replicas and is removed"
                );
                assert_ne!(self.members[node].lifecycle, Lifecycle::Active);
                self.members.remove(node);
            }
            Action::DiscardVolume {
                ordinal, claim_uid, ..
            } => {
                let claim = &self.claims[ordinal];
                assert_eq!(claim.uid.to_string(), *claim_uid);
                if let Some((id, member)) =
                    claim.disk.and_then(|id| Some((id, self.members.get(&id)?)))
                {
                    let is_empty = member.lifecycle == Lifecycle::Draining && self.placed(id) == 0;
                    assert!(
                        is_empty || member.lifecycle == Lifecycle::Lost,
                        "a member's data is deleted"
                    );
                    if self.serves(id) {
                        self.assert_majorities_without(id, "the end of the volume");
                    }
                }
                self.claims.remove(ordinal);
                self.pods.remove(ordinal);
            }
            Action::ReleasePod {
                ordinal,
                uid,
                version,
            } => {
                assert_eq!(self.pods[ordinal].uid.to_string(), *uid);
                // It may have become ready since it was seen: Kubernetes compares.
                if self.pods[ordinal].version() == *version {
                    assert!(
                        !self.pods[ordinal].is_serving,
                        "pod {ordinal} serves and is deleted as if it did not"
                    );
                    self.pods.remove(ordinal);
                }
            }
            Action::RestartPod { ordinal, uid, node } => {
                assert_eq!(self.pods[ordinal].uid.to_string(), *uid);
                self.assert_nothing_else_is_away(*ordinal, "a restart");
                self.assert_majorities_without(*node, "a restart");
                self.pods.remove(ordinal);
            }
            Action::GrowVolumes { ordinals, bytes } => {
                for ordinal in ordinals {
                    self.claims.get_mut(ordinal).unwrap().requested = *bytes;
                }
            }
            Action::RecreateSet => self.set = None,
        }
    }
}
