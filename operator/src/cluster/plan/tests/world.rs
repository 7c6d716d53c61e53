//! A small world: machines, a StatefulSet controller, members that move replicas. It carries out what
//! the plan says, and fails where that would harm.

mod kubernetes;
mod nodes;
mod observe;
mod operator;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

pub(super) use kubernetes::{Host, Template};

use crate::cluster::{
    identity::{ClusterId, Identity, Stranger},
    observed::{
        Claim, Lifecycle, Member, Members, Observed, Pod, PodPhase, RefusedGrowth, Replica, Set,
        Shard, Uncreated,
    },
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
    NewTemplate(Template),
    RevertTemplate,
    CrashPod(u32),
    LoseHost {
        host: usize,
        is_gone: bool,
    },
    Drain(usize),
    FillDisk(u32),
    ScaleByHand(u32),
    RestartOperator,
    RestoreHosts,
    LoseVolume(u32),
    /// A volume of another cluster comes in the place of one.
    ForeignVolume(u32),
    /// A quota or a webhook denies pods.
    DenyPods(bool),
    /// The storage class lets volumes grow, or not.
    AllowGrowth(bool),
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
    is_full: bool,
    /// A node of another cluster is on it.
    is_foreign: bool,
}

#[derive(Clone, Debug)]
struct WorldMember {
    ordinal: u32,
    lifecycle: Lifecycle,
}

#[derive(Debug)]
struct WorldSet {
    replicas: u32,
    recorded: u32,
    revision: u32,
    storage: u64,
    leaving: Option<u32>,
}

pub(super) struct World {
    pub(super) desired: Desired,
    set: Option<WorldSet>,
    template: u32,
    /// What is not good.
    templates: BTreeMap<u32, Template>,
    hosts: [Host; HOSTS],
    /// By volume.
    absences: BTreeMap<u64, Duration>,
    pods: BTreeMap<u32, WorldPod>,
    claims: BTreeMap<u32, WorldClaim>,
    members: BTreeMap<u64, WorldMember>,
    /// Voters of each shard, and how far they are behind.
    shards: Vec<BTreeMap<u64, u64>>,
    by_hand: BTreeSet<u64>,
    is_pinned: bool,
    /// No pod can be created, for so long already.
    denied: Option<Duration>,
    /// Volumes cannot grow.
    can_grow: bool,
    refused_growth: Option<RefusedGrowth>,
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
            templates: BTreeMap::new(),
            hosts: [Host::Up; HOSTS],
            absences: BTreeMap::new(),
            pods: BTreeMap::new(),
            claims: BTreeMap::new(),
            members: BTreeMap::new(),
            shards: Vec::new(),
            by_hand: BTreeSet::new(),
            is_pinned: false,
            denied: None,
            can_grow: true,
            refused_growth: None,
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
            Event::NewTemplate(template) => {
                self.template += 1;
                self.templates.insert(self.template, template);
            }
            Event::RevertTemplate => self.template = 0,
            Event::CrashPod(ordinal) => {
                if let Some(pod) = self.pods.get_mut(&ordinal) {
                    pod.is_serving = false;
                }
            }
            Event::LoseHost { host, is_gone } => {
                // One at a time: of what is lost beyond that, nothing is promised.
                if self.all_hosts_are_up() && self.everyone_serves() {
                    self.hosts[host] = if is_gone { Host::Gone } else { Host::NotReady };
                    self.stop_on_dead_hosts();
                }
            }
            Event::Drain(host) => {
                if self.all_hosts_are_up() && self.everyone_serves() {
                    self.hosts[host] = Host::Cordoned;
                    self.pods.retain(|_, pod| pod.host != Some(host));
                }
            }
            Event::FillDisk(ordinal) => {
                if self.everyone_serves()
                    && let Some(claim) = self.claims.get_mut(&ordinal)
                {
                    claim.is_full = true;
                    self.kubernetes();
                }
            }
            Event::ScaleByHand(replicas) => {
                if let Some(set) = &mut self.set {
                    set.replicas = replicas;
                    self.kubernetes();
                }
            }
            Event::RestartOperator => {
                self.absences.clear();
                self.refused_growth = None;
            }
            Event::DenyPods(is_denied) => self.denied = is_denied.then_some(Duration::ZERO),
            Event::AllowGrowth(can_grow) => self.can_grow = can_grow,
            Event::RestoreHosts => {
                self.hosts = [Host::Up; HOSTS];
                self.kubernetes();
            }
            Event::LoseVolume(ordinal) => {
                if self.everyone_serves() && self.claims.remove(&ordinal).is_some() {
                    self.pods.remove(&ordinal);
                }
            }
            Event::ForeignVolume(ordinal) => {
                if self.everyone_serves()
                    && let Some(claim) = self.claims.get_mut(&ordinal)
                {
                    claim.disk = None;
                    claim.is_foreign = true;
                    self.kubernetes();
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
        self.hosts = [Host::Up; HOSTS];
        self.desired.state = RunState::Running;
        self.templates.remove(&self.template);
        self.denied = None;
        self.can_grow = true;
        self.refused_growth = None;
        if self.claims.values().any(|claim| claim.is_full) {
            self.desired.storage_bytes += 1;
        }
        let (claims, pods) = (&mut self.claims, &mut self.pods);
        claims.retain(|ordinal, claim| {
            if claim.is_foreign {
                pods.remove(ordinal);
            }
            !claim.is_foreign
        });
        if is_host_lost {
            for _ in 0..PATIENCE {
                if self.everyone_serves() && !self.members.is_empty() {
                    break;
                }
                self.tick();
            }
            self.happen(Event::LoseHost {
                host: 0,
                is_gone: false,
            });
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

    fn all_hosts_are_up(&self) -> bool {
        self.hosts.iter().all(|host| *host == Host::Up)
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
        self.count_absences();
        let observed = self.observe();
        let decided = plan(&self.desired, &observed);
        self.apply(&decided);
        if let Step::Act(action) = &decided.step {
            self.carry_out(action);
        }
        self.assert_data(&format!("{:?}", decided.step));
        if let Some(time) = &mut self.denied {
            *time += TICK;
        }
        self.last = Some(decided);
    }
}
