//! What a benchmark tells: a table for people, figures for comparison.
//!
//! Invariant: both show medians over the rounds of the same runs. A ratio is one of such medians,
//! and says how many times as much the first peer has as the second.

use lockstep_drill::figure::{Figures, Goal};

use crate::{
    bench::{Book, Runs, ms},
    load::Measured,
    quantity::{self, Quantity},
    scenario::Scenario,
};

/// What a figure should be.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// The figure's whole name.
    pub name: &'static str,
    /// The goal.
    pub goal: Goal,
}

/// Which peer is compared with which.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    /// Whose numbers are divided.
    pub peer: &'static str,
    /// By whose.
    pub over: &'static str,
}

impl Comparison {
    /// How many times as much the one has as the other; not a number where one was not measured.
    fn ratio(self, book: &Book, scenario: Scenario, quantity: &Quantity) -> f64 {
        let median = |peer| {
            let runs = book.of(peer, scenario);
            runs.map_or(f64::NAN, |runs| runs.median(quantity.of))
        };
        median(self.peer) / median(self.over)
    }
}

/// Adds the figures of all runs, `PEER_SCENARIO_QUANTITY`, and after them those of the comparison,
/// `PEER_SCENARIO_QUANTITY_over_PEER`. What was not measured has no figure.
pub fn add_figures(figures: &mut Figures, book: &Book, comparison: Comparison, agreed: &[Agreed]) {
    for runs in book.all() {
        for quantity in quantity::of(runs.scenario) {
            let name = figure_name(runs.peer, runs.scenario, quantity);
            let value = runs.median(quantity.of);
            add(figures, &name, value, quantity.unit, agreed);
        }
    }
    let compared = book
        .all()
        .iter()
        .filter(|runs| runs.peer == comparison.peer);
    for runs in compared {
        for quantity in quantity::of(runs.scenario).filter(|quantity| quantity.compared) {
            let name = figure_name(runs.peer, runs.scenario, quantity);
            let name = format!("{name}_over_{}", comparison.over);
            let value = comparison.ratio(book, runs.scenario, quantity);
            add(figures, &name, value, "ratio", agreed);
        }
    }
}

fn figure_name(peer: &str, scenario: Scenario, quantity: &Quantity) -> String {
    format!("{peer}_{}_{}", scenario.figure_prefix(), quantity.figure)
}

/// Adds one figure, if it was measured.
pub fn add(figures: &mut Figures, name: &str, value: f64, unit: &str, agreed: &[Agreed]) {
    if value.is_nan() {
        return;
    }
    match agreed.iter().find(|agreed| agreed.name == name) {
        Some(agreed) => figures.judge(name, value, unit, agreed.goal),
        None => figures.note(name, value, unit),
    }
}

/// The table: a part for each kind of scenario. Each scenario has a line for each peer, and one for
/// the ratio where both were measured.
#[must_use]
pub fn table(book: &Book, comparison: Comparison) -> String {
    let scenarios = once_each(book.all().iter().map(|runs| runs.scenario));
    let titles = once_each(scenarios.iter().map(|scenario| scenario.title()));
    let parts = titles.into_iter().map(|title| {
        let of_title = scenarios
            .iter()
            .filter(|scenario| scenario.title() == title);
        let rows = of_title.enumerate().flat_map(|(at, scenario)| {
            let header = (at == 0).then(|| header_row(*scenario));
            header.into_iter().chain(rows(book, comparison, *scenario))
        });
        aligned(&rows.collect::<Vec<_>>())
    });
    parts.collect::<Vec<_>>().join("\n")
}

/// In the order of their first places.
fn once_each<T: PartialEq>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut once = Vec::new();
    for one in all {
        if !once.contains(&one) {
            once.push(one);
        }
    }
    once
}

fn header_row(scenario: Scenario) -> Vec<String> {
    let columns = quantity::of(scenario).map(|quantity| quantity.column);
    let header = [scenario.title(), "clients"].into_iter().chain(columns);
    header.map(str::to_owned).collect()
}

fn rows(book: &Book, comparison: Comparison, scenario: Scenario) -> Vec<Vec<String>> {
    let peers = [comparison.over, comparison.peer];
    let both = peers.map(|peer| book.of(peer, scenario));
    let mut rows: Vec<_> = both.into_iter().flatten().map(row).collect();
    if rows.len() == both.len() {
        rows.push(ratio_row(book, comparison, scenario));
    }
    rows
}

fn row(runs: &Runs) -> Vec<String> {
    let mut row = vec![runs.peer.to_owned(), runs.scenario.clients().to_string()];
    row.extend(quantity::of(runs.scenario).map(|quantity| {
        let value = runs.median(quantity.of);
        cell(value, quantity.decimals)
    }));
    row
}

fn ratio_row(book: &Book, comparison: Comparison, scenario: Scenario) -> Vec<String> {
    let mut row = vec![
        format!("  {} / {}", comparison.peer, comparison.over),
        String::new(),
    ];
    row.extend(quantity::of(scenario).map(|quantity| {
        if quantity.compared {
            cell(comparison.ratio(book, scenario, quantity), 2)
        } else {
            String::new()
        }
    }));
    row
}

fn cell(value: f64, decimals: usize) -> String {
    if value.is_nan() {
        "-".to_owned()
    } else {
        format!("{value:.decimals$}")
    }
}

/// Columns as wide as their widest cell: the first to the left, all others to the right.
#[must_use]
pub fn aligned(rows: &[Vec<String>]) -> String {
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
    format!(
        "round {round}: {peer:<8} {:<13} {:>6.0} pairs/s, p50 {:.2} ms, p99 {:.2} ms, CPU {:.3} + {:.3} s \
         for 1,000; other programs kept {:.2} processors busy",
        scenario.to_string(),
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

    const COMPARISON: Comparison = Comparison {
        peer: "lockstep",
        over: "etcd",
    };

    fn run(pairs: u64, each: Duration, batches: f64) -> Measured {
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
                batches,
                commands: 200.0,
            },
        }
    }

    fn book() -> Book {
        let mut book = Book::default();
        let one = Scenario::Distinct(1);
        for (pairs, each) in [(4_000, 1), (100, 8), (1_000, 2)] {
            let each = Duration::from_millis(each);
            book.record("lockstep", one, run(pairs, each, 50.0));
        }
        for (pairs, each) in [(500, 4), (200, 5), (1, 3)] {
            let each = Duration::from_millis(each);
            book.record("etcd", one, run(pairs, each, f64::NAN));
        }
        book
    }

    fn lines(agreed: &[Agreed]) -> Vec<String> {
        let mut figures = Figures::new("locks");
        add_figures(&mut figures, &book(), COMPARISON, agreed);
        figures.all().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn figures_are_medians_over_the_rounds() {
        let lines = lines(&[Agreed {
            name: "lockstep_1_pair_p50",
            goal: Goal::at_most(1.5),
        }]);
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
    fn ratios_are_those_of_the_medians_and_can_have_goals() {
        let lines = lines(&[Agreed {
            name: "lockstep_1_pairs_over_etcd",
            goal: Goal::at_least(8.0),
        }]);
        let ratio = "figure lockstep_1_pairs_over_etcd 5 ratio goal >= 8 short".to_owned();
        assert!(lines.contains(&ratio), "{lines:?}");
    }

    #[test]
    fn what_a_peer_does_not_count_has_no_figure() {
        let uncounted = lines(&[])
            .into_iter()
            .find(|line| line.contains("etcd_1_commands_per_batch"));
        assert_eq!(uncounted, None);
    }

    #[test]
    fn the_table_sets_peers_side_by_side() {
        let table = table(&book(), COMPARISON);
        let lines: Vec<&str> = table.lines().collect();
        let starts = [
            "distinct locks     clients  pairs/s",
            "etcd                     1      100",
            "lockstep                 1      500",
            "  lockstep / etcd              5.00",
        ];
        assert_eq!(lines.len(), starts.len(), "{table}");
        for (line, start) in lines.iter().zip(starts) {
            assert!(line.starts_with(start), "{table}");
        }
        let etcd = lines[1].split_whitespace().collect::<Vec<_>>();
        assert_eq!(etcd[10], "-", "{table}");
    }
}
