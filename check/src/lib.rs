//! Model check: every order of events of small clusters, with the very code that serves.
//!
//! A [`Cluster`](cluster::Cluster) is a few shards ([`lockstep_model::Machine`]), the clients'
//! sessions, and what the nodes do around the shards: attaching sessions where they are used,
//! releasing ended ones everywhere, and looking for deadlocks. stateright explores all states that a
//! [`Scenario`](scenario::Scenario) can get into, and judges each by the [properties](property).
//!
//! What the check takes for granted: a shard's log. A command is applied once for each time that it
//! is delivered, to one state, and a new leader has all that was applied; Raft has its own tests.
//!
//! What the check leaves to chance, that is, explores in full:
//! - **The network** never forgets. A command that was sent can be applied at any later time, any
//!   number of times, or never. So messages are reordered, duplicated and lost without bound, and
//!   every repetition by a router, a client or the releasing side is among them.
//! - **Time** jumps, and the leaders' clocks differ by as much as is documented.
//! - **Sessions** expire at any moment; waits are cancelled at any moment.
//! - **Leaders** change. The new one restores the state from its bytes, a walk in search of
//!   deadlocks may be lost with the old one, and the deposed one goes on answering from what it knew.
//! - **Walks** begin at any moment, at two nodes at once; of their questions each is answered or
//!   times out on its own, and those of the first pass by a deposed leader too.
//!
//! Invariant: the harness judges by what clients were told and by its own view of who waits for
//! whom, not by the model's opinion of itself. [`Bug`](bug::Bug)s that are planted on purpose show
//! that it would notice.

pub mod action;
pub mod bug;
pub mod calm;
pub mod chaser;
pub mod client;
pub mod cluster;
pub mod memo;
pub mod message;
pub mod property;
pub mod replica;
pub mod run;
pub mod scenario;
pub mod truth;
pub mod witness;
