//! The lock service of a node: what it says to clients, and the search for deadlocks that span shards.
//!
//! `service` is the gRPC service, `operation` what the session's stream asks of locks, `convert` the one
//! place where wire types become the model's and back.

pub mod acquire;
pub mod chase;
pub mod convert;
pub mod detached;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a command has its kinds of reply; every other one is a peer's mistake"
)]
pub mod operation;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a command has its kinds of reply; every other one is a peer's mistake"
)]
pub mod service;
pub mod watch;
