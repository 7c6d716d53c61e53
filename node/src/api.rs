//! The client services: decode, validate, route, encode. No state, no decisions.
//!
//! Invariant: nothing that a client sends reaches the log unchecked, and every refusal carries a
//! code, a stable reason and words that say what to do.

pub mod backup;
pub mod cluster;
pub mod error;
pub mod everywhere;
pub mod layer;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a command has its kinds of reply; every other one is a peer's mistake"
)]
pub mod nodes;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a command has its kinds of reply; every other one is a peer's mistake"
)]
pub mod stream;
