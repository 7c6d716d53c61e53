//! The Kubernetes operator of Lockstep: keeps clusters as their `SyncCluster` says.
//!
//! Invariant: what is decided is decided by functions without a client (`cluster/{validate,plan,build}`);
//! the rest reads, writes and says when.

pub mod cluster;
pub mod context;
pub mod controller;
pub mod crd;
pub mod health;
pub mod http;
pub mod lease;
pub mod members;
pub mod metrics;
pub mod run;
pub mod sentinel;
pub mod telemetry;
