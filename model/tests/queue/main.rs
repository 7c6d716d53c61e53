//! Tests of the queues through their public interface: random histories against a naive model, and one
//! test for each rule that was once a hole on paper.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names the variants that it expects; any other fails it"
)]

#[cfg(test)]
mod history;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod rules;
#[cfg(test)]
#[path = "../suite/seed.rs"]
mod seed;
