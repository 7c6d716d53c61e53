//! The Lockstep server.
//!
//! A request comes in at `api`, is routed to its shard's leader by `router`, is put into the log
//! by `replica`, stored by `storage`, replicated by `raft`, and applied by `lockstep_model`.
//! Invariant: nothing decides about locks or sessions but the model; nothing changes it but the log.

pub mod api;
pub mod boot_time;
pub mod clock;
pub mod config;
pub mod crash;
pub mod directory;
pub mod entry;
pub mod execute;
pub mod follow;
pub mod formation;
pub mod http;
pub mod identity;
pub mod locks;
pub mod log_filter;
pub mod metrics;
pub mod node;
pub mod peer;
pub mod placement;
pub mod raft;
pub mod recover;
pub mod replica;
pub mod replica_host;
pub mod request;
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "a command has its kinds of reply; every other one is a peer's mistake"
)]
pub mod router;
pub mod shard_state;
pub mod signals;
pub mod status;
pub mod storage;
pub mod throttle;
pub mod transport;
pub mod watch;

/// The version of this server.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
