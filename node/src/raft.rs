//! openraft and its surroundings: types, messages, network, the peer service.
//!
//! Invariant: outside this folder, `replica`, `storage`, `custody` and what reads a group's state, nothing names
//! openraft.

pub mod append_stream;
pub mod config;
pub mod log_floor;
pub mod network;
pub mod responder;
pub mod runtime;
pub mod server;
pub mod snapshot_content;
pub mod snapshot_pace;
pub mod snapshot_partial;
pub mod snapshot_receive;
pub mod snapshot_send;
pub mod together;
pub mod types;
pub mod wire;

pub use config::MAX_PAYLOAD_ENTRIES;
