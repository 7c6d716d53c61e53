//! The lock service: what locks are, who holds them, who waits, and how circles of waits are broken.

pub mod change;
pub mod command;
pub mod deadlock;
pub mod lock;
pub mod mode;
pub mod query;
pub mod reply;
