//! Measures lock services on real processes of this machine, side by side.
//!
//! - [`peer`]: what is measured; [`load`]: how, in a closed loop; [`bench`]: in which order and how
//!   often.
//! - [`usage`] and [`counters`]: what it cost, as the system and the servers themselves count it.
//! - [`report`]: what is printed and kept.
//!
//! Invariant: every peer gets the same load from the same code, in a process of its own that is
//! none of the servers; and what a figure was made of is kept beside it.

pub mod bench;
pub mod counters;
pub mod load;
pub mod peer;
pub mod report;
pub mod usage;
