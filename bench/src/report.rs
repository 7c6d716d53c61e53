//! What a benchmark tells: a table for people, figures for comparison.
//!
//! Invariant: both show medians over the rounds of the same runs.

use lockstep_drill::figure::{Figures, Goal};

use crate::{
    bench::{Runs, ms},
    load::{Measured, Scenario},
};

/// A quantity of a run: what the table and the figures call it, and how it is found.
struct Quantity {
    /// The table's column.
    column: &'static str,
    /// The end of the figure's name.
    figure: &'static str,
    unit: &'static str,
    decimals: usize,
    of: fn(&Measured) -> f64,
}

const fn quantity(
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
        of,
    }
}

/// How fast: of distinct locks.
const PAIRS: [Quantity; 4] = [
    quantity("pairs/s", "pairs", "pairs/s", 0, Measured::pairs_per_second),
    quantity("p50 ms", "pair_p50", "ms", 2, |run| ms(&run.pairs, 0.5)),
    quantity("p99 ms", "pair_p99", "ms", 2, |run| ms(&run.pairs, 0.99)),
    quantity("p99.9 ms", "pair_p999", "ms", 2, |run| {
        ms(&run.pairs, 0.999)
    }),
];

/// How fast and how fair: of one lock that all want.
const HANDOVERS: [Quantity; 4] = [
    quantity(
        "hand-overs/s",
        "handovers",
        "handovers/s",
        0,
        Measured::pairs_per_second,
    ),
    quantity("wait p50 ms", "wait_p50", "ms", 2, |run| {
        ms(&run.waits, 0.5)
    }),
    quantity("wait p99 ms", "wait_p99", "ms", 2, |run| {
        ms(&run.waits, 0.99)
    }),
    quantity(
        "max/median",
        "wait_max_over_median",
        "ratio",
        2,
        Measured::unfairness,
    ),
];

/// At what cost: of both.
const COST: [Quantity; 7] = [
    quantity(
        "fsyncs/pair",
        "fsyncs_per_pair",
        "fsyncs",
        3,
        Measured::syncs_per_pair,
    ),
    quantity("ms/fsync", "fsync_mean", "ms", 2, Measured::sync_ms),
    quantity(
        "cmds/batch",
        "commands_per_batch",
        "commands",
        1,
        Measured::commands_per_batch,
    ),
    quantity(
        "entries/fsync",
        "entries_per_fsync",
        "entries",
        1,
        Measured::entries_per_sync,
    ),
    quantity(
        "node CPU",
        "server_cpu_per_1000_pairs",
        "s",
        3,
        Measured::server_seconds,
    ),
    quantity(
        "load CPU",
        "load_cpu_per_1000_pairs",
        "s",
        3,
        Measured::load_seconds,
    ),
    quantity(
        "other CPUs",
        "other_programs_cpus",
        "processors",
        2,
        Measured::disturbance,
    ),
];

/// What a figure should be.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// The figure's whole name.
    pub name: &'static str,
    /// The goal.
    pub goal: Goal,
}

fn quantities(scenario: Scenario) -> impl Iterator<Item = &'static Quantity> {
    let speed = match scenario {
        Scenario::Distinct(_) => &PAIRS,
        Scenario::Hot(_) => &HANDOVERS,
    };
    speed.iter().chain(&COST)
}

/// Adds the figures of some runs: `PEER_CLIENTS_QUANTITY` for distinct locks,
/// `PEER_hot_CLIENTS_QUANTITY` for the hot one.
pub fn add_figures(figures: &mut Figures, all: &[Runs], agreed: &[Agreed]) {
    for runs in all {
        let prefix = match runs.scenario {
            Scenario::Distinct(clients) => format!("{}_{clients}", runs.peer),
            Scenario::Hot(clients) => format!("{}_hot_{clients}", runs.peer),
        };
        for quantity in quantities(runs.scenario) {
            let name = format!("{prefix}_{}", quantity.figure);
            let value = runs.median(quantity.of);
            match agreed.iter().find(|agreed| agreed.name == name) {
                Some(agreed) => figures.judge(&name, value, quantity.unit, agreed.goal),
                None => figures.note(&name, value, quantity.unit),
            }
        }
    }
}

/// The table: distinct locks, then hot ones.
#[must_use]
pub fn table(all: &[Runs]) -> String {
    let (distinct, hot): (Vec<&Runs>, Vec<&Runs>) = all
        .iter()
        .partition(|runs| matches!(runs.scenario, Scenario::Distinct(_)));
    let mut text = String::new();
    for (title, part) in [("distinct locks", distinct), ("one hot lock", hot)] {
        text.push_str(&part_of_table(title, &part));
    }
    text
}

fn part_of_table(title: &str, part: &[&Runs]) -> String {
    let Some(first) = part.first() else {
        return String::new();
    };
    let mut rows = vec![
        [title, "clients"]
            .into_iter()
            .chain(quantities(first.scenario).map(|quantity| quantity.column))
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    ];
    for runs in part {
        let mut row = vec![runs.peer.to_owned(), runs.scenario.clients().to_string()];
        row.extend(quantities(runs.scenario).map(|quantity| {
            let decimals = quantity.decimals;
            format!("{:.decimals$}", runs.median(quantity.of))
        }));
        rows.push(row);
    }
    aligned(&rows)
}

/// Columns as wide as their widest cell: the first to the left, all others to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(String::len).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).enumerate();
        let line = cells.map(|(column, (cell, width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        text.push_str(line.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

/// One run in one line, for those who wait for the others.
#[must_use]
pub fn progress(round: usize, peer: &str, scenario: Scenario, run: &Measured) -> String {
    let what = match scenario {
        Scenario::Distinct(clients) => format!("{clients} clients, distinct locks"),
        Scenario::Hot(clients) => format!("{clients} clients, one lock"),
    };
    format!(
        "round {round}: {peer}, {what}: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, CPU {:.3} + {:.3} s for \
         1,000; other programs kept {:.2} processors busy",
        run.pairs_per_second(),
        ms(&run.pairs, 0.5),
        ms(&run.pairs, 0.99),
        run.server_seconds(),
        run.load_seconds(),
        run.disturbance(),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{counters::Counters, load::Times, usage::Usage};

    fn run(pairs: u64, each: Duration) -> Measured {
        let mut times = Times::new_with_bounds(1_000, 60_000_000_000, 3).unwrap();
        times.record_n(each.as_nanos() as u64, pairs).unwrap();
        Measured {
            seconds: 2.0,
            pairs: times.clone(),
            waits: times,
            usage: Usage {
                servers: 1.0,
                load: 0.5,
                machine: 2.5,
            },
            counters: Counters {
                syncs: 100.0,
                sync_seconds: 0.2,
                entries: 400.0,
                batches: 50.0,
                commands: 200.0,
            },
        }
    }

    fn runs() -> Vec<Runs> {
        let slow = run(100, Duration::from_millis(8));
        let usual = run(1_000, Duration::from_millis(2));
        let fast = run(4_000, Duration::from_millis(1));
        vec![Runs {
            peer: "lockstep",
            scenario: Scenario::Distinct(1),
            runs: vec![fast, slow, usual],
        }]
    }

    #[test]
    fn figures_are_medians_over_the_rounds() {
        let mut figures = Figures::new("locks");
        let agreed = Agreed {
            name: "lockstep_1_pair_p50",
            goal: Goal::at_most(1.5),
        };
        add_figures(&mut figures, &runs(), &[agreed]);
        let lines: Vec<String> = figures.all().iter().map(ToString::to_string).collect();
        assert_eq!(lines[0], "figure lockstep_1_pairs 500 pairs/s");
        let p50 = &lines[1];
        assert!(
            p50.starts_with("figure lockstep_1_pair_p50 2") && p50.ends_with("goal <= 1.5 short"),
            "{p50}"
        );
        assert!(lines.contains(&"figure lockstep_1_fsyncs_per_pair 0.1 fsyncs".to_owned()));
        assert!(lines.contains(&"figure lockstep_1_commands_per_batch 4 commands".to_owned()));
        assert!(lines.contains(&"figure lockstep_1_other_programs_cpus 0.5 processors".to_owned()));
    }

    #[test]
    fn the_table_has_a_line_for_each_scenario_of_each_peer() {
        let table = table(&runs());
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].starts_with("distinct locks  clients  pairs/s"),
            "{table}"
        );
        assert!(
            lines[1].starts_with("lockstep              1      500"),
            "{table}"
        );
    }
}
