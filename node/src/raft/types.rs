//! The types that Raft is instantiated with: what an entry carries, what applying it returns, how
//! a peer is named.
//!
//! Invariant: Raft never looks into a batch. A batch is encoded once, by the leader that proposes
//! it; replication, the log and every replica carry and checksum the very same bytes.

use std::fmt;

use bytes::Bytes;
use lockstep_model::Outcome;

use super::{responder::OnComplete, runtime::Runtime, snapshot_content::SnapshotContent};

/// The configuration of every Raft group of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

// Spelt out, because openraft's macro takes no responder that is generic.
impl openraft::RaftTypeConfig for TypeConfig {
    type D = BatchBytes;
    type R = Outcomes;
    type NodeId = u64;
    type Node = PeerAddress;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = OnComplete<T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}
/// Term and node of a leader. Several leaders may be tried in one term, so that a split vote is
/// settled without another round ("advanced" mode).
pub type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
/// A place in the log: the leader that proposed it, and its index.
pub type LogId = openraft::LogId<LeaderId>;
/// Whom a replica has voted for, and whether that one has won.
pub type Vote = openraft::Vote<LeaderId>;
/// What an entry carries.
pub type Payload = openraft::EntryPayload<BatchBytes, u64, PeerAddress>;
/// A log entry.
pub type Entry = openraft::Entry<LeaderId, Payload>;
/// Voters and learners of a group.
pub type Membership = openraft::Membership<u64, PeerAddress>;
/// A membership, with the place in the log where it was decided.
pub type StoredMembership = openraft::StoredMembership<LeaderId, u64, PeerAddress>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, PeerAddress>;
/// A snapshot: what it covers, and the encoded state machine.
pub type Snapshot = openraft::Snapshot<LeaderId, u64, PeerAddress, SnapshotContent>;
/// The first and last place in a log.
pub type LogState = openraft::LogState<TypeConfig>;
/// How Raft is told that an append is durable.
pub type IoFlushed = openraft::storage::IOFlushed<TypeConfig>;
/// A committed entry, with the one who waits for its outcome.
pub type EntryResponder = openraft::storage::EntryResponder<TypeConfig>;

/// An encoded [`lockstep_model::Batch`]. Cloning shares the bytes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct BatchBytes(pub Bytes);

impl fmt::Debug for BatchBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "batch of {} bytes", self.0.len())
    }
}

impl fmt::Display for BatchBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The outcomes of a batch's commands, in order. Empty for entries that carry no batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes(pub Vec<Outcome>);

/// Where a peer's Raft service listens, `host:port`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerAddress(pub String);

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
