//! What there is, as plain data: pods, volumes, and what the members say.
//!
//! Invariant: nothing here can act, and there is no clock: how long something has been so is part of
//! what was seen. What the members say is kept apart from what pods look like.

use std::{collections::BTreeMap, time::Duration};

use super::identity::{Identity, Stranger};

/// Log entries that a replica may be behind and still count as caught up: under load it is never at
/// zero, and this many are sent again in far less than a second.
pub const CAUGHT_UP_LAG: u64 = 2_000;

/// The number at the end of a pod's name.
pub type Ordinal = u32;

/// Everything that the plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The StatefulSet, if it exists.
    pub set: Option<Set>,
    /// Its pods.
    pub pods: BTreeMap<Ordinal, Pod>,
    /// The pods that it should have made and has not.
    pub uncreated: BTreeMap<Ordinal, Uncreated>,
    /// Their volumes.
    pub claims: BTreeMap<Ordinal, Claim>,
    /// That volumes should have been enlarged lately and could not.
    pub refused_growth: Option<RefusedGrowth>,
    /// Which cluster it is.
    pub identity: Identity,
    /// Pods whose nodes answer as another cluster: what they say is not believed.
    pub strangers: Vec<Stranger>,
    /// What the members say; none if none of them answers.
    pub members: Option<Members>,
}

/// The StatefulSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Pods that it keeps.
    pub replicas: u32,
    /// Pods that it was last given by the operator: another number is somebody else's. None if that was
    /// not noted.
    pub recorded: Option<u32>,
    /// The revision of its template: pods of another one are outdated.
    pub revision: String,
    /// False while its controller has not seen its latest template: then `revision` is an old one.
    pub is_current: bool,
    /// The size of the volumes that it makes, in bytes.
    pub storage_bytes: u64,
    /// The pod that a scale-down is emptying: noted before the member is asked, so that a drain that
    /// a person asked for is not mistaken for it.
    pub leaving: Option<Ordinal>,
    /// It is being deleted.
    pub is_terminating: bool,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// It, and no other of its name.
    pub uid: String,
    /// It as it was seen: whatever changes of it, that it has become ready for one, changes this.
    pub version: String,
    /// Of the template that it was made from.
    pub revision: String,
    /// What it does.
    pub phase: PodPhase,
    /// For how long this operator has seen its machine away: the one it runs on, or the only one that has
    /// its volume. None while that is there, or is not known.
    pub away: Option<Duration>,
    /// For how long this operator has seen that it does not start, for a reason that Kubernetes names.
    pub troubled: Duration,
    /// The image that its node runs; none while it runs none.
    pub image: Option<String>,
}

/// A pod that should be there and is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uncreated {
    /// For how long this operator has missed it.
    pub missed: Duration,
    /// Why it is not made, if Kubernetes says so.
    pub why: Option<String>,
}

/// Volumes that could not be enlarged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedGrowth {
    /// To how much, in bytes.
    pub bytes: u64,
    /// Why not.
    pub why: String,
}

/// What a pod does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PodPhase {
    /// It is ready.
    Ready,
    /// Its node is ready, and something else in it is not.
    Impaired(String),
    /// Its node is not ready: it starts, waits for what it needs, or its machine is away.
    NotReady,
    /// It has no machine to run on.
    Unschedulable(String),
    /// Its container does not start, and only another template or a person helps.
    Stuck(String),
    /// It is being deleted.
    Terminating,
}

impl PodPhase {
    /// True if its node serves.
    #[must_use]
    pub const fn serves(&self) -> bool {
        match self {
            Self::Ready | Self::Impaired(_) => true,
            Self::NotReady | Self::Unschedulable(_) | Self::Stuck(_) | Self::Terminating => false,
        }
    }
}

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// It, and no other of its name.
    pub uid: String,
    /// What is asked for, in bytes.
    pub requested_bytes: u64,
    /// What it has, in bytes; 0 until it is bound.
    pub capacity_bytes: u64,
    /// It is being deleted.
    pub is_terminating: bool,
    /// The lost member whose data is on it, as noted before that was declared lost.
    pub node_id: Option<u64>,
}

/// What the members say about the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// Of the cluster's tables: changes are asked for under it, so that none is made by an old picture.
    pub revision: u64,
    /// All, by number.
    pub nodes: BTreeMap<u64, Member>,
    /// All.
    pub shards: Vec<Shard>,
    /// There is nothing to move, and nothing in the way.
    pub is_settled: bool,
    /// What keeps the placement from being as it should be, in words.
    pub obstacles: Vec<String>,
    /// The names of a member and of another that it does not reach, though that answers others.
    pub unheard: Option<(String, String)>,
}

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: its pod's.
    pub name: String,
    /// Its pod's number; none if it is no pod of this cluster.
    pub ordinal: Option<Ordinal>,
    /// What is to become of it.
    pub lifecycle: Lifecycle,
    /// It answers its peers.
    pub is_reachable: bool,
    /// It is ready, as it says itself.
    pub is_ready: bool,
    /// The version of its program.
    pub version: String,
    /// What it fails together with.
    pub zone: String,
    /// Shards that it leads.
    pub led: u32,
    /// Replicas that are open on it.
    pub held: u32,
    /// Replicas that the placement gives it.
    pub placed: u32,
}

/// What is to become of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// It holds its share.
    Active,
    /// It is being emptied.
    Draining,
    /// It is not expected back.
    Lost,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// 0 is the one of the cluster's own tables.
    pub id: u32,
    /// Who leads it, if anybody.
    pub leader: Option<u64>,
    /// Its replicas.
    pub replicas: Vec<Replica>,
}

/// A replica of a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// On which member.
    pub node: u64,
    /// False while it only learns.
    pub is_voter: bool,
    /// Log entries behind the leader.
    pub lag: u64,
}

impl Members {
    /// How many nodes others may evict: one, while every shard keeps a majority of up-to-date replicas
    /// without any one of them; otherwise none, however ready the pods are. A pod on an empty volume is
    /// ready long before it has a replica. A shard with a single replica has no more to lose.
    #[must_use]
    pub fn evictable(&self) -> u32 {
        let mut replicas = self.shards.iter().flat_map(|shard| {
            let voters = shard.replicas.iter().filter(|replica| replica.is_voter);
            voters.map(move |replica| (shard, replica.node))
        });
        let is_safe =
            replicas.all(|(shard, node)| shard.voters() == 1 || self.survives_without(shard, node));
        u32::from(is_safe)
    }

    /// The member that a pod is now: of several with its name the youngest, for the others' place was
    /// taken.
    #[must_use]
    pub fn of(&self, ordinal: Ordinal) -> Option<(u64, &Member)> {
        let mut found = self.nodes.iter().rev();
        let (id, member) = found.find(|(_, member)| member.ordinal == Some(ordinal))?;
        Some((*id, member))
    }

    /// True if another member has taken this one's name: its volume is gone.
    #[must_use]
    pub fn is_superseded(&self, id: u64) -> bool {
        let Some(member) = self.nodes.get(&id) else {
            return false;
        };
        let younger = self.nodes.range(id.saturating_add(1)..);
        member.ordinal.is_some()
            && younger
                .into_iter()
                .any(|(_, other)| other.name == member.name)
    }

    /// True if a pod's member answers, and some shard would have no majority without it.
    #[must_use]
    pub fn needs(&self, ordinal: Ordinal) -> bool {
        self.of(ordinal).is_some_and(|(id, member)| {
            let mut shards = self.shards.iter();
            member.is_reachable
                && shards.any(|shard| shard.is_voter(id) && !self.survives_without(shard, id))
        })
    }

    /// True if a replica can vote, with all that was agreed.
    #[must_use]
    pub fn is_good(&self, replica: &Replica) -> bool {
        let answers = self.nodes.get(&replica.node);
        replica.is_voter
            && replica.lag <= CAUGHT_UP_LAG
            && answers
                .is_some_and(|member| member.is_reachable && member.lifecycle != Lifecycle::Lost)
    }

    /// True if a shard has a majority of good voters without this member.
    #[must_use]
    pub fn survives_without(&self, shard: &Shard, without: u64) -> bool {
        let good = shard
            .replicas
            .iter()
            .filter(|replica| replica.node != without && self.is_good(replica));
        good.count() > shard.voters() / 2
    }

    /// True if a shard has a majority of voters that answer.
    #[must_use]
    pub fn has_majority(&self, shard: &Shard) -> bool {
        let answers = |replica: &&Replica| {
            replica.is_voter
                && self
                    .nodes
                    .get(&replica.node)
                    .is_some_and(|member| member.is_reachable)
        };
        shard.replicas.iter().filter(answers).count() > shard.voters() / 2
    }

    /// True if a shard is led, all its voters are good, and none is on its way in.
    #[must_use]
    pub fn is_whole(&self, shard: &Shard) -> bool {
        shard.leader.is_some() && shard.replicas.iter().all(|replica| self.is_good(replica))
    }
}

impl Shard {
    /// How many replicas vote.
    #[must_use]
    pub fn voters(&self) -> usize {
        self.replicas
            .iter()
            .filter(|replica| replica.is_voter)
            .count()
    }

    /// True if this member is one of the voters.
    #[must_use]
    pub fn is_voter(&self, node: u64) -> bool {
        self.replicas
            .iter()
            .any(|replica| replica.is_voter && replica.node == node)
    }
}
