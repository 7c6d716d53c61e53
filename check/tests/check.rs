//! The check within small bounds, and what it finds where something was planted.

use std::collections::BTreeSet;

use lockstep_check::{
    run::{check, counterexample},
    scenario::Scenario,
};

#[test]
fn all_properties_hold_within_small_bounds() {
    for scenario in Scenario::small() {
        let report = check(&scenario);
        let broken: Vec<_> = report.broken().collect();
        assert!(broken.is_empty(), "{}: {broken:#?}", scenario.name);
        println!(
            "{}: {} states, {} unique, {:.1?}",
            scenario.name, report.states, report.unique, report.time
        );
    }
}

#[test]
fn every_planted_bug_is_found_by_the_property_that_it_breaks() {
    let mut properties = BTreeSet::new();
    for scenario in Scenario::planted() {
        let bug = scenario.bug.expect("a planted bug");
        let path = counterexample(&scenario, bug.breaks());
        let path = path.unwrap_or_else(|| panic!("{bug:?} in {}: not found", scenario.name));
        println!("{bug:?} in {}: {} steps", scenario.name, path.len());
        properties.insert(bug.breaks());
    }
    assert!(properties.len() > 5, "few properties are broken by any bug");
}
