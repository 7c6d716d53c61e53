//! The client services: decode, validate, route, encode. No state, no decisions.
//!
//! Invariant: nothing that a client sends reaches the log unchecked, and every refusal carries a
//! code, a stable reason and words that say what to do.

pub mod acquire;
pub mod cluster;
pub mod convert;
pub mod error;
pub mod layer;
pub mod lock;
pub mod operation;
pub mod stream;
