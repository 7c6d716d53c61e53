//! What a command answers: the fact, not the words.
//!
//! Invariant: every refusal changed nothing but the de-duplication record.

mod codec;

use crate::{
    command::EndReason,
    id::{FencingToken, LockName, Millis, NodeId, SessionEpoch, SessionId, ShardId, Timestamp},
    locks::mode::{Mode, Usage},
    session::Touch,
};

/// The answer to a command. Encoded with [`Reply::encode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Done; nothing to add.
    Done,
    /// The session is open (again).
    Session {
        /// Which.
        session: SessionId,
        /// Its TTL.
        ttl: Millis,
        /// Its epoch.
        epoch: SessionEpoch,
    },
    /// The touch is recorded; the session may be attached.
    Touched {
        /// For the attach.
        touch: Touch,
        /// The session's priority, for the attach.
        priority: crate::id::Priority,
        /// When it was opened, for the attach.
        opened: Timestamp,
    },
    /// The session gets no more time.
    Revoked {
        /// How long it lasts at most: its TTL.
        lease: Millis,
    },
    /// Locks were granted, in the order in which they were asked for.
    Granted(Vec<Grant>),
    /// One hold was given back.
    Released {
        /// How many the owner has left.
        holds: u32,
    },
    /// The hold is shared now.
    Downgraded {
        /// Its token.
        token: FencingToken,
    },
    /// It was not done, for this reason.
    Refused(Refusal),
    /// The node belongs to the cluster now.
    Joined {
        /// Under this id.
        node: NodeId,
    },
    /// The meta shard's tables are as asked for.
    Changed {
        /// Their revision.
        revision: u64,
    },
}

/// One granted lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which.
    pub name: LockName,
    /// How.
    pub mode: Mode,
    /// The fencing token.
    pub token: FencingToken,
    /// How often the owner holds it now.
    pub holds: u32,
}

/// Why a command was not done. Each says what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The shard does not know the session: touch it at its home and attach it, then repeat. Never
    /// reaches clients.
    #[error("session {session} is not attached to this shard")]
    NotAttached {
        /// Which.
        session: SessionId,
    },
    /// The shard has forgotten an end that the home recorded after this touch, perhaps that of this
    /// session: touch again. Never reaches clients.
    #[error("the attach of session {session} is of an old touch: touch again")]
    AttachTooOld {
        /// Which.
        session: SessionId,
    },
    /// There is no such session.
    #[error("session {session} does not exist: it has ended, or was never opened; open another")]
    NoSession {
        /// Which.
        session: SessionId,
    },
    /// The session has ended.
    #[error("session {session} has ended ({reason:?}); what it held is released: open another")]
    SessionEnded {
        /// Which.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// A session of this id is open already.
    #[error("session {session} exists already: choose another id")]
    SessionExists {
        /// Which.
        session: SessionId,
    },
    /// The answer of this serial was acknowledged and forgotten.
    #[error(
        "the client has acknowledged the answer of serial {serial}, as those of all below {acked_below}: use a serial once"
    )]
    SerialForgotten {
        /// Which.
        serial: u64,
        /// All below are acknowledged too.
        acked_below: u64,
    },
    /// The serial was used by another kind of operation or with other arguments.
    #[error("serial {serial} was used for a different operation: use a new serial for each")]
    SerialReused {
        /// Which.
        serial: u64,
    },
    /// Too many answers are kept for the session.
    #[error(
        "session has {limit} unacknowledged operations: read answers, then acknowledge them by acked_below and acked"
    )]
    TooManyInFlight {
        /// The bound.
        limit: usize,
    },
    /// The lock is not free and the request would not wait.
    #[error("lock {name:?} is not free: wait for it, or try again later")]
    Unavailable {
        /// The first that was not free.
        name: String,
    },
    /// The wait's time is over.
    #[error("lock {name:?} did not become free in time")]
    WaitTimedOut {
        /// The one it was waiting for.
        name: String,
    },
    /// The wait was given up by its client.
    #[error("the wait for lock {name:?} was cancelled")]
    WaitCancelled {
        /// The one it was waiting for.
        name: String,
    },
    /// The acquisition was given up by its client, or by the node that had taken it.
    #[error("the acquisition of serial {serial} was given up: nothing of it is held")]
    Abandoned {
        /// Which.
        serial: u64,
    },
    /// There is no such wait (granted already, or over).
    #[error("there is no such wait: it was granted, or has ended")]
    NoSuchWait,
    /// The queue of the lock is full.
    #[error("lock {name:?} has {limit} waiters: try again later")]
    TooManyWaiters {
        /// Which.
        name: String,
        /// The bound.
        limit: usize,
    },
    /// A second upgrade of the lock would wait for the first, and the first for it.
    #[error(
        "another holder of lock {name:?} is already waiting to upgrade, and each would wait for the other: release, then acquire exclusively"
    )]
    UpgradeDeadlock {
        /// Which.
        name: String,
    },
    /// The wait was part of a circle, and was chosen to break it.
    #[error(
        "the wait for lock {name:?} was given up to break a deadlock: {cycle}; release what you hold, then try again"
    )]
    Deadlock {
        /// The one it was waiting for.
        name: String,
        /// The circle in words.
        cycle: String,
    },
    /// The lock is in use as something else.
    #[error("{name:?} is in use as {present}: choose another name, or wait until it is free")]
    OtherUsage {
        /// Which.
        name: String,
        /// As what.
        present: Usage,
    },
    /// The owner holds another number of permits.
    #[error(
        "this owner holds permits of {name:?} already, and not so many: release them first, or use another owner"
    )]
    OtherPermits {
        /// Of which semaphore.
        name: String,
    },
    /// The owner holds it shared and asked for it exclusively.
    #[error("this owner holds lock {name:?} shared: use upgrade")]
    UpgradeRequired {
        /// Which.
        name: String,
    },
    /// The token is not that of a present grant to this session.
    #[error(
        "token {token} is not a current grant of lock {name:?} to this session: it was released or lost; nothing was changed"
    )]
    StaleToken {
        /// Which.
        name: String,
        /// What was shown.
        token: FencingToken,
    },
    /// Upgrade of a hold that is exclusive, or downgrade of one that is shared.
    #[error("lock {name:?} is held in mode {mode:?}: this operation needs the other mode")]
    WrongMode {
        /// Which.
        name: String,
        /// The present mode.
        mode: Mode,
    },
    /// Conversion of a hold that its owner has taken more than once: the others would not know of it.
    #[error(
        "this owner holds lock {name:?} {holds} times: a hold is upgraded or downgraded while it is held once; release the others first"
    )]
    HeldAgain {
        /// Which.
        name: String,
        /// How often, acquisitions under way among them.
        holds: u32,
    },
    /// The owner waits to upgrade its hold, and asked for the lock once more.
    #[error("this owner waits to upgrade lock {name:?}: take it again once that is answered")]
    UpgradePending {
        /// Which.
        name: String,
    },
    /// One owner holds the lock too often.
    #[error("this owner holds lock {name:?} {limit} times: release some first")]
    TooManyHolds {
        /// Which.
        name: String,
        /// The bound.
        limit: u32,
    },
    /// The command is outside its bounds. Nodes check before they propose, so this means that two
    /// versions disagree.
    #[error("the command is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: String,
    },
    /// The command is for another kind of shard.
    #[error("this shard does not serve such commands")]
    WrongShard,
    /// The tables have changed since the caller looked.
    #[error(
        "the cluster's tables are at revision {actual}, not {expected}: look again, then decide anew"
    )]
    OtherRevision {
        /// What the caller expected.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// There is no room in the registry.
    #[error("the cluster has {limit} nodes, which is the most: remove lost ones first")]
    TooManyNodes {
        /// The bound.
        limit: usize,
    },
    /// Without the node there would be fewer nodes than replicas of a shard.
    #[error(
        "without node {node} there are {left} active nodes, and each shard needs {needed}: add nodes first"
    )]
    TooFewNodes {
        /// Which.
        node: NodeId,
        /// How many active nodes would be left.
        left: usize,
        /// The replication factor.
        needed: usize,
    },
    /// Without the node a shard could decide nothing.
    #[error("shard {shard} has no majority without node {node}: bring other nodes back first")]
    NoMajorityWithout {
        /// Which node.
        node: NodeId,
        /// Which shard.
        shard: ShardId,
    },
    /// The node is to be removed and still holds something.
    #[error("node {node} still holds {replicas} replicas: drain it, and wait until it is empty")]
    NodeNotEmpty {
        /// Which.
        node: NodeId,
        /// How many.
        replicas: usize,
    },
    /// The node is to be removed, but new replicas could be placed on it.
    #[error("node {node} is active: drain it first")]
    NodeActive {
        /// Which.
        node: NodeId,
    },
    /// Another node has taken the node's name.
    #[error("node {node} was replaced by node {by} of the same name: it stays lost; remove it")]
    NodeReplaced {
        /// Which.
        node: NodeId,
        /// By which.
        by: NodeId,
    },
    /// The shard is to go on after another cluster's tokens, but is in use.
    #[error(
        "shard {shard} is in use: it has sessions, or has given tokens; restore into a new cluster that nobody uses yet"
    )]
    NotEmpty {
        /// Which.
        shard: ShardId,
    },
    /// The node is not in the registry.
    #[error("node {node} is not known to the cluster")]
    NoSuchNode {
        /// Which.
        node: NodeId,
    },
}
