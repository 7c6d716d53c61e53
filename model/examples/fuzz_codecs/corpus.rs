//! The inputs to start from: valid encodings, and damaged ones that were decoded all the same.
//!
//! Invariant: bounded; a new input takes the place of a random old one.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{TestRng, TestRunner},
};

use crate::{
    arbitrary,
    check::Format,
    small_world::{SmallWorld, founded},
};

/// Inputs kept for each format.
const MAX_KEPT: usize = 512;
/// Longest input that is kept: short ones are damaged in more telling places.
const MAX_KEPT_BYTES: usize = 8 * 1024;
/// Most steps of the small world between two snapshots of it.
const MAX_STEPS: usize = 12;

/// The inputs of one thread.
pub(crate) struct Corpus {
    kept: [Vec<Vec<u8>>; Format::ALL.len()],
}

impl Corpus {
    pub(crate) fn new() -> Self {
        Self {
            kept: Default::default(),
        }
    }

    fn of(&self, format: Format) -> &[Vec<u8>] {
        self.kept.get(format as usize).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn is_empty(&self, format: Format) -> bool {
        self.of(format).is_empty()
    }

    /// A random one; none of a format that has none.
    pub(crate) fn draw(&self, format: Format, rng: &mut TestRng) -> &[u8] {
        let kept = self.of(format);
        let at = rng.random_range(0..kept.len().max(1));
        kept.get(at).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn keep(&mut self, format: Format, input: Vec<u8>, rng: &mut TestRng) {
        let Some(kept) = self.kept.get_mut(format as usize) else {
            return;
        };
        if input.len() > MAX_KEPT_BYTES {
            return;
        }
        if kept.len() < MAX_KEPT {
            kept.push(input);
        } else if let Some(old) = kept.get_mut(rng.random_range(0..MAX_KEPT)) {
            *old = input;
        }
    }
}

/// A valid encoding.
pub(crate) fn generate(
    format: Format,
    runner: &mut TestRunner,
    world: &mut SmallWorld,
    rng: &mut TestRng,
) -> Vec<u8> {
    match format {
        Format::Batch if rng.random() => world.batch(rng).encode(),
        Format::Batch => value(&arbitrary::batch(), runner)
            .map(|it| it.encode())
            .unwrap_or_default(),
        Format::Command => value(&arbitrary::command(), runner)
            .map(|it| it.encode())
            .unwrap_or_default(),
        Format::Reply => value(&arbitrary::reply(), runner)
            .map(|it| it.encode())
            .unwrap_or_default(),
        Format::Query => value(&arbitrary::query(), runner)
            .map(|it| it.encode())
            .unwrap_or_default(),
        Format::Answer => value(&arbitrary::answer(), runner)
            .map(|it| it.encode())
            .unwrap_or_default(),
        Format::Snapshot if rng.random_ratio(1, 8) => founded(rng).snapshot(),
        Format::Snapshot => {
            for _ in 0..rng.random_range(1..=MAX_STEPS) {
                world.step(rng);
            }
            world.machine().snapshot()
        }
    }
}

/// A value of a strategy; none if it refuses to give one, which none here does.
fn value<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> Option<S::Value> {
    let tree = strategy.new_tree(runner).ok()?;
    Some(tree.current())
}
