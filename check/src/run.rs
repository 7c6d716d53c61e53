//! Checking a scenario, and what came of it.

use std::time::{Duration, Instant};

use stateright::{Checker as _, Expectation, HasDiscoveries, Model as _};

use crate::{action::Action, scenario::Scenario};

/// What came of a check.
#[derive(Clone, Debug)]
pub struct Report {
    /// States that were reached, each as often as it was.
    pub states: usize,
    /// States that differ.
    pub unique: usize,
    /// The longest of the shortest paths to them, in states.
    pub depth: usize,
    /// How long it took.
    pub time: Duration,
    /// What was judged.
    pub verdicts: Vec<Verdict>,
}

/// What was found of a property.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The property.
    pub property: &'static str,
    /// True if it has to hold in every state, false if it has to in some.
    pub is_invariant: bool,
    /// A way to a state that breaks an invariant, or is an example.
    pub path: Option<Vec<Action>>,
}

impl Verdict {
    /// True if it is as it should be.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.is_invariant != self.path.is_some()
    }
}

impl Report {
    /// What is not as it should be.
    pub fn broken(&self) -> impl Iterator<Item = &Verdict> {
        self.verdicts.iter().filter(|verdict| !verdict.holds())
    }

    /// How many invariants held, and how many events were seen.
    #[must_use]
    pub fn kept(&self) -> (usize, usize) {
        let held = self.verdicts.iter().filter(|verdict| verdict.holds());
        let (invariants, events): (Vec<_>, Vec<_>) = held.partition(|kept| kept.is_invariant);
        (invariants.len(), events.len())
    }
}

/// Explores all states of a scenario, or as many as it takes to see an invariant broken.
///
/// One thread, breadth first: the same states in the same order every time.
#[must_use]
pub fn check(scenario: &Scenario) -> Report {
    explore(scenario, &HasDiscoveries::AnyFailures, None)
}

/// The shortest way to a state that breaks an invariant, if there is one.
#[must_use]
pub fn counterexample(scenario: &Scenario, property: &'static str) -> Option<Vec<Action>> {
    let mut shortest = None;
    let mut bound = None;
    let broken = HasDiscoveries::AllOf([property].into());
    // What the checker reports first is only nearly the shortest: it looks at states by the block.
    loop {
        let report = explore(scenario, &broken, bound);
        let mut verdicts = report.verdicts.into_iter();
        let verdict = verdicts.find(|verdict| verdict.property == property);
        let Some(path) = verdict.and_then(|verdict| verdict.path) else {
            return shortest;
        };
        // The first state has depth 1, and those at the bound are not looked at any more.
        bound = Some(path.len() + 1);
        shortest = Some(path);
    }
}

fn explore(scenario: &Scenario, until: &HasDiscoveries, max_depth: Option<usize>) -> Report {
    let begun = Instant::now();
    let checker = scenario.clone().checker().finish_when(until.clone());
    let checker = match max_depth {
        Some(depth) => checker.target_max_depth(depth),
        None => checker,
    };
    let checker = checker.spawn_bfs().join();
    let mut found = checker.discoveries();
    let verdicts = scenario.properties().into_iter().map(|property| Verdict {
        property: property.name,
        is_invariant: match property.expectation {
            Expectation::Always => true,
            Expectation::Sometimes | Expectation::Eventually => false,
        },
        path: found.remove(property.name).map(|path| path.into_actions()),
    });
    Report {
        verdicts: verdicts.collect(),
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        time: begun.elapsed(),
    }
}
