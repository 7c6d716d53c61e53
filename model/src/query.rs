//! What a shard can be asked without changing it. Served by the leader after a ReadIndex round.

mod codec;

use std::collections::BTreeMap;

use crate::{
    command::Labels,
    id::{
        FencingToken, LockName, Millis, NodeId, Owner, Party, Priority, Revision, SessionEpoch,
        SessionId, ShardId, Timestamp,
    },
    locks::deadlock::{Blocked, Deadlock, Edge},
    locks::mode::Mode,
    meta::{Lifecycle, NodeRecord, Placement, Settings},
    value::Value,
};

/// Most rows in one answer: bounds the size of a message.
pub const MAX_PAGE: u32 = 1_000;
/// Most waiters listed for one lock: the head of the queue is what one looks at.
pub const MAX_LISTED_WAITERS: usize = 100;

/// A question. Encoded with [`Query::encode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// One lock.
    Lock {
        /// Which.
        name: LockName,
    },
    /// Locks by name, after one, by prefix.
    Locks {
        /// Only names that begin so.
        prefix: String,
        /// Only names greater than this.
        after: Option<LockName>,
        /// At most this many, 1..=[`MAX_PAGE`].
        limit: u32,
    },
    /// Is this token that of a present holder?
    Validate {
        /// Of which lock.
        name: LockName,
        /// Which token.
        token: FencingToken,
        /// Only if this session holds it, where given.
        session: Option<SessionId>,
    },
    /// Sessions by id whose home this shard is.
    Sessions {
        /// Only ids greater than this.
        after: Option<SessionId>,
        /// At most this many, 1..=[`MAX_PAGE`].
        limit: u32,
    },
    /// The meta shard's tables.
    Cluster,
    /// In which shards sessions may hold or wait, of those whose home this shard is.
    Touched {
        /// Which: at most [`crate::locks::deadlock::MAX_ASKED`].
        sessions: Vec<SessionId>,
    },
    /// What parties wait for in this shard, and for whom.
    Waits {
        /// Which: at most [`crate::locks::deadlock::MAX_ASKED`].
        parties: Vec<Party>,
    },
    /// Do all these waits and holds of this shard stand?
    Stand {
        /// Which: at most [`crate::locks::deadlock::MAX_CYCLE`].
        edges: Vec<Edge>,
    },
    /// The deadlocks that were broken last.
    Deadlocks,
    /// How many changes there were.
    Revision,
}

/// An answer. Encoded with [`Answer::encode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One lock; one that nobody holds or waits for has no holders and no waiters.
    Lock(LockView),
    /// A page of locks that are held or waited for, by name.
    Locks(Vec<LockView>),
    /// Whether the token is valid.
    Valid(bool),
    /// A page of sessions, by id.
    Sessions(Vec<SessionView>),
    /// The meta shard's tables; none before it was founded.
    Cluster(Option<ClusterView>),
    /// This shard does not serve such questions.
    WrongShard,
    /// The shards of those sessions that are open, the home among them.
    Touched(Vec<(SessionId, Vec<ShardId>)>),
    /// The waits.
    Waits(Vec<Blocked>),
    /// Whether they stand.
    Stand(bool),
    /// Broken deadlocks.
    Deadlocks {
        /// How many there were.
        count: u64,
        /// The last of them, the oldest first.
        last: Vec<Deadlock>,
    },
    /// The last change's number.
    Revision(Revision),
}

/// A lock as seen from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockView {
    /// Its name.
    pub name: LockName,
    /// Who holds it.
    pub holders: Vec<HolderView>,
    /// Who waits, from the head; at most [`MAX_LISTED_WAITERS`].
    pub waiters: Vec<WaiterView>,
    /// How many wait.
    pub waiter_count: u32,
}

/// A holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HolderView {
    /// Whose.
    pub session: SessionId,
    /// Which of its owners.
    pub owner: Owner,
    /// How.
    pub mode: Mode,
    /// Under which token.
    pub token: FencingToken,
    /// How often.
    pub holds: u32,
    /// Since when.
    pub since: Timestamp,
    /// What it says.
    pub value: Value,
}

/// A waiter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiterView {
    /// Whose.
    pub session: SessionId,
    /// Which of its owners.
    pub owner: Owner,
    /// For which mode.
    pub mode: Mode,
    /// True for a shared holder that waits to be exclusive.
    pub upgrade: bool,
    /// Since when.
    pub since: Timestamp,
}

/// A session as its home sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Which.
    pub session: SessionId,
    /// Its TTL.
    pub ttl: Millis,
    /// Its epoch.
    pub epoch: SessionEpoch,
    /// Its priority.
    pub priority: Priority,
    /// What its client said about it.
    pub labels: Labels,
    /// When it was opened.
    pub opened: Timestamp,
    /// Other shards that it may hold something in.
    pub touched: Vec<ShardId>,
    /// True while it is being released.
    pub ending: bool,
}

/// The meta shard's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterView {
    /// The cluster.
    pub cluster: crate::id::ClusterId,
    /// Shards and replication factor.
    pub settings: Settings,
    /// The nodes.
    pub nodes: Vec<NodeRecord>,
    /// Where each shard lives.
    pub placement: Placement,
    /// The greatest node id ever given.
    pub last_node: NodeId,
    /// Grows with every change of these tables; 1 when founded.
    pub revision: u64,
    /// The nodes that are not active.
    pub lifecycles: BTreeMap<NodeId, Lifecycle>,
}

impl ClusterView {
    /// What is to become of a node. One that is not in the registry is lost.
    #[must_use]
    pub fn lifecycle(&self, node: NodeId) -> Lifecycle {
        if self.nodes.iter().any(|record| record.node == node) {
            self.lifecycles.get(&node).copied().unwrap_or_default()
        } else {
            Lifecycle::Lost
        }
    }
}
