//! What is told of a run, and how it is found.
//!
//! Invariant: table, figures and picture take their numbers from here, so that they say the same.

use crate::{bench::ms, load::Measured, scenario::Scenario};

/// A quantity of a run.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    /// The table's column.
    pub column: &'static str,
    /// The end of the figure's name.
    pub figure: &'static str,
    /// Its unit, in figures.
    pub unit: &'static str,
    /// Decimals in the table.
    pub decimals: usize,
    /// Whether peers are compared by it.
    pub compared: bool,
    /// What it is. Not a number where the peer does not count it.
    pub of: fn(&Measured) -> f64,
}

/// By which peers are compared.
const fn compared(
    column: &'static str,
    figure: &'static str,
    unit: &'static str,
    decimals: usize,
    of: fn(&Measured) -> f64,
) -> Quantity {
    Quantity {
        column,
        figure,
        unit,
        decimals,
        compared: true,
        of,
    }
}

/// Which explains others.
const fn detail(
    column: &'static str,
    figure: &'static str,
    unit: &'static str,
    decimals: usize,
    of: fn(&Measured) -> f64,
) -> Quantity {
    Quantity {
        compared: false,
        ..compared(column, figure, unit, decimals, of)
    }
}

/// How fast.
pub const PAIRS: Quantity = compared("pairs/s", "pairs", "pairs/s", 0, Measured::pairs_per_second);
/// The same of a lock that goes from hand to hand.
pub const HANDOVERS: Quantity = compared(
    "hand-overs/s",
    "handovers",
    "handovers/s",
    0,
    Measured::pairs_per_second,
);
/// Half of the pairs take at most so long.
pub const PAIR_P50: Quantity = compared("p50 ms", "pair_p50", "ms", 2, |run| ms(&run.pairs, 0.5));
/// 99 of 100 do.
pub const PAIR_P99: Quantity = compared("p99 ms", "pair_p99", "ms", 2, |run| ms(&run.pairs, 0.99));
/// 999 of 1,000 do.
pub const PAIR_P999: Quantity = compared("p99.9 ms", "pair_p999", "ms", 2, |run| {
    ms(&run.pairs, 0.999)
});
/// Half of the locks are waited for at most so long.
pub const WAIT_P50: Quantity = compared("wait p50 ms", "wait_p50", "ms", 2, |run| {
    ms(&run.waits, 0.5)
});
/// 99 of 100 are.
pub const WAIT_P99: Quantity = compared("wait p99 ms", "wait_p99", "ms", 2, |run| {
    ms(&run.waits, 0.99)
});
/// How unevenly clients wait.
const UNFAIRNESS: Quantity = compared(
    "max/median",
    "wait_max_over_median",
    "ratio",
    2,
    Measured::unfairness,
);

/// Of distinct locks.
const DISTINCT: [Quantity; 4] = [PAIRS, PAIR_P50, PAIR_P99, PAIR_P999];
/// Of one lock that all want.
const HOT: [Quantity; 4] = [HANDOVERS, WAIT_P50, WAIT_P99, UNFAIRNESS];
/// Of one lock that some only read.
const READERS_WRITERS: [Quantity; 4] = [PAIRS, WAIT_P50, WAIT_P99, UNFAIRNESS];

/// At what cost: of all.
const COST: [Quantity; 7] = [
    compared(
        "node CPU",
        "server_cpu_per_1000_pairs",
        "s",
        3,
        Measured::server_seconds,
    ),
    compared(
        "load CPU",
        "load_cpu_per_1000_pairs",
        "s",
        3,
        Measured::load_seconds,
    ),
    detail(
        "fsyncs/pair",
        "fsyncs_per_pair",
        "fsyncs",
        3,
        Measured::syncs_per_pair,
    ),
    detail("ms/fsync", "fsync_mean", "ms", 2, Measured::sync_ms),
    detail(
        "cmds/batch",
        "commands_per_batch",
        "commands",
        1,
        Measured::commands_per_batch,
    ),
    detail(
        "entries/fsync",
        "entries_per_fsync",
        "entries",
        1,
        Measured::entries_per_sync,
    ),
    detail(
        "other CPUs",
        "other_programs_cpus",
        "processors",
        2,
        Measured::disturbance,
    ),
];

/// All that is told of a scenario's runs.
pub fn of(scenario: Scenario) -> impl Iterator<Item = &'static Quantity> {
    let speed = match scenario {
        Scenario::Distinct(_) => &DISTINCT,
        Scenario::Hot(_) => &HOT,
        Scenario::ReadersWriters(_) => &READERS_WRITERS,
    };
    speed.iter().chain(&COST)
}
