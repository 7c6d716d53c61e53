//! Random cases that can be repeated: every run tells its seed, and `LOCKSTEP_SEED` sets it.

use std::{
    env,
    hash::{BuildHasher, RandomState},
};

use proptest::{
    strategy::Strategy,
    test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner},
};

/// Checks a property on `cases` random values.
pub(crate) fn check<S: Strategy>(
    cases: u32,
    strategy: &S,
    property: impl Fn(S::Value) -> TestCaseResult,
) {
    let seed = match env::var("LOCKSTEP_SEED") {
        Ok(seed) => seed.parse().expect("LOCKSTEP_SEED must be a number"),
        Err(_) => RandomState::new().hash_one("seed"),
    };
    println!("LOCKSTEP_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    if let Err(failure) = TestRunner::new_with_rng(config, rng).run(strategy, property) {
        panic!("LOCKSTEP_SEED={seed}\n{failure}");
    }
}
