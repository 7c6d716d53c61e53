//! The world: objects by their paths, machines, and members that move replicas.
//!
//! Invariant: time passes only in [`World::tick`]; between two ticks only the operator changes anything.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use lockstep_operator::cluster::validate::bytes;
use lockstep_proto::cluster::v1::{
    GetStatusResponse, NodeLifecycle, NodeStatus, ReplicaStatus, ShardStatus,
};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;

use crate::member::address;

pub(crate) type Shared = Arc<Mutex<World>>;

const SHARDS: u32 = 3;
const REPLICATION_FACTOR: u32 = 3;
/// How much time passes at a tick: more than the operator waits for machines.
const TICK: Duration = Duration::from_secs(60);

/// Why a request is not granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    NotFound,
    Conflict,
    TooManyRequests,
    Invalid,
    Broken,
}

impl Refused {
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Conflict => 409,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::Broken => 500,
        }
    }
}

#[derive(Debug)]
struct Member {
    ordinal: u32,
    /// The volume with its data.
    claim: String,
    lifecycle: NodeLifecycle,
}

/// What there is.
pub(crate) struct World {
    network: Ipv4Addr,
    /// By `plural/name`.
    objects: BTreeMap<String, Value>,
    cluster_id: String,
    /// By pod: what another cluster's node answers at its address.
    foreign: BTreeMap<u32, GetStatusResponse>,
    members: BTreeMap<u64, Member>,
    /// Voters of each shard.
    shards: Vec<BTreeSet<u64>>,
    /// Of the members' tables.
    pub(crate) revision: u64,
    /// Volumes on machines that are gone.
    lost: BTreeSet<String>,
    /// Volumes whose pods do not become ready.
    stopped: BTreeSet<String>,
    next: u64,
    now: Instant,
    /// Changes that the operator has made; and in all.
    changes: u32,
    moves: u32,
    /// After which change it is killed; and the next ones, each after so many changes.
    kill: Option<u32>,
    kills: Vec<u32>,
    /// How often it was killed.
    deaths: u32,
    is_killed: bool,
    killed: Arc<Notify>,
    harm: Vec<String>,
    /// A kind whose objects are refused.
    denied: Option<&'static str>,
    /// A kind that cannot be read.
    unreadable: Option<&'static str>,
    /// A quota allows no further pod.
    is_pod_denied: bool,
    /// The volumes' class does not let them grow.
    is_growth_denied: bool,
    /// Somebody else's evictions leave no room for the operator's.
    is_eviction_denied: bool,
    /// How often leads were to be handed over.
    pub(crate) transfers: u32,
}

impl World {
    /// With a cluster that nobody has seen yet.
    pub(crate) fn new(network: Ipv4Addr, spec: Value) -> Self {
        let mut world = Self {
            network,
            cluster_id: "c".repeat(32),
            foreign: BTreeMap::new(),
            objects: BTreeMap::new(),
            members: BTreeMap::new(),
            shards: Vec::new(),
            revision: 1,
            lost: BTreeSet::new(),
            stopped: BTreeSet::new(),
            next: 0,
            now: Instant::now(),
            changes: 0,
            moves: 0,
            kill: None,
            kills: Vec::new(),
            deaths: 0,
            is_killed: false,
            killed: Arc::default(),
            harm: Vec::new(),
            denied: None,
            unreadable: None,
            is_pod_denied: false,
            is_growth_denied: false,
            is_eviction_denied: false,
            transfers: 0,
        };
        let mut cluster = json!({
            "apiVersion": "lockstep.dev/v1alpha1", "kind": "SyncCluster",
            "metadata": {"name": "demo", "namespace": "default", "uid": "cluster", "generation": 1},
            "spec": {"shards": SHARDS - 1, "replaceLostNodesAfter": "30s", "storage": {"reclaimPolicy": "Delete"}},
        });
        merge(&mut cluster["spec"], &spec);
        world.put("syncclusters/demo", cluster);
        world
    }

    pub(crate) fn cluster(&self) -> Value {
        self.objects["syncclusters/demo"].clone()
    }

    pub(crate) fn patch_spec(&mut self, patch: &Value) {
        let mut cluster = self.cluster();
        merge(&mut cluster["spec"], patch);
        cluster["metadata"]["generation"] =
            json!(cluster["metadata"]["generation"].as_u64().unwrap() + 1);
        self.put("syncclusters/demo", cluster);
    }

    /// Somebody else makes an object.
    pub(crate) fn plant(&mut self, path: &str, object: Value) {
        self.put(path, object);
    }

    /// A webhook denies every object of a kind.
    pub(crate) fn deny(&mut self, plural: &'static str) {
        self.denied = Some(plural);
    }

    /// Nothing is denied any more.
    pub(crate) fn allow(&mut self) {
        self.denied = None;
        self.unreadable = None;
        self.is_pod_denied = false;
        self.is_growth_denied = false;
        self.is_eviction_denied = false;
    }

    /// Every object of a kind cannot be read.
    pub(crate) fn hide(&mut self, plural: &'static str) {
        self.unreadable = Some(plural);
    }

    pub(crate) fn is_hidden(&self, plural: &str) -> bool {
        self.unreadable == Some(plural)
    }

    /// A quota allows no further pod.
    pub(crate) fn deny_pods(&mut self) {
        self.is_pod_denied = true;
    }

    /// The volumes' class does not let them grow.
    pub(crate) fn deny_growth(&mut self) {
        self.is_growth_denied = true;
    }

    /// Somebody else's evictions leave no room for the operator's.
    pub(crate) fn deny_evictions(&mut self) {
        self.is_eviction_denied = true;
    }

    /// What the StatefulSet's controller says about pods that it could not create.
    pub(crate) fn creation_failures(&self) -> Vec<Value> {
        let Ok(set) = self.get("statefulsets", "demo") else {
            return Vec::new();
        };
        let missing = (0..replicas(&set)).filter(|at| !self.objects.contains_key(&pod_path(*at)));
        let events = missing.filter(|_| self.is_pod_denied).map(|at| {
            json!({
                "metadata": {"name": format!("demo.{at}")}, "involvedObject": {"kind": "StatefulSet", "name": "demo"},
                "reason": "FailedCreate", "lastTimestamp": "2026-01-01T00:00:00Z",
                "message": format!("create Pod demo-{at} in StatefulSet demo failed error: exceeded quota"),
            })
        });
        events.collect()
    }

    /// The SyncCluster is deleted, and what belongs to it is left or goes; another of its name is made.
    pub(crate) fn delete_cluster(&mut self, is_orphaning: bool, spec: &Value) {
        let mut cluster = self.objects.remove("syncclusters/demo").unwrap();
        if is_orphaning {
            for object in self.objects.values_mut() {
                object["metadata"]
                    .as_object_mut()
                    .unwrap()
                    .remove("ownerReferences");
            }
        } else {
            self.objects
                .retain(|path, _| path.starts_with("persistentvolumeclaims/"));
        }
        cluster["metadata"] =
            json!({"name": "demo", "namespace": "default", "uid": "cluster-2", "generation": 1});
        cluster.as_object_mut().unwrap().remove("status");
        merge(&mut cluster["spec"], spec);
        self.put("syncclusters/demo", cluster);
    }

    /// A volume loses its labels, as one that is restored from a snapshot under its name.
    pub(crate) fn strip_volume(&mut self, ordinal: u32) {
        let path = claim_path(ordinal);
        let mut claim = self.objects[&path].clone();
        let metadata = claim["metadata"].as_object_mut().unwrap();
        metadata.remove("labels");
        metadata.remove("annotations");
        self.put(&path, claim);
    }

    /// A pod is deleted, as by a crash of its machine's kubelet.
    pub(crate) fn delete_pod(&mut self, ordinal: u32) {
        self.objects.remove(&pod_path(ordinal));
    }

    /// The machine of a pod goes, with its volume, and does not come back.
    pub(crate) fn lose_machine(&mut self, ordinal: u32) {
        let claim = uid(&self.objects[&claim_path(ordinal)]);
        self.lost.insert(claim);
    }

    /// A pod is not ready any more, and stays so; its machine is there.
    pub(crate) fn stop_pod(&mut self, ordinal: u32) {
        let claim = uid(&self.objects[&claim_path(ordinal)]);
        self.stopped.insert(claim);
    }

    /// The volume of a pod goes, and the pod with it.
    pub(crate) fn lose_volume(&mut self, ordinal: u32) {
        self.objects.remove(&claim_path(ordinal));
        self.objects.remove(&pod_path(ordinal));
    }

    /// A pod's address is answered by a node of another cluster from now on.
    pub(crate) fn answer_as(&mut self, ordinal: u32, status: GetStatusResponse) {
        self.foreign.insert(ordinal, status);
    }

    /// A person recovers the cluster, which has this id then.
    pub(crate) fn recover(&mut self, id: &str) {
        id.clone_into(&mut self.cluster_id);
        self.revision += 1;
    }

    /// Somebody annotates the SyncCluster.
    pub(crate) fn annotate(&mut self, annotation: &str, value: &Value) {
        let mut cluster = self.cluster();
        merge(
            &mut cluster["metadata"]["annotations"],
            &json!({annotation: value}),
        );
        self.put("syncclusters/demo", cluster);
    }

    // --- the operator's death ---

    /// From now on changes are counted, and after this one the operator hears nothing more.
    pub(crate) fn kill_after(&mut self, change: Option<u32>) {
        self.changes = 0;
        self.kill = change;
    }

    /// The operator is killed again and again, each time after so many changes.
    pub(crate) fn kill_each(&mut self, mut after: Vec<u32>) {
        self.kill_after(after.pop());
        self.kills = after;
    }

    pub(crate) const fn deaths(&self) -> u32 {
        self.deaths
    }

    pub(crate) fn killed(&self) -> Arc<Notify> {
        Arc::clone(&self.killed)
    }

    /// True once, after the change that it was to be killed after.
    pub(crate) fn is_killed(&mut self) -> bool {
        let is_killed = std::mem::take(&mut self.is_killed);
        if is_killed {
            self.deaths += 1;
            self.killed.notify_one();
            if let Some(next) = self.kills.pop() {
                self.kill_after(Some(next));
            }
        }
        is_killed
    }

    pub(crate) const fn changes(&self) -> u32 {
        self.changes
    }

    /// Counts whatever changes, by whomever.
    pub(crate) const fn moves(&self) -> u32 {
        self.moves
    }

    fn changed(&mut self) {
        self.changes += 1;
        self.moves += 1;
        if self.kill == Some(self.changes) {
            self.is_killed = true;
        }
    }

    // --- what is asked of the API server ---

    /// A machine has its pod's number, and its Node is there.
    pub(crate) fn machine(&self, name: &str) -> Value {
        let claim = self.objects.get(&claim_path(ordinal(name)));
        let is_up = claim.is_none_or(|claim| !self.lost.contains(&uid(claim)));
        json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": name}, "status": {"conditions": [
            {"type": "Ready", "status": if is_up { "True" } else { "Unknown" }},
        ]}})
    }

    pub(crate) const fn now(&self) -> Instant {
        self.now
    }

    pub(crate) fn list(&self, plural: &str) -> Vec<Value> {
        let all = self.objects.iter();
        all.filter(|(path, _)| path.split('/').next() == Some(plural))
            .map(|(_, object)| object.clone())
            .collect()
    }

    pub(crate) fn get(&self, plural: &str, name: &str) -> Result<Value, Refused> {
        let found = self.objects.get(&format!("{plural}/{name}"));
        found.cloned().ok_or(Refused::NotFound)
    }

    /// `is_whole`: what is not in the patch any more goes.
    pub(crate) fn patch(
        &mut self,
        plural: &str,
        name: &str,
        patch: &Value,
        is_apply: bool,
        is_whole: bool,
    ) -> Result<Value, Refused> {
        let is_growth = plural == "persistentvolumeclaims" && patch.get("spec").is_some();
        if self.denied == Some(plural) || (is_growth && self.is_growth_denied) {
            return Err(Refused::Invalid);
        }
        let path = format!("{plural}/{name}");
        let asked = patch.pointer("/metadata/uid").and_then(Value::as_str);
        let version = patch.pointer("/metadata/resourceVersion");
        let before = self.objects.get(&path).cloned();
        let mut object = match &before {
            Some(object) if asked.is_some_and(|asked| asked != uid(object)) => {
                return Err(Refused::Conflict);
            }
            Some(object)
                if version
                    .is_some_and(|version| *version != object["metadata"]["resourceVersion"]) =>
            {
                return Err(Refused::Conflict);
            }
            Some(object) => object.clone(),
            None if !is_apply || asked.is_some() => return Err(Refused::NotFound),
            None => json!({"metadata": {"uid": self.number(), "generation": 0}}),
        };
        if is_whole {
            for field in ["/spec", "/metadata/annotations"] {
                if let Some(old) = object.pointer_mut(field) {
                    *old = Value::Object(Map::new());
                }
            }
        }
        merge(&mut object, patch);
        let size = "/spec/volumeClaimTemplates/0/spec/resources/requests/storage";
        if let Some(size) = object.pointer_mut(size) {
            *size = json!(canonical(size.as_str().unwrap()));
        }
        if before.as_ref().is_some_and(|before| same(before, &object)) {
            return Ok(object);
        }
        if before.as_ref().map(|before| &before["spec"]) != Some(&object["spec"]) {
            let generation = object["metadata"]["generation"].as_u64().unwrap_or(0);
            object["metadata"]["generation"] = json!(generation + 1);
        }
        if plural == "statefulsets" {
            self.check_set(before.as_ref(), &object)?;
        }
        let object = self.put(&path, object);
        self.changed();
        Ok(object)
    }

    pub(crate) fn patch_status(
        &mut self,
        plural: &str,
        name: &str,
        patch: &Value,
    ) -> Result<Value, Refused> {
        let before = self.get(plural, name)?;
        let mut object = before.clone();
        merge(&mut object["status"], &patch["status"]);
        if same(&before, &object) {
            return Ok(object);
        }
        let object = self.put(&format!("{plural}/{name}"), object);
        self.changed();
        Ok(object)
    }

    pub(crate) fn delete(
        &mut self,
        plural: &str,
        name: &str,
        conditions: Option<&Value>,
    ) -> Result<(), Refused> {
        let path = format!("{plural}/{name}");
        let object = self.objects.get(&path).ok_or(Refused::NotFound)?;
        for (condition, field) in [("uid", "uid"), ("resourceVersion", "resourceVersion")] {
            let wanted = conditions.and_then(|conditions| conditions.get(condition));
            if wanted.is_some_and(|wanted| *wanted != object["metadata"][field]) {
                return Err(Refused::Conflict);
            }
        }
        match plural {
            "pods" => self.check_pod(name),
            "persistentvolumeclaims" => self.check_claim(name),
            _ => {}
        }
        self.objects.remove(&path);
        self.changed();
        Ok(())
    }

    pub(crate) fn evict(
        &mut self,
        name: &str,
        conditions: Option<&Value>,
        is_trial: bool,
    ) -> Result<(), Refused> {
        self.get("pods", name)?;
        if self.is_eviction_denied {
            return Err(Refused::TooManyRequests);
        }
        let others = self.list("pods");
        if others
            .iter()
            .any(|pod| pod["metadata"]["name"] != name && !is_ready(pod))
        {
            return Err(Refused::TooManyRequests);
        }
        let evicted = ordinal(name);
        for (id, member) in &self.members {
            if member.ordinal == evicted && self.would_lose_majority(*id) {
                self.harm
                    .push(format!("{name} is evicted, and a majority is gone"));
            }
        }
        let path = format!("pods/{name}");
        let wanted = conditions.and_then(|conditions| conditions.get("uid"));
        if wanted.is_some_and(|wanted| *wanted != self.objects[&path]["metadata"]["uid"]) {
            return Err(Refused::Conflict);
        }
        if is_trial {
            return Ok(());
        }
        self.objects.remove(&path);
        self.changed();
        Ok(())
    }

    // --- what would harm ---

    pub(crate) fn harm(&self) -> &[String] {
        &self.harm
    }

    fn would_lose_majority(&self, without: u64) -> bool {
        self.shards.iter().any(|shard| {
            let good = shard
                .iter()
                .filter(|id| **id != without && self.is_serving(**id));
            good.count() <= shard.len() / 2
        })
    }

    fn check_set(&mut self, before: Option<&Value>, set: &Value) -> Result<(), Refused> {
        let Some(before) = before else { return Ok(()) };
        let volumes = |set: &Value| set["spec"]["volumeClaimTemplates"].clone();
        if volumes(before) != volumes(set) {
            return Err(Refused::Invalid);
        }
        let (from, to) = (replicas(before), replicas(set));
        // Stopped, where all go and come back.
        if to != 0 {
            for (id, member) in &self.members {
                if (to..from).contains(&member.ordinal) && self.placed(*id) > 0 {
                    self.harm
                        .push(format!("pod {} goes with replicas", member.ordinal));
                }
            }
        }
        Ok(())
    }

    fn check_pod(&mut self, name: &str) {
        let pod = &self.objects[&format!("pods/{name}")];
        let is_needed = self.members.iter().any(|(id, member)| {
            member.ordinal == ordinal(name)
                && member.lifecycle == NodeLifecycle::Active
                && self.is_serving(*id)
                && self.placed(*id) > 0
        });
        if is_ready(pod) && is_needed {
            self.harm.push(format!("{name} serves and is deleted"));
        }
    }

    fn check_claim(&mut self, name: &str) {
        let claim = uid(&self.objects[&format!("persistentvolumeclaims/{name}")]);
        for (id, member) in &self.members {
            let is_empty = member.lifecycle == NodeLifecycle::Draining && self.placed(*id) == 0;
            if member.claim == claim && member.lifecycle != NodeLifecycle::Lost && !is_empty {
                self.harm.push(format!("the data of node {id} is deleted"));
            }
        }
    }

    // --- what is asked of the members ---

    /// True if the pod's node is a member and serves.
    pub(crate) fn serves(&self, ordinal: u32) -> bool {
        let mut members = self.members.iter();
        members.any(|(id, member)| member.ordinal == ordinal && self.is_serving(*id))
    }

    pub(crate) fn is_foreign(&self, ordinal: u32) -> bool {
        self.foreign.contains_key(&ordinal)
    }

    pub(crate) fn report_harm(&mut self, what: String) {
        self.harm.push(what);
    }

    /// Every member is here and none is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.has(REPLICATION_FACTOR)
    }

    /// So many members are here, and each serves.
    pub(crate) fn has(&self, nodes: u32) -> bool {
        self.members.len() == nodes as usize && self.members.keys().all(|id| self.is_serving(*id))
    }

    /// Every shard keeps a majority without any one of its voters.
    pub(crate) fn survives_any_loss(&self) -> bool {
        let mut voters = self.shards.iter().flatten();
        voters.all(|id| !self.would_lose_majority(*id))
    }

    pub(crate) fn set_lifecycle(&mut self, id: u64, lifecycle: NodeLifecycle) {
        if lifecycle == NodeLifecycle::Lost && (self.is_serving(id) || self.would_lose_majority(id))
        {
            self.harm.push(format!("node {id} is declared lost"));
        }
        let member = self.members.get_mut(&id).unwrap();
        if member.lifecycle != lifecycle {
            member.lifecycle = lifecycle;
            self.revision += 1;
            self.changed();
        }
    }

    pub(crate) fn remove(&mut self, id: u64) {
        if self.placed(id) > 0 {
            self.harm
                .push(format!("node {id} is removed with replicas"));
        }
        if self.members.remove(&id).is_some() {
            self.revision += 1;
            self.changed();
        }
    }

    /// What is answered at a pod's address, if anything.
    pub(crate) fn status(&self, ordinal: u32) -> Option<GetStatusResponse> {
        if let Some(foreign) = self.foreign.get(&ordinal) {
            return Some(foreign.clone());
        }
        let mut members = self.members.iter();
        let (id, _) =
            members.find(|(id, member)| member.ordinal == ordinal && self.is_serving(**id))?;
        Some(GetStatusResponse {
            answered_by: *id,
            ..self.tables()
        })
    }

    /// What every member says.
    pub(crate) fn tables(&self) -> GetStatusResponse {
        let leader = |shard: &BTreeSet<u64>| shard.iter().find(|id| self.is_serving(**id)).copied();
        let nodes = self.members.iter().map(|(id, member)| {
            let led = self
                .shards
                .iter()
                .filter(|shard| leader(shard) == Some(*id));
            NodeStatus {
                node_id: *id,
                name: format!("demo-{}", member.ordinal),
                version: "1".to_owned(),
                reachable: self.is_serving(*id),
                ready: self.is_serving(*id),
                shards_led: u32::try_from(led.count()).unwrap(),
                shards_held: self.placed(*id),
                shards_placed: self.placed(*id),
                lifecycle: member.lifecycle.into(),
                ..NodeStatus::default()
            }
        });
        let shards = self
            .shards
            .iter()
            .enumerate()
            .map(|(at, shard)| ShardStatus {
                shard: u32::try_from(at).unwrap(),
                leader: leader(shard).unwrap_or(0),
                replicas: shard
                    .iter()
                    .map(|id| ReplicaStatus {
                        node_id: *id,
                        voter: true,
                        ..ReplicaStatus::default()
                    })
                    .collect(),
                ..ShardStatus::default()
            });
        GetStatusResponse {
            cluster_id: self.cluster_id.clone(),
            nodes: nodes.collect(),
            shards: shards.collect(),
            revision: self.revision,
            settled: self.is_settled(),
            replication_factor: REPLICATION_FACTOR,
            ..GetStatusResponse::default()
        }
    }

    fn is_settled(&self) -> bool {
        let mut placed = self.shards.iter().flatten();
        placed.all(|id| self.members[id].lifecycle == NodeLifecycle::Active)
    }

    fn is_serving(&self, id: u64) -> bool {
        let Some(member) = self.members.get(&id) else {
            return false;
        };
        let claim = self.objects.get(&claim_path(member.ordinal));
        let pod = self.objects.get(&pod_path(member.ordinal));
        claim.is_some_and(|claim| uid(claim) == member.claim) && pod.is_some_and(is_ready)
    }

    fn placed(&self, id: u64) -> u32 {
        let shards = self.shards.iter().filter(|shard| shard.contains(&id));
        u32::try_from(shards.count()).unwrap()
    }

    // --- what happens by itself ---

    /// Lets the StatefulSet's controller, the machines and the members do what they do.
    pub(crate) fn tick(&mut self) {
        self.now += TICK;
        let before = (self.objects.clone(), self.revision);
        self.pods();
        self.join();
        self.move_one_replica();
        if (&self.objects, self.revision) != (&before.0, before.1) {
            self.moves += 1;
        }
    }

    fn pods(&mut self) {
        let Some(mut set) = self.objects.get("statefulsets/demo").cloned() else {
            return;
        };
        let revision = hash(&set["spec"]["template"]);
        let status = json!({"observedGeneration": set["metadata"]["generation"], "updateRevision": revision,
            "replicas": replicas(&set)});
        if set["status"] != status {
            set["status"] = status;
            self.put("statefulsets/demo", set.clone());
        }
        let template = set["spec"]["template"].clone();
        for pod in self.list("pods") {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            if ordinal(&name) >= replicas(&set) {
                self.objects.remove(&format!("pods/{name}"));
            }
        }
        for ordinal in 0..replicas(&set) {
            self.start(ordinal, &set, &template, &revision);
        }
    }

    /// One step of a pod's way: its volume and itself, and then its readiness.
    fn start(&mut self, ordinal: u32, set: &Value, template: &Value, revision: &str) {
        let (claim, pod) = (claim_path(ordinal), pod_path(ordinal));
        if !self.objects.contains_key(&claim) {
            let mut made = set["spec"]["volumeClaimTemplates"][0].clone();
            made["metadata"]["name"] = json!(format!("data-demo-{ordinal}"));
            made["metadata"]["uid"] = json!(self.number());
            self.put(&claim, made);
        }
        let mut claimed = self.objects[&claim].clone();
        let asked = claimed["spec"]["resources"]["requests"]["storage"].clone();
        if claimed["status"]["capacity"]["storage"] != asked {
            claimed["status"] = json!({"capacity": {"storage": asked}});
            self.put(&claim, claimed.clone());
        }
        let Some(mut running) = self.objects.get(&pod).cloned() else {
            if self.is_pod_denied {
                return;
            }
            let mut made = template.clone();
            made["metadata"]["name"] = json!(format!("demo-{ordinal}"));
            made["metadata"]["uid"] = json!(self.number());
            made["metadata"]["creationTimestamp"] = json!(Timestamp::now().to_string());
            made["spec"]["nodeName"] = json!(format!("machine-{ordinal}"));
            made["metadata"]["labels"]["controller-revision-hash"] = json!(revision);
            self.put(&pod, made);
            return;
        };
        let claim = uid(&claimed);
        let is_up = !self.lost.contains(&claim) && !self.stopped.contains(&claim);
        let is_bad = running["spec"]["containers"][0]["image"] == "bad";
        let mut status = json!({"podIP": address(self.network, ordinal).to_string(), "conditions": [
            {"type": "Ready", "status": if is_up && !is_bad { "True" } else { "False" }},
        ]});
        if is_up && !is_bad {
            status["containerStatuses"] = json!([{"name": "lockstep", "image": "", "imageID": "", "ready": true,
                "restartCount": 0, "state": {"running": {}}}]);
        }
        if is_bad {
            status["containerStatuses"] = json!([{"name": "lockstep", "image": "bad", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "ImagePullBackOff"}}}]);
        }
        // Only its readiness changes.
        if running.pointer("/status/conditions/0/status") != status.pointer("/conditions/0/status")
            || running.pointer("/status/containerStatuses") != status.pointer("/containerStatuses")
        {
            running["status"] = status;
            self.put(&pod, running);
        }
    }

    fn join(&mut self) {
        let empty: Vec<(u32, String)> = (0..99)
            .filter(|ordinal| self.objects.get(&pod_path(*ordinal)).is_some_and(is_ready))
            .filter_map(|ordinal| Some((ordinal, uid(self.objects.get(&claim_path(ordinal))?))))
            .filter(|(_, claim)| self.members.values().all(|member| member.claim != *claim))
            .collect();
        let can_found = self.members.is_empty() && empty.len() >= REPLICATION_FACTOR as usize;
        let has_quorum = self
            .shards
            .iter()
            .all(|shard| shard.iter().filter(|id| self.is_serving(**id)).count() > shard.len() / 2);
        if !can_found && (self.members.is_empty() || !has_quorum) {
            return;
        }
        for (ordinal, claim) in empty {
            // Numbers are for members alone, so that histories end alike.
            let id = self.members.keys().next_back().map_or(1, |last| last + 1);
            let lifecycle = NodeLifecycle::Active;
            self.members.insert(
                id,
                Member {
                    ordinal,
                    claim,
                    lifecycle,
                },
            );
            self.revision += 1;
        }
        if can_found {
            let founders: BTreeSet<u64> = (1..=u64::from(REPLICATION_FACTOR)).collect();
            self.shards = vec![founders; SHARDS as usize];
        }
    }

    fn move_one_replica(&mut self) {
        for at in 0..self.shards.len() {
            let shard = &self.shards[at];
            let from = shard
                .iter()
                .find(|id| self.members[id].lifecycle != NodeLifecycle::Active);
            let to = self.members.iter().find(|(id, member)| {
                member.lifecycle == NodeLifecycle::Active
                    && self.is_serving(**id)
                    && !shard.contains(id)
            });
            if let (Some(&from), Some((&to, _))) = (from, to) {
                self.shards[at].remove(&from);
                self.shards[at].insert(to);
                self.revision += 1;
                return;
            }
        }
    }

    fn put(&mut self, path: &str, mut object: Value) -> Value {
        object["metadata"]["resourceVersion"] = json!(self.number());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn number(&mut self) -> String {
        self.next += 1;
        self.next.to_string()
    }

    /// All that lasts, without what differs from one history to another: unique ids, versions, times.
    pub(crate) fn picture(&self) -> Value {
        let objects = self.objects.iter().map(|(path, object)| {
            let mut object = object.clone();
            strip(&mut object);
            (path.clone(), object)
        });
        let members = self.members.iter().map(|(id, member)| {
            let is_here = self.is_serving(*id);
            let replicas = self.placed(*id) > 0;
            json!([
                member.ordinal,
                member.lifecycle.as_str_name(),
                is_here,
                replicas
            ])
        });
        let members: BTreeSet<String> = members.map(|member| member.to_string()).collect();
        json!({"objects": objects.collect::<Map<_, _>>(), "members": members})
    }
}

/// Takes away what differs from one history to another.
fn strip(object: &mut Value) {
    match object {
        Value::Object(fields) => {
            for name in [
                "uid",
                "resourceVersion",
                "lastTransitionTime",
                "creationTimestamp",
                "generation",
                "observedGeneration",
                "id",
                "shardsLed",
                "shardsHeld",
            ] {
                fields.remove(name);
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn same(one: &Value, other: &Value) -> bool {
    let without = |object: &Value| {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("resourceVersion");
        }
        object
    };
    without(one) == without(other)
}

/// As of RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (name, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut into[name], value);
        }
    }
}

/// An amount as the API server spells it.
fn canonical(size: &str) -> String {
    const GIB: u64 = 1 << 30;
    let bytes = bytes(size).unwrap();
    assert_eq!(bytes % GIB, 0, "{size} is no size of this world");
    format!("{}Gi", bytes / GIB)
}

fn hash(value: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    value.to_string().hash(&mut hasher);
    format!("{:x}", hasher.finish())
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

fn is_ready(pod: &Value) -> bool {
    pod.pointer("/status/conditions/0/status")
        .is_some_and(|ready| ready == "True")
}

fn replicas(set: &Value) -> u32 {
    u32::try_from(set["spec"]["replicas"].as_u64().unwrap_or(0)).unwrap()
}

fn ordinal(pod: &str) -> u32 {
    pod.rsplit('-').next().unwrap().parse().unwrap()
}

fn claim_path(ordinal: u32) -> String {
    format!("persistentvolumeclaims/data-demo-{ordinal}")
}

fn pod_path(ordinal: u32) -> String {
    format!("pods/demo-{ordinal}")
}
