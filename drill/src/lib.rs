//! Runs real Lockstep nodes as processes, breaks them on purpose, and judges what clients saw.
//!
//! - [`cluster`]: starts, kills, pauses, wipes and asks nodes; [`link`]: cuts what lies between them.
//! - [`history`]: what clients did and saw; [`checker`]: whether that was allowed; [`resource`]: what
//!   their locks guard.
//! - [`load`]: clients that lock and unlock; [`drill`]: faults under load, with a verdict.
//! - [`figure`]: how every drill and benchmark ends; [`demo`]: the walk that `make run` shows.
//!
//! Invariant: nothing here is linked into a node or a client: what is tested is what is shipped.

pub mod checker;
pub mod cluster;
pub mod console;
pub mod demo;
pub mod drill;
pub mod figure;
pub mod history;
pub mod link;
pub mod load;
pub mod poll;
pub mod resource;
