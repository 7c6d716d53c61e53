//! Tests of the model through its public interface: properties against a naive model, the formats,
//! and one test for each rule that random histories seldom reach.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names the variants that it expects; any other fails it"
)]

#[cfg(test)]
mod arbitrary;
#[cfg(test)]
mod barriers;
#[cfg(test)]
mod chase;
mod conversions;
#[cfg(test)]
mod deadlocks;
#[cfg(test)]
mod format;
#[cfg(test)]
mod history;
#[cfg(test)]
mod locks;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod seed;
#[cfg(test)]
mod semaphores;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod succession;
#[cfg(test)]
mod world;
