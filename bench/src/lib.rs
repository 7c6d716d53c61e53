//! Measures lock services on real processes of this machine, side by side.
//!
//! - [`peer`]: what is measured; [`scenario`]: what its clients want; [`load`]: how they ask for it,
//!   in a closed loop; [`mod@bench`]: in which order and how often.
//! - [`herd`]: what it costs to release one lock that ten thousand wait for.
//! - [`usage`] and [`counters`]: what it cost, as the system and the servers themselves count it.
//! - [`quantity`]: what is told of a run; [`report`]: the table and the figures; [`picture`].
//!
//! Invariant: every peer gets the same load from the same code, in a process of its own that is
//! none of the servers; and what a figure was made of is kept beside it.

pub mod bench;
pub mod counters;
pub mod herd;
pub mod load;
pub mod peer;
pub mod picture;
pub mod quantity;
pub mod report;
pub mod scenario;
pub mod usage;
